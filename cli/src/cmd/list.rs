//! `list`

use rsrun_core::Result;

use super::state::State;
use super::{containers, print};
use crate::args::{Form, Global, List};

/// `list`: damaged records are named on standard error and do not hide the others.
pub fn run(global: &Global, list: &List) -> Result<()> {
    let mut states = Vec::new();
    for (id, container) in containers(global)?.list()? {
        match container.and_then(|container| State::of(&container)) {
            Ok(state) => states.push(state),
            Err(error) => eprintln!("rsrun: container {id}: {error}"),
        }
    }
    if list.quiet {
        let names: Vec<_> = states
            .iter()
            .map(|state| format!("{}\n", state.id))
            .collect();
        return print(&names.concat());
    }
    match list.format {
        Form::Json => {
            let text = serde_json::to_string(&states);
            let text = text.map_err(|e| {
                rsrun_core::Error::new(rsrun_core::ErrorKind::Internal, e.to_string())
            })?;
            print(&(text + "\n"))
        }
        Form::Table => print(&table(&states)),
    }
}

fn table(states: &[State]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = states.iter().map(|s| {
        [
            s.id.clone(),
            s.pid.to_string(),
            s.status.clone(),
            s.bundle.clone(),
            s.created.clone(),
            s.owner.clone(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [12usize; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len() + 3);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.concat().trim_end());
        text.push('\n');
    }
    text
}
