#!/bin/sh
# Installs the packages of a folder's package-lock.json, showing what it does. Called by make.
set -eu

folder=$1
what=$2

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v npm >/dev/null 2>&1 ||
    fail "npm was not found. Install Node.js 20 or newer; it builds the chat page and tests it."
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    fail "Node.js $(node --version) is too old. Install Node.js 20 or newer."

printf 'setup: installing %s\n' "$what"
cd "$folder"
npm ci --silent --no-audit --no-fund ||
    fail "The packages of $folder could not be installed. Is the package registry reachable, and is there space on the disk?"
touch node_modules/.ready
