#!/bin/sh
# Writes a release into dist/: the wheel, which carries the page, the source distribution, and what
# they consist of as CycloneDX, once for the Python packages of the service and once for the page.
# Called by make, which has built the page.
set -eu

version=$(.venv/bin/python -m hatchling metadata version)
name=samosachaat_chat_api-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf dist
.venv/bin/python -m hatchling build -d dist >/dev/null

# The packages are read off an environment in which the wheel is installed as a server would have it.
.venv/bin/python -m venv --without-pip "$work/service"
.venv/bin/python -m uv pip install --quiet --python "$work/service" --no-deps --require-hashes \
    --only-binary :all: -r requirements-service.lock
.venv/bin/python -m uv pip install --quiet --python "$work/service" --no-deps "dist/$name-py3-none-any.whl"
.venv-tools/bin/cyclonedx-py environment "$work/service/bin/python" --pyproject pyproject.toml \
    --output-reproducible --output-format JSON --output-file "dist/$name.cdx.json"

# npm wants a version of the page, which has none of its own.
mkdir "$work/samosachaat-web"
cp web/package.json web/package-lock.json "$work/samosachaat-web"
(
    cd "$work/samosachaat-web"
    npm pkg set version="$version"
    npm sbom --sbom-format cyclonedx --sbom-type application --omit dev --package-lock-only
) >"dist/$name-page.cdx.json"

printf 'dist: %s\n' dist/*
