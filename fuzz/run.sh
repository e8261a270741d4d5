#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (600), one after the other: fuzz/run.sh [TARGET ...]
#
# Needs a nightly toolchain. The corpora grow in the cache; seeds are in fuzz/seeds. The last line of each target says how
# many executions there were.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/dkim-operator
export CARGO_TARGET_DIR=$cache/target-fuzz
# What cargo-fuzz sets for safe code; overflow and assertions are checked.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
target=x86_64-unknown-linux-gnu
cargo +nightly build --quiet --release --target "$target"

targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
for name in "${targets[@]}"; do
  corpus=$cache/fuzz/$name
  mkdir -p "$corpus"
  seeds=()
  if [[ -d seeds/$name ]]; then seeds=("seeds/$name"); fi
  printf 'fuzzing %s for %s s\n' "$name" "${FUZZ_SECONDS:-600}"
  "$CARGO_TARGET_DIR/$target/release/$name" -max_total_time="${FUZZ_SECONDS:-600}" -max_len=1500 -print_final_stats=1 \
    -artifact_prefix="$corpus/../$name-" "$corpus" "${seeds[@]}"
done
