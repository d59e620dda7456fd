//! `exec`: one more process in a container.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rsrun_core::sys::program::{SUCCESS, Status};
use rsrun_core::{
    Cancel, ContainerId, Context, Error, ErrorKind, ExecRequest, ProcessHandle, Result, Streams,
};
use serde_json::{Value, json};

use super::run::wait_for;
use super::{containers, exit_code, own_streams, write_pid_file};
use crate::args::{Exec, Global};
use crate::signals::Incoming;
use crate::terminal::{self, Ground};

/// How long a process that was killed may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// `exec`
pub fn run(global: &Global, exec: &Exec) -> Result<Status> {
    let containers = containers(global)?;
    let container = containers.get(&ContainerId::parse(&exec.id)?)?;
    let text = document(exec, container.record())?;
    let process =
        rsrun_core::bundle::parse_process(text.as_bytes()).with(|| match &exec.process {
            Some(path) => format!("--process {}", path.display()),
            None => "process".to_owned(),
        })?;
    super::warn(&process.warnings);
    let process = process.document;
    let is_terminal = process.terminal().unwrap_or(false);
    terminal::vet(
        is_terminal,
        Ground::of(&exec.detach),
        exec.console_socket.as_deref(),
    )?;
    let incoming = if exec.detach {
        None
    } else {
        Some(Incoming::collect()?)
    };
    let request = ExecRequest {
        process,
        terminal: None,
        streams: if is_terminal {
            Streams::default()
        } else {
            own_streams()?
        },
        preserve_fds: exec.preserve_fds,
        cgroup: exec.cgroup.clone(),
        ignore_paused: exec.ignore_paused,
    };
    let cancel = match &incoming {
        Some(incoming) => incoming.cancel()?,
        None => Cancel::new()?,
    };
    let started = container.exec(&request, &cancel).map_err(paused)?;
    super::warn(&started.warnings);
    // The container holds what it was given; the other ends must see its end, not ours.
    drop(request);
    let process = &started.process;
    let outcome = hand_over(exec, process, started.console).and_then(|console| {
        let Some(incoming) = &incoming else {
            return Ok(SUCCESS);
        };
        if let Some(master) = console {
            terminal::relay(master, process, incoming)?;
        }
        Ok(exit_code(wait_for(&containers, process, incoming)?.code))
    });
    if outcome.is_err() {
        // Nobody knows of it.
        process.kill(libc::SIGKILL).or_else(already_over)?;
        process.wait_ended(Some(Instant::now() + KILL_PATIENCE), &Cancel::new()?)?;
    }
    outcome
}

/// Tells who asked which process it is, and gives the console to its socket.
fn hand_over(
    exec: &Exec,
    process: &ProcessHandle,
    console: Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    write_pid_file(exec.pid_file.as_deref(), process.pid())?;
    match (console, &exec.console_socket) {
        (Some(master), Some(socket)) => terminal::send_master(socket, &master).map(|()| None),
        (console, _) => Ok(console),
    }
}

/// There is an option for a container that is paused.
fn paused(error: Error) -> Error {
    match error.kind() {
        ErrorKind::WrongStatus { found, .. } if found == "paused" => {
            error.during("without --ignore-paused")
        }
        _ => error,
    }
}

fn already_over(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::NotFound { .. } => Ok(()),
        _ => Err(error),
    }
}

/// The process document: the file's, or the container's own with what the options change.
fn document(exec: &Exec, record: &rsrun_core::store::record::Record) -> Result<String> {
    if let Some(path) = &exec.process {
        return super::document("--process", path);
    }
    if exec.command.is_empty() {
        return Err(Error::invalid("exec: a command is needed (or --process)"));
    }
    let mut process = record.process.clone();
    let fields = process
        .as_object_mut()
        .ok_or_else(|| Error::invalid("the record has no process"))?;
    fields.insert("args".into(), json!(exec.command));
    fields.insert("terminal".into(), json!(exec.tty));
    if let Some((height, width)) = terminal::own_size().filter(|_| exec.tty) {
        fields.insert(
            "consoleSize".into(),
            json!({ "height": height, "width": width }),
        );
    }
    if let Some(cwd) = &exec.cwd {
        fields.insert("cwd".into(), json!(cwd));
    }
    if let Some(label) = &exec.process_label {
        fields.insert("selinuxLabel".into(), json!(label));
    }
    if let Some(profile) = &exec.apparmor {
        fields.insert("apparmorProfile".into(), json!(profile));
    }
    if exec.no_new_privs {
        fields.insert("noNewPrivileges".into(), json!(true));
    }
    extend(fields, "env", exec.env.iter().map(|entry| json!(entry)));
    if let Some(user) = &exec.user {
        let (uid, gid) = parse_user(user)?;
        let user = fields.entry("user").or_insert_with(|| json!({}));
        user["uid"] = json!(uid);
        if let Some(gid) = gid {
            user["gid"] = json!(gid);
        }
    }
    if !exec.additional_gids.is_empty() {
        let user = fields.entry("user").or_insert_with(|| json!({}));
        if let Some(user) = user.as_object_mut() {
            extend(
                user,
                "additionalGids",
                exec.additional_gids.iter().map(|gid| json!(gid)),
            );
        }
    }
    for capability in &exec.cap {
        let sets = fields.entry("capabilities").or_insert_with(|| json!({}));
        if let Some(sets) = sets.as_object_mut() {
            for set in ["bounding", "effective", "permitted"] {
                extend(sets, set, std::iter::once(json!(capability)));
            }
        }
    }
    Ok(process.to_string())
}

fn extend(
    fields: &mut serde_json::Map<String, Value>,
    key: &str,
    more: impl Iterator<Item = Value>,
) {
    let list = fields.entry(key).or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(more);
    }
}

/// `uid[:gid]`, digits only: a name is never looked up on the host.
fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>()
            .ok()
            .filter(|id| digits && *id != u32::MAX)
            .ok_or_else(|| {
                Error::invalid(format!("--user {text:?}: uid[:gid] in digits is needed"))
            })
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn a_user_is_digits_and_nothing_else() {
        assert_eq!(parse_user("1").unwrap(), (1, None));
        assert_eq!(parse_user("1:2").unwrap(), (1, Some(2)));
        for bad in [
            "",
            "1:",
            ":1",
            "-1",
            "+1",
            " 1",
            "0x1",
            "4294967295",
            "4294967296",
            "root",
            "1:x",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
