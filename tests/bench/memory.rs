//! What memory does a process hold?

use std::fs;

use rsrun_tests::suite::{Check, fail};

/// In kB, from smaps_rollup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Its share of all that it maps.
    pub pss: f64,
    /// What exists because of it alone and was written.
    pub private_dirty: f64,
}

/// Of one process now.
pub fn of(pid: u32) -> Check<Used> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kilobytes = |key: &str| -> Check<f64> {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        match found.and_then(|line| line.trim().strip_suffix(" kB")) {
            Some(number) => Ok(number.trim().parse()?),
            None => fail(format!("no {key} in smaps_rollup of {pid}")),
        }
    };
    Ok(Used {
        pss: kilobytes("Pss:")?,
        private_dirty: kilobytes("Private_Dirty:")?,
    })
}
