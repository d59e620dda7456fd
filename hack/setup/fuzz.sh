#!/usr/bin/env bash
# Brings cargo-fuzz, and the C++ compiler that libFuzzer is built with.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

VERSION=0.13.1

from_source() {
    # Its flags are not ours: as our own they would be compiled into it.
    env -u RUSTFLAGS -u CARGO_BUILD_TARGET cargo install --quiet --locked --root "$1/build" "cargo-fuzz@$VERSION"
    mv "$1/build/bin/cargo-fuzz" "$1/cargo-fuzz"
    rm -rf "$1/build"
}

installed g++
once cargo-fuzz "$VERSION" from_source
