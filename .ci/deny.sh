#!/usr/bin/env bash
# Checks licences, sources and bans of everything that is linked in, with cargo-deny; installs it where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dkim-operator
tool=$cache/tools/cargo-deny-$version/bin/cargo-deny
if [[ ! -x $tool ]]; then
  printf 'building cargo-deny %s (usually 5 minutes, once)\n' "$version" >&2
  cargo install --locked --version "$version" --root "$cache/tools/cargo-deny-$version" cargo-deny
fi
"$tool" --log-level error check bans licenses sources
