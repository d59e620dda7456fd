//! Has the kernel begin this program at the core's `rsrun_start` (its `sys::early`), where it is linked as users get it.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |name: &str, value: &str| {
        let found = env::var(name).unwrap_or_default();
        found
            .split([',', '\x1f', ' '])
            .any(|word| word.ends_with(value))
    };
    // Where a program has to be relocated first, or calls what is chosen at its start, nothing may run before that.
    let is_fixed = has("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && has("CARGO_ENCODED_RUSTFLAGS", "relocation-model=static");
    if has("CARGO_CFG_TARGET_ARCH", "x86_64") && has("PROFILE", "release") && is_fixed {
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=rsrun_start");
    }
}
