#!/bin/sh
# Runs a make target on each Python named: `sh tools/matrix.sh "3.11 3.12" test`. A version is looked
# for on the path and then in pyenv; each has a virtual environment of its own (.venv-3.12).
set -eu

versions=$1
shift

# A shim of pyenv is on the path also where it leads to no Python.
python_of() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c 'pass' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    printf 'matrix: Python %s was not found on the path or in pyenv\n' "$1" >&2
    return 1
}

for version in $versions; do
    python=$(python_of "$version")
    printf 'matrix: %s\n' "$("$python" -V)"
    "${MAKE:-make}" --no-print-directory PYTHON="$python" VENV=".venv-$version" "$@"
done
