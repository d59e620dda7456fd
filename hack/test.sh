#!/usr/bin/env bash
# Everything: the checks, the suites on this machine, the suites in the virtual
# machine. Goes on after a failure, so that one run tells all of it. Ends with every
# skip and its reason and one line `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

results=target/results
rm -rf "$results" && mkdir -p "$results"
began=$(date +%s)
# Gigabytes that a first run takes, all of it together.
needed=9
say() { printf '\n== %s (minute %s)\n' "$*" "$((($(date +%s) - began) / 60))"; }
# Gigabytes that are free where we build.
free() { df --output=avail -B1G . | tail -n 1 | tr -d ' '; }
# A step that can't even be built is a failure among the others, not a silent end.
record() {
    printf '==> suite %s\ntest %s ... %s\n==> ended %s 0\n' "$1" "$2" "$3" "$1" > "$results/$1.log"
}

[ "$(free)" -ge "$needed" ] || say "only $(free) GB are free here, and what is built, fetched and run takes up to $needed"
hack/setup/packages.sh build || exit 1
# Fetching is the network's time and Go's compiler's, building is rustc's.
hack/setup.sh all > "$results/setup.out" 2>&1 < /dev/null &
setup=$!

say "build"
if make -s build < /dev/null; then record build build::release ok; else record build build::release FAILED; fi
say "checks"
hack/check.sh < /dev/null
say "building the suites"
suites=ok
hack/build-suites.sh < /dev/null || suites=FAILED
record suites build::suites $suites

say "fuzzing"
# From one seed: a run of the tests tells of what was changed, not of its luck.
FUZZ_SEED=${FUZZ_SEED:-1} hack/fuzz.sh < /dev/null

if [ "$(free)" -lt 4 ]; then
    say "only $(free) GB are free: the build of the fuzzers goes, its corpus stays"
    rm -rf "target/fuzz/$RSRUN_TARGET"
fi

say "waiting for what the suites run against"
if wait "$setup"; then record setup setup::all ok; else record setup setup::all FAILED; fi
cat "$results/setup.out"

say "configuration files"
hack/check-config.sh < /dev/null | tee "$results/config.log"

if [ $suites = ok ]; then
    say "suites on this machine"
    hack/run-suites.sh native
    say "suites in the virtual machine"
    hack/run-suites.sh vm
    say "suites that attack, each in a virtual machine of its own"
    hack/run-suites.sh alone
fi

say "result"
hack/test-report.py "$results"/{build,setup,suites,check,fuzz,config,native,vm,alone}.log
