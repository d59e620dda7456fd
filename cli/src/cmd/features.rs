//! `features`

use rsrun_core::Result;

use super::{print, to_json};

/// `features`: the document of the specification, true to what is supported.
pub fn run() -> Result<()> {
    print(&format!(
        "{}\n",
        to_json(&rsrun_core::features::features()?)?
    ))
}
