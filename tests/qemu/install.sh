#!/bin/sh
# Brings what tests/pipeline/test_processors.py needs: an emulator of other x86-64 processors, QEMU 7.2 or later.
set -eu

[ "$(uname -sm)" = "Linux x86_64" ] || exit 0  # they are skipped elsewhere
if ! command -v qemu-x86_64 >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install.sh: install qemu-user with your system's package manager, then run this again" >&2
    exit 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends qemu-user
fi
