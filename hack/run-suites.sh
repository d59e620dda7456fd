#!/usr/bin/env bash
# Runs built suites one after the other and marks where each begins and ends:
#
#     hack/run-suites.sh native [SUITE…]    on this machine
#     hack/run-suites.sh vm [SUITE…]        in the virtual machine (hack/vm/run)
#     hack/run-suites.sh alone              each of those that attack, in a machine of its own
#     hack/run-suites.sh here [SUITE…]      without any preparation (what the two call)
#
# All suites without a name; the attacking ones only in `alone` or by name. FILTER=text
# runs the cases whose name has it. The log is target/results/native.log, vm.log or
# alone.log, for hack/test-report.py.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

# A suite that hangs must not take the results of the others with it.
limit=${RSRUN_SUITE_LIMIT:-1200}
# What may bring a machine down or leaves it changed runs in the guest only.
guest_only=" attacks "
# What is the same in any machine, or takes emulated minutes (a race), does not spend the guest's minutes.
here_only=" bad_input faults root_init_race "

# chosen SUITE: how its harness is told which cases to run. What needs root or time is
# marked as ignored in a crate's own tests; a measurement stays so.
chosen() {
    case $1 in
    root_shim) echo --ignored --skip cpu_per_gigabyte ;;
    root_init_*) echo --include-ignored ;;
    esac
    if [ -n "${FILTER:-}" ]; then
        echo "$FILTER"
    elif [ "$1" = root_shim ] && [ "${RSRUN_SUITE_SCOPE:-}" = controllers ]; then
        # What depends on the kernel; a gigabyte is the same anywhere.
        echo an_overlay
    elif [ "$1" = e2e_ttrpc ] && [ "${RSRUN_SUITE_SCOPE:-}" = controllers ]; then
        # So are ten thousand execs and a stream's bytes, and emulated they take minutes.
        echo --skip ten_thousand_execs --skip seven_megabytes --skip a_gigabyte_through
    elif [ "$1" = scarcity ] && [ "${RSRUN_SUITE_SCOPE:-}" = controllers ]; then
        echo --skip squeezed:: --skip silence::
    fi
}

here() {
    local name status worst=0
    [ $# -gt 0 ] || set -- $(ls target/suites)
    for name; do
        echo "==> suite $name"
        timeout -k 10 "$limit" "target/suites/$name" $(chosen "$name") 2>&1
        status=$?
        echo "==> ended $name $status"
        [ $status = 0 ] || worst=1
    done
    return $worst
}

native() {
    local names=() name
    for name in "${@:-$(ls target/suites)}"; do
        for name in $name; do [[ $guest_only == *" $name "* ]] || names+=("$name"); done
    done
    # A tree of its own, where clone into a cgroup, kill and freeze work whatever
    # layout this machine has; its own mounts stay as they are.
    unshare --mount --propagation private bash -c '
        set -e
        if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
            umount -R /sys/fs/cgroup
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
        fi
        exec "$0" here "$@"' "$0" "${names[@]}"
}

# The guest must end inside the limit with all its suites together.
# Emulated, a case takes seconds: of conformance only what needs the controllers runs,
# RSRUN_SUITE_SCOPE=all asks for everything.
vm() {
    local names=() name
    for name in $(ls target/suites); do
        [[ $here_only$guest_only == *" $name "* ]] || names+=("$name")
    done
    [ $# = 0 ] || names=("$@")
    export RSRUN_SUITE_SCOPE=${RSRUN_SUITE_SCOPE-controllers}
    hack/vm/run --limit "${RSRUN_VM_LIMIT:-1500}" env FILTER="${FILTER:-}" hack/run-suites.sh here "${names[@]}"
}

# A fresh machine for each, with all the time to itself: what one leaves is not the
# next one's.
alone() {
    local name worst=0
    for name in $guest_only; do
        [ -e "target/suites/$name" ] || continue
        vm "$name" || worst=1
    done
    return $worst
}

where=$1
shift
case $where in
here) here "$@" ;;
native | vm | alone)
    mkdir -p target/results
    "$where" "$@" 2>&1 < /dev/null | tee "target/results/$where.log"
    exit "${PIPESTATUS[0]}"
    ;;
*)
    echo "hack/run-suites.sh native|vm|alone|here [SUITE…]" >&2
    exit 2
    ;;
esac
