#!/usr/bin/env bash
# Runs all tests of the workspace and sums them up. Exit code 0 only if every test passed, and there were some.
# What proofs have counted ("chaos: ok rotations=…") is told again at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# The binaries first: tests run them.
cargo build --workspace --bins
code=0
cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$output" || code=$?

awk '
  /^ *Running / { program = $0; sub(/^ *Running (unittests )?/, "", program); sub(/ \(.*/, "", program) }
  /^ *Doc-tests / { program = "documentation of " $2 }
  # Programs that are one proof end with a line such as "chaos: ok rotations=12 …".
  /^[a-z]+: (ok|failed|caught=)/ {
    proofs[++proof] = $0
    if (program ~ /^tests\/chaos/) {
      good = /: ok/
      if (!header++) printf "\n%-44s %7s %7s %8s\n", "TEST PROGRAM", "PASSED", "FAILED", "IGNORED"
      printf "%-44s %7d %7d %8d\n", program, good, !good, 0
      all += good; bad += !good
    }
  }
  /^test result: / {
    for (i = 1; i <= NF; i++) {
      if ($i == "passed;") passed = $(i - 1)
      if ($i == "failed;") failed = $(i - 1)
      if ($i == "ignored;") ignored = $(i - 1)
    }
    if (!header++) printf "\n%-44s %7s %7s %8s\n", "TEST PROGRAM", "PASSED", "FAILED", "IGNORED"
    if (passed + failed + ignored) printf "%-44s %7d %7d %8d\n", program, passed, failed, ignored
    all += passed; bad += failed; left += ignored
  }
  END {
    if (proof) print ""
    for (i = 1; i <= proof; i++) print proofs[i]
    printf "\ntests: %d passed, %d failed, %d ignored\n", all, bad, left
    exit !(all > 0 && bad == 0)
  }
' "$output" || code=1
exit "$code"
