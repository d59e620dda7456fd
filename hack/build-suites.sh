#!/usr/bin/env bash
# Builds every suite of tests/ into target/suites/NAME: one static file each, so that
# the same file runs here and in the virtual machine. The tests of a crate's own that
# need root or time, which `make check` leaves out, are suites too: root_NAME.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/suites
cargo test -p rsrun-tests -p rsrun-init -p containerd-shim-rsrun-v2 --no-run --locked --message-format=json-render-diagnostics |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable") or not message["profile"]["test"]:
        continue
    manifest, target = message["manifest_path"], message["target"]
    name = target["name"]
    if manifest.endswith("/shim/Cargo.toml"):
        # The program has no cases, and would take the place of the library.
        name = "root_shim" if "lib" in target["kind"] else None
    elif manifest.endswith("/init/Cargo.toml"):
        name = "root_init_" + name if target["kind"] == ["test"] else None
    elif target["kind"] != ["test"]:
        name = None
    if name:
        print(name, message["executable"])
' > target/suites.list
rm -f target/suites/*
while read -r name file; do
    # The rules of the source tree are no suite: hack/check.sh runs them.
    [ "$name" != tidy ] || continue
    # Symbols stay, so that a panic names its function.
    strip --strip-debug -o "target/suites/$name" "$file"
done < target/suites.list
