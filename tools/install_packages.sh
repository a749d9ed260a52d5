#!/bin/sh
# Installs what is missing of the Debian packages in the given lists (tools/packages-*.txt). Says what it does, on standard
# error, and touches neither network nor system when nothing is missing.
#   tools/install_packages.sh [--all] LIST...      --all: also the lines marked "all"
set -eu

all=false
if [ "${1:-}" = --all ]; then
  all=true
  shift
fi

say() { printf '%s\n' "$*" >&2; }

# Present: installed as a package, or the program that the list names is on PATH.
is_present() {
  if [ -n "$2" ] && [ "$2" != all ] && command -v "$2" >/dev/null 2>&1; then
    return 0
  fi
  command -v dpkg-query >/dev/null 2>&1 &&
    [ "$(dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | head -n 1)" = installed ]
}

missing=""
for list in "$@"; do
  while read -r package program mark _; do
    case "$package" in '' | '#'*) continue ;; esac
    if [ "$all" = false ] && { [ "$program" = all ] || [ "$mark" = all ]; }; then
      continue
    fi
    is_present "$package" "$program" || missing="$missing $package"
  done <"$list"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  say "These packages are missing:$missing"
  say "This system has no apt-get: install them (or their equivalents) by other means and start again."
  exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    say "These packages are missing:$missing"
    say "Installing them needs root, and there is no sudo. As root: apt-get install --no-install-recommends$missing"
    exit 1
  fi
  as_root=sudo
fi
say "Installing with apt-get:$missing"
# The lists of a fresh container are empty and those of an old one stale: update first. Output goes to standard error,
# because standard output belongs to the program that is started afterwards.
# shellcheck disable=SC2086  # both are lists of words
{
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
} >&2 </dev/null || {
  say "apt-get failed. Check the network and the package sources, or install by hand:$missing"
  exit 1
}
