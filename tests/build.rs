//! Builds the probe: a program that runs inside test containers has to be static and cannot share this package's
//! flags, so it is compiled here by a call of rustc.
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "support/probe/main.rs";
    println!("cargo::rerun-if-changed={source}");
    let out =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("rsrun-probe");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "rsrun_probe", "-O"])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-C",
            "panic=abort",
        ])
        .arg("-o")
        .arg(&out)
        .arg(source)
        .status()
        .expect("rustc starts");
    assert!(status.success(), "the probe does not compile");
    println!("cargo::rustc-env=RSRUN_PROBE={}", out.display());
}
