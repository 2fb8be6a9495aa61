#!/bin/sh
# Resolves pyproject.toml into requirements.lock, the installer into requirements-setup.lock, the
# tools of `make audit` and `make fuzz` into requirements-tools.lock, clients under test that cannot
# share the service's packages into requirements-clients.lock, and each package.json into its
# package-lock.json. None of them names a host.
set -eu

compile() {
    .venv/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header "$@"
}

compile --extra dev -o requirements.lock pyproject.toml
echo uv | compile --no-annotate -o requirements-setup.lock -
compile --no-annotate -o requirements-tools.lock - <<END
atheris < 3.1 ; python_version < "3.12" and sys_platform == "linux"
atheris >= 3.1 ; python_version >= "3.12" and sys_platform == "linux"
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
