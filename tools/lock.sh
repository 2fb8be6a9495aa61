#!/bin/sh
# Resolves pyproject.toml into requirements.lock, and the installer into requirements-setup.lock.
# Neither names a package index.
set -eu

compile() {
    .venv/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header "$@"
}

compile --extra dev -o requirements.lock pyproject.toml
echo uv | compile --no-annotate -o requirements-setup.lock -
