//! A process document, as `exec` and Exec get it.

use std::sync::LazyLock;

use rsrun_core::bundle::parse_process;
use rsrun_core::plan::{ExecAsk, ExecFacts, exec};

use crate::ground::{exec_facts, freezes, host, names_its_place};

static CONTAINER: LazyLock<ExecFacts> = LazyLock::new(exec_facts);

/// See the module.
pub fn check(data: &[u8]) {
    let facts = &*CONTAINER;
    let process = match parse_process(data) {
        Ok(loaded) => loaded.document,
        Err(error) => return names_its_place(&error, data),
    };
    let printed = serde_json::to_vec(&process).expect("a process has a text");
    let again =
        parse_process(&printed).unwrap_or_else(|e| panic!("what was printed is refused: {e}"));
    assert!(
        again.document == process,
        "it reads back as another process"
    );
    match exec(&process, facts, &ExecAsk::default(), &host()) {
        Ok(planned) => freezes(&planned.plan),
        Err(error) => names_its_place(&error, data),
    }
}
