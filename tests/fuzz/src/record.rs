//! state.json, which may be damaged, of another version, or half of one: never a panic, and what is accepted
//! reads back as itself and serves an exec.

use rsrun_core::bundle::parse_process;
use rsrun_core::plan::{ExecAsk, exec};
use rsrun_core::store::record::Record;

use crate::ground::{freezes, host};

/// See the module.
pub fn check(data: &[u8]) {
    let record = match Record::parse(data) {
        Ok(record) => record,
        Err(text) => return assert!(!text.is_empty()),
    };
    let written = record.to_json().expect("a record has a text");
    let again = Record::parse(&written).unwrap_or_else(|e| panic!("what was written is {e}"));
    assert!(again == record, "it reads back as another record");
    let Ok(process) = parse_process(record.process.to_string().as_bytes()) else {
        return;
    };
    if let Ok(planned) = exec(
        &process.document,
        &record.exec,
        &ExecAsk::default(),
        &host(),
    ) {
        freezes(&planned.plan);
    }
}
