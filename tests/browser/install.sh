#!/bin/sh
# Brings what the tests of pages need: Chromium from the distribution; from npm the scripts of DVC's page, and what runs
# the model in that of `make page`.
set -eu
cd "$(dirname "$0")"

missing=
command -v chromium >/dev/null || missing="chromium fonts-dejavu-core"
command -v npm >/dev/null || missing="$missing npm"
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install.sh: install $missing with your system's package manager, then run this again" >&2
    exit 1
  fi
  apt-get update -q
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
npm ci --no-audit --no-fund
cd ../../page
npm ci --no-audit --no-fund --ignore-scripts
