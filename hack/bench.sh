#!/usr/bin/env bash
# Measures rsrun beside the Go shim with runc and crun, in one run: the table of
# tests/bench. RSRUN_BENCH_ROUNDS says how many lives.
set -euo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

cargo build --quiet --locked -p rsrun-tests --bin rsrun-bench
echo "kernel $(uname -r), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(date -u +%Y-%m-%dT%H:%MZ)"
exec "${CARGO_TARGET_DIR:-target}/$RSRUN_TARGET/debug/rsrun-bench"
