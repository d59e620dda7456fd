#!/usr/bin/env bash
# Measures rsrun beside the Go shim with runc and crun, in one run (tests/bench):
#
#     hack/bench.sh [lives|cli|scale|output]
#
# RSRUN_BENCH_ROUNDS says how often, RSRUN_BENCH_ONLY leaves columns out, and
# RSRUN_BENCH_CHARTS takes the picture elsewhere than into docs. Tables also go to
# target/results.
set -euo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

cargo build --quiet --locked -p rsrun-tests --bin rsrun-bench
export RSRUN_BENCH_MACHINE="kernel $(uname -r), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $(date -u +%Y-%m-%dT%H:%MZ)"
program=${CARGO_TARGET_DIR:-target}/$RSRUN_TARGET/debug/rsrun-bench
# As they are installed: what a linker has written lies in memory page by page, and each start
# of a program maps it so.
target=$(realpath "${CARGO_TARGET_DIR:-target}")
install -D -t "$target/installed" "$RSRUN_BIN/rsrun" "$RSRUN_BIN/containerd-shim-rsrun-v2"
export RSRUN_BIN=$target/installed
# State is kept in /run by all of them. It is in memory on every machine that systemd
# has started; where it is not, a disk would be measured.
exec unshare --mount --propagation private bash -c '
    [ "$(stat -f -c %T /run)" = tmpfs ] || mount -t tmpfs -o mode=755 tmpfs /run
    exec "$@"' bench "$program" "$@"
