#!/bin/sh
# Writes the lock files. requirements.lock is pyproject.toml resolved with all extras;
# requirements-service.lock is what the service needs of it, with traces; requirements-setup.lock has the
# installer and the builder of the wheel; requirements-tools.lock has the tools of `make audit`,
# `make fuzz`, `make dist` and `make check-deploy`; requirements-clients.lock has clients under test that
# cannot share the service's packages. Each package.json becomes its package-lock.json. None of them
# names a host.
set -eu

compile() {
    .venv/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header "$@"
}

compile --extra dev -o requirements.lock pyproject.toml
compile --extra otel --no-annotate -c requirements.lock -o requirements-service.lock pyproject.toml
printf 'uv\nhatchling\n' | compile --no-annotate -c requirements.lock -o requirements-setup.lock -
compile --no-annotate -o requirements-tools.lock - <<END
atheris < 3.1 ; python_version < "3.12" and sys_platform == "linux"
atheris >= 3.1 ; python_version >= "3.12" and sys_platform == "linux"
cyclonedx-bom
kubernetes-validate
pip-audit
END
compile --no-annotate -o requirements-clients.lock - <<END
langchain-openai
openai-agents
END

for folder in web tests/browser tests/dialects tests/openid; do
    (cd "$folder" && npm update --silent --no-audit --no-fund --package-lock-only \
        --omit-lockfile-registry-resolved)
    node tools/plain-lock.mjs "$folder/package-lock.json"
done
