//! The environment of a process, and where its program is looked for by it.

use std::collections::HashSet;
use std::ffi::CString;

use oci_spec::runtime::Process;

use super::facts::ProgramWords;
use super::process::Origin;
use super::text::{entry, text};
use crate::error::{Error, Result};

/// The environment without duplicates (the last one wins, where the last one stands), with HOME.
pub(super) fn environment(process: &Process, origin: &Origin<'_>) -> Result<Vec<CString>> {
    let place = format!("{}/env", origin.place);
    let given = process.env().as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(given.len() + 1);
    let mut has_home = false;
    for (index, variable) in given.iter().enumerate().rev() {
        let place = entry(&place, index);
        let Some((name, value)) = variable.split_once('=') else {
            return Err(Error::spec(place, format!("{variable:?} has no \"=\"")));
        };
        if name.is_empty() {
            return Err(Error::spec(place, "a variable without a name"));
        }
        let entry = text(&place, variable)?;
        if !seen.insert(name) {
            continue;
        }
        if name == "HOME" {
            has_home = !value.is_empty();
            if !has_home {
                continue;
            }
        }
        kept.push(entry);
    }
    kept.reverse();
    if !has_home {
        let home = origin.home.filter(|h| !h.is_empty()).unwrap_or("/");
        kept.push(text(&place, format!("HOME={home}"))?);
    }
    Ok(kept)
}

/// Where the program may be. A relative entry of PATH (an empty one is the working directory) is
/// passed over: what a working directory holds is not searched for commands.
pub(super) fn program_words(argv: &[CString], env: &[CString]) -> ProgramWords {
    let name = argv.first().cloned().unwrap_or_default();
    let bytes = name.as_bytes();
    let candidates = if bytes.contains(&b'/') {
        vec![name.clone()]
    } else {
        let path = env.iter().find_map(|v| v.as_bytes().strip_prefix(b"PATH="));
        path.unwrap_or_default()
            .split(|byte| *byte == b':')
            .filter(|directory| directory.first() == Some(&b'/'))
            .filter_map(|directory| CString::new([directory, b"/", bytes].concat()).ok())
            .collect()
    };
    ProgramWords {
        name: name.to_string_lossy().into_owned(),
        candidates,
    }
}
