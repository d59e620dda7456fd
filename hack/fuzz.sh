#!/usr/bin/env bash
# Fuzzes everything that reads bytes of others (tests/fuzz), with AddressSanitizer:
#
#     hack/fuzz.sh [TARGET…]          all without one; FUZZ_SECONDS (60) each
#     hack/fuzz.sh run TARGET FILE…   these inputs, with the words of what they break
#
# FUZZ_JOBS (2) run at a time; FUZZ_SEED makes a run repeat an older one. What is learnt stays in target/fuzz/corpus and is where
# the next run goes on. One case for each target in target/results/fuzz.log; an input
# that breaks a property lies in target/fuzz/artifacts/TARGET: mend what it shows, and
# keep it in tests/fuzz/regressions/TARGET, where `make unit` tries it for ever.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

seconds=${FUZZ_SECONDS:-60}
jobs=${FUZZ_JOBS:-2}
here=$PWD/target/fuzz
log=$PWD/target/results/fuzz.log
bin=$here/$RSRUN_TARGET/release

# The toolchain is a stable one: sanitizers and coverage have to be asked for with this.
# Not static, as AddressSanitizer is not; optimised just enough, since a minute has to
# be worth it and the build has to be short.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS= CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
    CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_INCREMENTAL=false
unset CARGO_BUILD_TARGET

build() {
    "$RSRUN_CACHE/cargo-fuzz/cargo-fuzz" fuzz build --fuzz-dir tests/fuzz --target-dir "$here" --target "$RSRUN_TARGET"
}

targets() { sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' tests/fuzz/Cargo.toml; }

# An input may take a second of its time at most, and what it takes of memory is
# counted by the target itself.
fuzz() {
    local target=$1 places=() place
    mkdir -p "$here/corpus/$target" "$here/artifacts/$target" "$here/logs"
    for place in "tests/fuzz/seeds/$target" "tests/fuzz/regressions/$target"; do
        if [ -d "$place" ]; then places+=("$place"); fi
    done
    "$bin/$target" -max_total_time="$seconds" -timeout="${FUZZ_TIMEOUT:-10}" -rss_limit_mb=1024 -max_len=65536 \
        -seed="${FUZZ_SEED:-0}" -print_final_stats=1 -artifact_prefix="$here/artifacts/$target/" \
        "$here/corpus/$target" "${places[@]}" > "$here/logs/$target" 2>&1
}

# One line for each target, written whole: two run at a time.
case_of() {
    local target=$1 result=ok runs
    if ! fuzz "$target"; then result=FAILED; fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$here/logs/$target")
    [ "${runs:-0}" -gt 0 ] || result=FAILED
    if [ $result = FAILED ]; then tail -n 40 "$here/logs/$target" | sed 's/^test /said: test /'; fi
    echo "test fuzz::$target ... $result"
    echo "fuzz $target: ${runs:-0} inputs in $seconds s, $(find "$here/corpus/$target" -type f | wc -l) kept"
}

hack/setup.sh fuzz || exit 1
mkdir -p "$(dirname "$log")" "$here"
if [ "${1:-}" = run ]; then
    target=$2
    shift 2
    build && exec "$bin/$target" "$@"
fi

{
    echo "==> suite fuzz"
    if build > "$here/build.log" 2>&1; then
        echo "test fuzz::build ... ok"
        [ $# -gt 0 ] || set -- $(targets)
        for target; do
            while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
            case_of "$target" > "$here/$target.case" 2>&1 &
        done
        wait
        for target; do cat "$here/$target.case"; done
    else
        tail -n 40 "$here/build.log"
        echo "test fuzz::build ... FAILED"
    fi
    echo "==> ended fuzz 0"
} 2>&1 | tee "$log"
! grep -q '^test .* \.\.\. FAILED' "$log"
