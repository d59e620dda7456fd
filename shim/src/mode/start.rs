//! `start`: finds who serves the sandbox, or starts a process that does, and prints its address.
//!
//! It is on the way of every container, so there is no async runtime, and of config.json only the annotations
//! are read. Nothing but the answer may be written, and nobody may keep our stdout open: containerd reads it
//! to its end.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::{self, OpenOptions};
use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use rsrun_core::sys::{exe, spawn};

use super::NAME;
use crate::args::Args;
use crate::bootstrap::{self, Call};
use crate::options::Options;
use crate::socket::{self, Claim};
use crate::spec;

/// Largest message that is read from stdin.
const LARGEST_MESSAGE: u64 = 10 << 20;

/// Number of the descriptor on which the serving process finds its listener.
pub const LISTENER: i32 = 3;

/// Number of the descriptor on which it hears whether `start` came to its end: a byte when the answer is given,
/// the end of the file without one when `start` was killed before, so that nobody will ever come.
pub const LEASE: i32 = 4;

/// Number of the descriptor of the sealed binary. The serving process keeps it until its first launch: the kernel waits for
/// an RCU grace period when its last holder closes it, milliseconds on a busy machine, and `start` is waited for.
pub const SEALED: i32 = 5;

/// Largest value of `oom_score_adj`.
const LARGEST_OOM_SCORE: i32 = 1000;

/// Does it; the error is all that the user sees.
pub fn run(args: &Args) -> Result<(), String> {
    let mut message = Vec::new();
    let stdin = std::io::stdin();
    stdin
        .lock()
        .take(LARGEST_MESSAGE)
        .read_to_end(&mut message)
        .map_err(|e| format!("read stdin: {e}"))?;
    let call = bootstrap::decode(&message, args);
    let bundle = env::current_dir().map_err(|e| format!("working directory: {e}"))?;
    let group = spec::group_of(&bundle, &args.id)?;
    let path = socket::path(
        call.socket_dir.as_deref(),
        &call.grpc_address,
        &args.ctr_ns,
        &group,
    )?;
    let address = socket::address(&path);
    let claim = socket::claim(&path).map_err(|e| format!("socket {}: {e}", path.display()))?;
    let lease = match claim {
        Claim::Served => {
            write_address(&bundle, &address)?;
            None
        }
        Claim::Ours(listener) => {
            let launched = launch(args, &call, &group, &path, &listener)
                .and_then(|(pid, lease)| made_known(pid, &call, &bundle, &address).map(|()| lease))
                .inspect_err(|_| drop(fs::remove_file(&path)))?;
            Some(launched)
        }
    };
    let mut stdout = std::io::stdout().lock();
    let answer = bootstrap::encode(call.protocol, &address);
    stdout
        .write_all(&answer)
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("write the answer: {e}"))?;
    match lease {
        Some(mut lease) => lease
            .write_all(&[0])
            .map_err(|e| format!("tell the serving process: {e}")),
        None => Ok(()),
    }
}

/// The last of what the serving process needs; without it, it is ended.
fn made_known(pid: i32, call: &Call, bundle: &Path, address: &str) -> Result<(), String> {
    let ready = settle(pid, call).and_then(|()| write_address(bundle, address));
    ready.inspect_err(|_| {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    })
}

/// Starts the serving process: this binary again, from a place where nobody can write to it.
fn launch(
    args: &Args,
    call: &Call,
    group: &str,
    path: &Path,
    listener: &UnixListener,
) -> Result<(i32, PipeWriter), String> {
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        // Before the child is made, which inherits it.
        spawn::new_core_scheduling_cookie().map_err(|e| format!("prctl(PR_SCHED_CORE): {e}"))?;
    }
    spawn::close_on_exec_from(3).map_err(|e| format!("close_range: {e}"))?;
    let sealed = exe::seal().map_err(|e| format!("seal the binary: {e}"))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|e| format!("/dev/null: {e}"))?;
    let (heard, lease) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let path = path.display().to_string();
    let mut words = vec![
        NAME,
        "-namespace",
        &args.ctr_ns,
        "-id",
        &args.id,
        "-address",
        &call.grpc_address,
        "-group",
        group,
        "-socket",
        &path,
    ];
    if call.debug {
        words.push("-debug");
    }
    let argv = texts(words.into_iter().map(OsString::from))?;
    let envp = texts(environment(&call.ttrpc_address))?;
    let streams = [
        (null.as_fd(), 0),
        (null.as_fd(), 1),
        (null.as_fd(), 2),
        (listener.as_fd(), LISTENER),
        (heard.as_fd(), LEASE),
        (sealed.as_fd(), SEALED),
    ];
    let program = spawn::Program {
        path: &CString::new(format!("/proc/self/fd/{SEALED}")).map_err(|e| e.to_string())?,
        argv: &argv,
        envp: &envp,
        fds: &streams,
        own_group: true,
    };
    let pid = spawn::spawn(&program).map_err(|e| format!("start the serving process: {e}"))?;
    Ok((pid, lease))
}

/// Of the daemon's environment the serving process needs where to send events, and what its loggers may not have
/// anyway; containers get nothing of it.
fn environment(ttrpc_address: &str) -> impl Iterator<Item = OsString> {
    [
        "PATH",
        "RUST_BACKTRACE",
        "NOTIFY_SOCKET",
        "XDG_RUNTIME_DIR",
        "DBUS_SYSTEM_BUS_ADDRESS",
        crate::io::policy::CONFIG_VARIABLE,
    ]
    .into_iter()
    .filter_map(|name| {
        let mut entry = OsString::from(format!("{name}="));
        entry.push(env::var_os(name)?);
        Some(entry)
    })
    .chain([OsString::from(format!("TTRPC_ADDRESS={ttrpc_address}"))])
}

fn texts(words: impl Iterator<Item = OsString>) -> Result<Vec<CString>, String> {
    words
        .map(|word| {
            CString::new(word.into_vec()).map_err(|_| "an argument contains NUL".to_owned())
        })
        .collect()
}

/// The cgroup and the OOM score of the serving process.
fn settle(pid: i32, call: &Call) -> Result<(), String> {
    let options = call
        .options
        .iter()
        .map(Options::decode)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(cgroup) = options
        .iter()
        .map(|o| o.shim_cgroup.as_str())
        .find(|cgroup| !cgroup.is_empty())
    {
        let file = cgroup_procs(cgroup)?;
        fs::write(&file, pid.to_string())
            .map_err(|e| format!("join cgroup {}: {e}", file.display()))?;
    }
    // containerd's own score, our parent's, and one more: the daemon must be the last to go.
    let of = format!("/proc/{}/oom_score_adj", getppid());
    let score = fs::read_to_string(&of).map_err(|e| format!("{of}: {e}"))?;
    let score: i32 = score.trim().parse().map_err(|e| format!("{of}: {e}"))?;
    let file = format!("/proc/{pid}/oom_score_adj");
    fs::write(
        &file,
        score.saturating_add(1).min(LARGEST_OOM_SCORE).to_string(),
    )
    .map_err(|e| format!("{file}: {e}"))
}

fn cgroup_procs(cgroup: &str) -> Result<PathBuf, String> {
    let relative = Path::new(cgroup.trim_start_matches('/'));
    if relative
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(format!("shim cgroup {cgroup:?} is not a plain path"));
    }
    Ok(Path::new("/sys/fs/cgroup")
        .join(relative)
        .join("cgroup.procs"))
}

/// containerd 1.6 and 1.7 find us by this file after they were restarted.
fn write_address(bundle: &Path, address: &str) -> Result<(), String> {
    let path = bundle.join("address");
    crate::container::create::write_atomic(&path, address.as_bytes(), 0o644)
        .map_err(|failure| failure.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_climbs_is_refused() {
        assert!(cgroup_procs("/a/../../b").is_err());
        assert_eq!(
            cgroup_procs("/shims/x").unwrap(),
            Path::new("/sys/fs/cgroup/shims/x/cgroup.procs")
        );
    }
}
