//! `ps`: the host's ps(1), narrowed to the processes of a container.

use std::process::Command;

use rsrun_core::{Error, ErrorKind, Result};

use super::{container, print};
use crate::args::{Form, Global, Ps};

/// `ps`
pub fn run(global: &Global, ps: &Ps) -> Result<()> {
    let pids = container(global, &ps.id)?.pids()?;
    if ps.format == Form::Json {
        let text = serde_json::to_string(&pids)
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
        return print(&(text + "\n"));
    }
    let options = if ps.options.is_empty() {
        vec!["-ef".to_owned()]
    } else {
        ps.options.clone()
    };
    let text = listing(&options)?;
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::invalid("couldn't find PID field in ps output"))?;
    let is_ours = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let ours: Vec<_> = std::iter::once(head).chain(lines.filter(is_ours)).collect();
    print(&format!("{}\n", ours.join("\n")))
}

/// The only place where the command line executes another program: by posix_spawn, which shares
/// memory and so does not miss the heap that a fork would not have.
fn listing(options: &[String]) -> Result<String> {
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorKind::NotFound { what: "ps".into() },
            format!("ps: {e}"),
        )
    };
    let output = Command::new("ps").args(options).output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::invalid(format!(
        "ps {}: {}",
        options.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
