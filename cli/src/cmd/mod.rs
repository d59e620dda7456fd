//! The commands: one file for each, and what they share.

mod create;
mod debug;
mod delete;
mod events;
mod exec;
mod features;
mod list;
mod ps;
mod run;
mod simple;
mod spec;
mod state;
mod update;

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rsrun_core::launch::Soon;
use rsrun_core::sys::fds;
use rsrun_core::sys::program::{SUCCESS, Status};
use rsrun_core::{
    Container, ContainerId, Containers, CreateRequest, Error, ErrorKind, Result, Streams,
};

use crate::args::{self, Args, Command, Global};

/// No process and no resources are near it.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// Does what the command says; the exit code is the container's for run and exec in the foreground.
/// A create takes what was begun for it, `soon`.
pub fn run(args: &Args, soon: Option<Soon>) -> Result<Status> {
    let global = &args.global;
    let soon = match &args.command {
        Command::Run(_) | Command::Create(_) => soon,
        // A word of another command was taken for theirs. What was made for nothing is not kept while that runs.
        _ => {
            soon.into_iter().for_each(Soon::leave_alone);
            None
        }
    };
    match &args.command {
        Command::Spec(spec) => spec::run(spec),
        Command::Run(run) => return run::run(global, run, soon),
        Command::Create(create) => create::run(global, create, soon),
        Command::Start(id) => simple::start(global, &id.id),
        Command::State(id) => state::run(global, &id.id),
        Command::Kill(kill) => simple::kill(global, kill),
        Command::Delete(delete) => delete::run(global, delete),
        Command::List(list) => list::run(global, list),
        Command::Exec(exec) => return exec::run(global, exec),
        Command::Ps(ps) => ps::run(global, ps),
        Command::Pause(id) => simple::pause(global, &id.id),
        Command::Resume(id) => simple::resume(global, &id.id),
        Command::Update(update) => update::run(global, update),
        Command::Events(events) => events::run(global, events),
        Command::Features(_) => features::run(),
        Command::Debug(debug) => debug::run(global, debug),
        Command::Checkpoint(_) => Err(unsupported("checkpoint")),
        Command::Restore(_) => Err(unsupported("restore")),
    }
    .map(|()| SUCCESS)
}

fn unsupported(command: &str) -> Error {
    let text = format!("{command}: checkpoint and restore are not supported");
    Error::unsupported("checkpoint and restore", text)
}

fn containers(global: &Global) -> Result<Containers> {
    if global.rootless == args::Rootless::True {
        return Err(Error::unsupported(
            "rootless containers",
            "--rootless true: rootless containers are not supported",
        ));
    }
    Containers::open(&absolute(global.root())?)
}

fn container(global: &Global, id: &str) -> Result<Container> {
    containers(global)?.get(&ContainerId::parse(id)?)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
}

/// What create and run ask the core for. Streams are this process's own when there is no terminal.
fn request(global: &Global, create: &args::Create) -> Result<CreateRequest> {
    let sockets = activation_sockets();
    // In the container the program is pid 1, and that is who may take the sockets.
    let extra_env = match sockets {
        0 => Vec::new(),
        n => vec![format!("LISTEN_FDS={n}"), "LISTEN_PID=1".to_owned()],
    };
    Ok(CreateRequest {
        id: ContainerId::parse(&create.id)?,
        bundle: absolute(&create.bundle)?,
        streams: own_streams()?,
        terminal: None,
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
        preserve_fds: create.preserve_fds.saturating_add(sockets),
        extra_env,
        systemd_cgroup: global.systemd_cgroup,
        group: None,
        rootfs_mounts: Vec::new(),
        loaded: None,
        ahead: None,
        starts_at_once: false,
    })
}

/// Before anything is opened: a number that the caller did not open would be the next thing that we open, and be
/// given to the container.
pub fn vet_inherited(command: &Command) -> Result<()> {
    let (preserved, sockets) = match command {
        Command::Run(run) => (run.create.preserve_fds, activation_sockets()),
        Command::Create(create) => (create.preserve_fds, activation_sockets()),
        Command::Exec(exec) => (exec.preserve_fds, 0),
        _ => return Ok(()),
    };
    let first_closed = (3..)
        .take(preserved.saturating_add(sockets) as usize)
        .find(|number| !fds::is_inherited(*number));
    match first_closed {
        Some(number) => Err(Error::invalid(format!(
            "--preserve-fds {preserved}: descriptor {number} is not open{}",
            match sockets {
                0 => String::new(),
                n => format!(" (LISTEN_FDS={n} are passed on too)"),
            }
        ))),
        None => Ok(()),
    }
}

/// Sockets that systemd (or who speaks like it) has left from descriptor 3 on, meant for this process.
fn activation_sockets() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(sockets), Some(pid)) if pid == std::process::id() => sockets,
        _ => 0,
    }
}

/// What was left out of what was asked for: on standard error and in the log.
fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
        eprintln!("rsrun: warning: {warning}");
    }
}

fn own_streams() -> Result<Streams> {
    use std::os::fd::AsFd;
    let copy = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned()
            .map(Some)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("dup: {e}")))
    };
    Ok(Streams {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// The document that an option names: a file, a pipe, or standard input for `-`.
pub fn document(option: &str, path: &Path) -> Result<String> {
    let mut text = String::new();
    let limit = LARGEST_DOCUMENT + 1;
    let read = match path == Path::new("-") {
        true => std::io::stdin()
            .lock()
            .take(limit)
            .read_to_string(&mut text),
        false => File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    let failed =
        |cause: &dyn Display| Error::invalid(format!("{option} {}: {cause}", path.display()));
    match read {
        Ok(_) if text.len() as u64 == limit => Err(failed(&"it is larger than 16 MiB")),
        Ok(_) => Ok(text),
        Err(cause) => Err(failed(&cause)),
    }
}

/// Writes the pid beside and renames it, so that who waits for the file never reads half a number.
fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let failed = |e: std::io::Error| Error::invalid(format!("--pid-file {}: {e}", path.display()));
    let name = path.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Error::invalid(format!("--pid-file {}: no file name", path.display())))?;
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .inspect_err(|_| drop(std::fs::remove_file(&new)))
        .map_err(failed)
}

/// Prints to standard output; a reader that went away is no error of ours.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            format!("write(stdout): {e}"),
        )),
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}

fn exit_code(code: u32) -> Status {
    Status::try_from(code).unwrap_or(Status::MAX)
}

/// A time as RFC 3339 with nanoseconds, UTC.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(i64::try_from(days).unwrap_or(0));
    let (hour, minute, second) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z",
        since.subsec_nanos()
    )
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, counted in years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds| super::rfc3339(UNIX_EPOCH + Duration::new(seconds, 5));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(1_795_607_999), "2026-11-25T11:59:59.000000005Z");
    }
}
