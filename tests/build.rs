//! Builds what has to be a static program of its own and cannot share this package's flags: the probe that runs
//! inside test containers, by a call of rustc, and the floor that the bench compares with, by a call of the C compiler.
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    probe(&out.join("rsrun-probe"));
    floor(&out.join("rsrun-floor"));
}

fn probe(out: &Path) {
    let source = "support/probe/main.rs";
    println!("cargo::rerun-if-changed=support/probe");
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
        .arg(out)
        .arg(source)
        .status()
        .expect("rustc starts");
    assert!(status.success(), "the probe does not compile");
    println!("cargo::rustc-env=RSRUN_PROBE={}", out.display());
}

fn floor(out: &Path) {
    let source = "bench/floor.c";
    println!("cargo::rerun-if-changed={source}");
    let status = Command::new("gcc")
        .args(["-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(out)
        .arg(source)
        .status()
        .expect("gcc starts");
    assert!(status.success(), "the floor does not compile");
    println!("cargo::rustc-env=RSRUN_FLOOR={}", out.display());
}
