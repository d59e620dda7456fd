#!/usr/bin/env bash
# Prepares a bare Debian 12 (root, Rust) for building and testing rsrun.
#
#     hack/setup.sh            everything
#     hack/setup.sh PART…      only these: packages image containerd runtimes vm deny fuzz
#     hack/setup.sh demo       what `make demo` needs and nothing else
#
# Every part may run again at any time and then takes no time. What is fetched or
# built goes below RSRUN_CACHE (hack/env.sh); the only things installed in the
# system are Debian packages. Parts that do not wait for each other run side by
# side: most of their time is the network's.
set -euo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh
. hack/setup/lib.sh

part() { PART=$1 bash "hack/setup/$1.sh" "${@:2}"; }

beside() { part "$@" & pids+=($!); }
all_done() {
    local pid failed=0
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    pids=()
    return $failed
}

pids=()
[ $# -gt 0 ] || set -- all
for what; do
    case $what in
    all)
        part packages
        beside image
        beside containerd
        beside runtimes
        beside vm
        beside deny
        beside fuzz
        all_done
        ;;
    demo)
        part packages build
        beside image
        beside containerd demo
        all_done
        ;;
    packages | image | containerd | runtimes | vm | deny | fuzz) part "$what" ;;
    *) die "no part is called '$what': packages image containerd runtimes vm deny fuzz demo all" ;;
    esac
done
