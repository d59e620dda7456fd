#!/usr/bin/env bash
# What every change must pass without root: hack/check.sh [STEP…], all without one.
# Each step is a line like a test's, what it said is shown when it fails.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

fmt() { cargo fmt --all --check; }
clippy() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet; }
deny() {
    bash hack/setup.sh deny &&
        "$RSRUN_CACHE/cargo-deny/cargo-deny" --locked check --hide-inclusion-graph -A unused-wrapper -A license-not-encountered bans licenses sources
}
# Tests that need neither root nor a bundle: in the crates, and the rules that no
# compiler holds.
unit() {
    local failed=0
    cargo test --workspace --lib --bins --locked --no-fail-fast || failed=1
    # The properties that fuzzers ask for, over every seed and every old finding.
    cargo test -p rsrun-fuzz --test regressions --locked || failed=1
    return $failed
}
tidy() { cargo test -p rsrun-tests --test tidy --locked --no-fail-fast; }

[ $# -gt 0 ] || set -- fmt clippy deny tidy unit docs
log=$RSRUN_SOURCE/target/results/check.log
mkdir -p "$(dirname "$log")"
: > "$log"
failed=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT
trap 'exit 1' HUP INT TERM
for step; do
    began=$(date +%s)
    if "$step" > "$said" 2>&1 < /dev/null; then result=ok; else result=FAILED; fi
    # The tests of a step are told one by one; where they failed their step need not be.
    echo "==> suite $step" >> "$log"
    cat "$said" >> "$log"
    if ! grep -q '^test .* \.\.\. ' "$said" || { [ $result = FAILED ] && ! grep -q '^test .* \.\.\. FAILED' "$said"; }; then
        echo "test check::$step ... $result" >> "$log"
    fi
    echo "==> ended $step 0" >> "$log"
    printf 'check %-8s %s (%s s)\n' "$step" "$result" "$(($(date +%s) - began))"
    if [ $result = FAILED ]; then
        failed=1
        cat "$said"
    fi
done
exit $failed
