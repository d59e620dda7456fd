//! The serving process: from an inherited listener to its orderly end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::Signal;
use rsrun_core::sys::heap::UnforkedHeap;
use rsrun_core::sys::{exe, fds};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver as PipeReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::NAME;
use super::start::{LEASE, LISTENER, SEALED};
use crate::args::Args;
use crate::event::Outbox;
use crate::journal;
use crate::sandbox::Sandbox;
use crate::signals::{self, Signals};
use crate::socket::{self, Claim};
use crate::spec;
use crate::task::connection::{self, Limits};

/// How long events may take to reach containerd once nothing else is left to do.
const FLUSH: Duration = Duration::from_secs(5);

/// Signals that end this process in order.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Signals that must not end it.
const MEANINGLESS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR2];

/// Serves until containerd wishes the end and nothing is left, or until SIGTERM or SIGINT.
pub fn run(args: &Args, heap: &'static UnforkedHeap) -> Result<(), String> {
    // First of all: nobody waits for this process, so what stops it is said there or nowhere.
    let sandbox = if args.group.is_empty() {
        &args.id
    } else {
        &args.group
    };
    journal::open(Path::new("log"), &args.ctr_ns, sandbox, args.debug);
    let heard = [
        &ENDING[..],
        &MEANINGLESS,
        &[Signal::SIGCHLD, Signal::SIGUSR1],
    ]
    .concat();
    // A pod has many streams.
    rsrun_core::sys::raise_open_files().map_err(|e| format!("setrlimit(RLIMIT_NOFILE): {e}"))?;
    signals::block(&heard).map_err(|e| format!("rt_sigprocmask: {e}"))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|e| format!("prctl(PR_SET_CHILD_SUBREAPER): {e}"))?;
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let bundle = std::env::current_dir().map_err(|e| format!("working directory: {e}"))?;
    let group = if args.group.is_empty() {
        spec::group_of(&bundle, &args.id)?
    } else {
        args.group.clone()
    };
    let (listener, path) = listener(args)?;
    // Only our own `start` names the group, and leaves these beside the listener.
    let lease = if args.group.is_empty() {
        None
    } else {
        let left = |number| fds::adopt(number).map_err(|e| format!("descriptor {number}: {e}"));
        exe::keep(left(SEALED)?);
        Some(left(LEASE)?)
    };
    // The bundle of the first container must be removable while others live.
    #[allow(clippy::disallowed_methods, reason = "before there is another thread")]
    std::env::set_current_dir("/").map_err(|e| format!("chdir(/): {e}"))?;
    let ttrpc_address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| format!("event loop: {e}"))?;
    let outbox = Outbox::new(ttrpc_address, args.ctr_ns.clone());
    let sandbox = Sandbox::new(args.ctr_ns.clone(), group, outbox, heap);
    let served =
        LocalSet::new().block_on(&runtime, serve(listener, &path, sandbox, lease, &bundle));
    served.map_err(|e| format!("serve {}: {e}", path.display()))
}

/// The listener that `start` left us, or one at the path that a launcher gave.
fn listener(args: &Args) -> Result<(StdListener, PathBuf), String> {
    let inherited = fds::adopt(LISTENER)
        .ok()
        .filter(is_listening)
        .map(StdListener::from);
    let path = match (args.socket.trim_start_matches("unix://"), &inherited) {
        ("", Some(listener)) => listener
            .local_addr()
            .ok()
            .and_then(|a| a.as_pathname().map(Path::to_owned)),
        ("", None) => None,
        (path, _) => Some(PathBuf::from(path)),
    };
    let path = path.ok_or("no listener on descriptor 3 and no -socket")?;
    let listener = match inherited {
        Some(listener) => listener,
        None => {
            match socket::claim(&path).map_err(|e| format!("socket {}: {e}", path.display()))? {
                Claim::Ours(listener) => listener,
                Claim::Served => {
                    return Err(format!("socket {} is served already", path.display()));
                }
            }
        }
    };
    listener
        .set_nonblocking(true)
        .map_err(|e| format!("listener: {e}"))?;
    Ok((listener, path))
}

fn is_listening(fd: &OwnedFd) -> bool {
    use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
    getsockopt(fd, AcceptConn).unwrap_or(false)
}

async fn serve(
    listener: StdListener,
    path: &Path,
    sandbox: Rc<Sandbox>,
    lease: Option<OwnedFd>,
    bundle: &Path,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let mut lease = lease.map(PipeReader::from_owned_fd).transpose()?;
    let children = Signals::of(&[Signal::SIGCHLD])?;
    let ends = Signals::of(&ENDING)?;
    let dumps = Signals::of(&[Signal::SIGUSR1])?;
    let others = Signals::of(&MEANINGLESS)?;
    let limits = Rc::new(Limits::default());
    tokio::task::spawn_local(Rc::clone(&sandbox.outbox).send_all());
    log::info!("serving on {}", path.display());
    let mut again = None;
    loop {
        let asked_again = async {
            match again {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => take(stream, &sandbox, &limits),
                // Out of descriptors or memory: what is open goes on, and may free some.
                Err(e) => {
                    log::error!("accept: {e}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            () = children.heard() => sandbox.reap(),
            () = ends.heard() => {
                log::info!("ending on a signal");
                break;
            }
            () = dumps.heard() => sandbox.describe().iter().for_each(|line| log::info!("{line}")),
            () = others.heard() => log::warn!("a signal that means nothing here is ignored"),
            told = end_of_start(&mut lease) => if told {
                // It came for a container: its Create is on the way. Before, this would have been in the way of the answer.
                sandbox.expect(bundle);
            } else {
                log::warn!("our start was killed before it told where we serve");
                sandbox.wish_end();
            },
            () = sandbox.changed.notified() => {}
            () = asked_again => {}
        }
        match sandbox.may_end() {
            Ok(()) if retire(&listener, path, &sandbox, &limits) => break,
            Ok(()) => again = Some(Duration::from_millis(10)),
            Err(pause) => again = pause,
        }
    }
    sandbox.begin_end();
    drop(listener);
    remove_if_ours(path);
    let unsent = sandbox.outbox.flush(FLUSH).await;
    if unsent > 0 {
        log::error!("{unsent} events were not taken by containerd in time");
    }
    sandbox.leave_stores();
    Ok(())
}

/// Comes back once, when `start` has come to its end: whether it told of us.
async fn end_of_start(lease: &mut Option<PipeReader>) -> bool {
    let Some(pipe) = lease else {
        return std::future::pending().await;
    };
    let told = loop {
        match pipe.read(&mut [0]).await {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            heard => break matches!(heard, Ok(1)),
        }
    };
    *lease = None;
    told
}

fn take(stream: UnixStream, sandbox: &Rc<Sandbox>, limits: &Rc<Limits>) {
    if connection::is_ours(&stream) {
        tokio::task::spawn_local(connection::serve(
            stream,
            Rc::clone(sandbox),
            Rc::clone(limits),
        ));
    } else {
        log::warn!("a connection of another user was refused");
    }
}

/// Takes the socket out of its place, unless somebody is connecting at this moment: a `start` that found us would
/// tell its containerd to come here. The name goes first, so that nobody can come between the last look and the end.
fn retire(
    listener: &UnixListener,
    path: &Path,
    sandbox: &Rc<Sandbox>,
    limits: &Rc<Limits>,
) -> bool {
    let aside = path.with_extension("end");
    if fs::rename(path, &aside).is_err() {
        return true;
    }
    let mut came = false;
    while let Some(stream) = waiting(listener) {
        take(stream, sandbox, limits);
        came = true;
    }
    if came
        && renameat2(
            AT_FDCWD,
            &aside,
            AT_FDCWD,
            path,
            RenameFlags::RENAME_NOREPLACE,
        )
        .is_ok()
    {
        return false;
    }
    let _ = fs::remove_file(&aside);
    true
}

/// A connection in the backlog, if there is one.
fn waiting(listener: &UnixListener) -> Option<UnixStream> {
    use std::os::fd::AsFd;
    let duplicate = listener.as_fd().try_clone_to_owned().ok()?;
    let (stream, _) = StdListener::from(duplicate).accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

/// After a signal the file is still there; another process may have taken the name over meanwhile.
fn remove_if_ours(path: &Path) {
    if !socket::accepts(path) {
        let _ = fs::remove_file(path);
    }
}
