//! A seccomp profile: an error names a place; a program fits the kernel and is the same the second time.

use oci_spec::runtime::LinuxSeccomp;
use rsrun_core::seccomp::compile;
use serde_json::json;

use crate::ground::names_its_place;

/// The kernel's limit on a program (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// See the module.
pub fn check(data: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(data) else {
        return;
    };
    match compile(&profile, None) {
        Ok(program) => {
            assert!((1..=LONGEST).contains(&program.lines.len()));
            let again = compile(&profile, None).expect("it was compiled before");
            assert!(again == program, "the same profile gives another program");
        }
        Err(error) => {
            let spec = json!({"linux": {"seccomp": &profile}}).to_string();
            names_its_place(&error, spec.as_bytes());
        }
    }
}
