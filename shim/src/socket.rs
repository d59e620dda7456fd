//! Where the serving process of a sandbox listens, and who gets to be it: binding the socket is the lock.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use sha2::{Digest, Sha256};

use crate::task::{AWAIT, START_SERVICE};
use crate::wire::Writer;

/// Directory of the sockets unless the caller names another: containerd's build-time default, which its
/// tools compute too. It does not follow containerd's state directory.
const DEFAULT_DIR: &str = "/run/containerd/s";

/// Longest path of a socket (`sun_path` with its NUL, less what Go allows itself).
const LONGEST: usize = 106;

/// How long a serving process may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(1);

/// Until one that closed our connection is asked again.
const PAUSE: Duration = Duration::from_millis(1);

/// The path of the socket for a sandbox: one for each of (containerd, namespace, group).
pub fn path(
    dir: Option<&str>,
    grpc_address: &str,
    ctr_ns: &str,
    group: &str,
) -> Result<PathBuf, String> {
    let joined = join(&[grpc_address, ctr_ns, group]);
    let digest = Sha256::digest(joined.as_bytes());
    let mut name = String::with_capacity(64);
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    let path = Path::new(dir.unwrap_or(DEFAULT_DIR)).join(name);
    if path.as_os_str().len() > LONGEST {
        return Err(format!(
            "socket path {} is longer than {LONGEST} characters",
            path.display()
        ));
    }
    Ok(path)
}

/// The address in containerd's notation.
pub fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Go's `path.Join`: empty parts are dropped, slashes and dots normalised.
fn join(parts: &[&str]) -> String {
    let text = parts
        .iter()
        .filter(|p| !p.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join("/");
    let mut clean = PathBuf::new();
    for component in Path::new(&text).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    clean.push("..");
                }
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                clean.push(component)
            }
        }
    }
    clean.to_string_lossy().into_owned()
}

/// What an attempt to become the serving process led to.
#[derive(Debug)]
pub enum Claim {
    /// Nobody served: we do.
    Ours(UnixListener),
    /// Somebody serves there already.
    Served,
}

/// Binds `path`, or finds who serves it. Two callers may race: one binds, the other waits for the answer of the
/// process that is started then, because a bound socket takes connections into its backlog before anybody serves it.
/// Who serves stays for the container that is to come.
pub fn claim(path: &Path) -> io::Result<Claim> {
    if let Some(dir) = path.parent()
        && !dir.exists()
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    for _attempt in 0..2 {
        match listen_on(path) {
            Ok(listener) => return Ok(Claim::Ours(listener)),
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                if answers(path, &request(START_SERVICE, AWAIT, ""))? {
                    return Ok(Claim::Served);
                }
                remove(path)?;
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(
        ErrorKind::AddrInUse,
        format!(
            "{}: bound by another process that does not accept",
            path.display()
        ),
    ))
}

/// Whether somebody accepts connections at `path`.
pub fn accepts(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Asks who serves at `path` to end if it has no container, and tells whether anybody is there.
pub fn shut_down(path: &Path, id: &str) -> io::Result<bool> {
    answers(path, &request("containerd.task.v2.Task", "Shutdown", id))
}

/// Whether anybody serves at `path`. Accepting alone says little: the socket of a process that is being killed does
/// so until the kernel has come to its files. Nobody is there once a connection is refused; who is silent, or closes
/// connections, for [`PATIENCE`] is taken to be there.
fn answers(path: &Path, request: &[u8]) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        stream.set_read_timeout(Some(left))?;
        match stream
            .write_all(request)
            .and_then(|()| stream.read(&mut [0]))
        {
            Ok(1..) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
            Ok(0) | Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// A ttrpc frame: header (length, stream, type 1, no flags) and `ttrpc.Request`.
fn request(service: &str, method: &str, id: &str) -> Vec<u8> {
    let mut request = Writer::new();
    request.text(1, service);
    request.text(2, method);
    request.nested(3, |asked| asked.text(1, id));
    let body = request.into_bytes();
    let length = u32::try_from(body.len()).unwrap_or_default();
    [
        &length.to_be_bytes()[..],
        &1_u32.to_be_bytes(),
        &[1, 0],
        &body,
    ]
    .concat()
}

/// Binds and listens. Between bind and listen the file exists and refuses: a racing caller would take it for
/// dead and unlink it. So the socket listens under a name of our own, is made private there, and is then
/// linked to its place, which fails when that is taken: whoever sees it sees it accept.
fn listen_on(path: &Path) -> io::Result<UnixListener> {
    let own = path.with_file_name(format!("{}{}", own_prefix(path), std::process::id()));
    let _ = fs::remove_file(&own);
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&own)?)?;
    let placed = fs::set_permissions(&own, fs::Permissions::from_mode(0o600))
        .and_then(|()| listen(&fd, Backlog::MAXCONN).map_err(io::Error::from))
        .and_then(|()| match fs::hard_link(&own, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(ErrorKind::AddrInUse.into()),
            linked => linked,
        });
    let _ = fs::remove_file(&own);
    placed.map(|()| UnixListener::from(fd))
}

/// How the names begin under which a socket for `path` listens before it is in its place: shorter than the
/// place itself, and told from those of other sandboxes.
fn own_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{}.", name.chars().take(16).collect::<String>())
}

/// Removes the socket at `path`, which nobody serves, and what a killed [`claim`] has left beside it.
pub fn remove_dead(path: &Path) -> io::Result<()> {
    remove(path)?;
    let Some(dir) = path.parent() else {
        return Ok(());
    };
    let prefix = own_prefix(path);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let claimant = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if claimant.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_containerd_computes() {
        let expected =
            "/run/containerd/s/a99a1752d3a0fadfb1f869026f16760475df03a572e20f4ccea9e6c1e5470b72";
        assert_eq!(
            path(None, "/run/containerd/containerd.sock", "k8s.io", "abc").unwrap(),
            Path::new(expected)
        );
        assert_eq!(
            path(None, "/run//containerd/./containerd.sock", "k8s.io", "abc").unwrap(),
            Path::new(expected)
        );
    }

    #[test]
    fn a_directory_that_is_too_long_is_refused() {
        let dir = "/".to_owned() + &"d".repeat(60);
        assert!(
            path(Some(&dir), "/a", "n", "i")
                .unwrap_err()
                .contains("106")
        );
    }

    /// A directory of its own, a place in it, and the listener of who claimed that.
    fn claimed(name: &str) -> (PathBuf, PathBuf, UnixListener) {
        let dir = std::env::temp_dir().join(format!("rsrun-{name}-{}", std::process::id()));
        let path = dir.join("s");
        let Claim::Ours(listener) = claim(&path).unwrap() else {
            panic!("nobody serves it yet")
        };
        (dir, path, listener)
    }

    #[test]
    fn the_second_claim_finds_the_first_serving_and_a_dead_socket_is_taken_over() {
        let (dir, path, listener) = claimed("claim");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut header = [0; 10];
            stream.read_exact(&mut header).unwrap();
            stream.write_all(&header).unwrap();
            listener
        });
        assert!(matches!(claim(&path).unwrap(), Claim::Served));
        drop(serving.join().unwrap());
        assert!(
            matches!(claim(&path).unwrap(), Claim::Ours(_)),
            "the file alone does not serve"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_socket_that_is_closed_after_it_has_accepted_is_taken_over() {
        let (dir, path, listener) = claimed("dying");
        // As the kernel ends a process: what waits is let go, then nobody is there.
        let dying = thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)));
        dying.join().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn who_is_silent_is_there() {
        let (dir, path, _listener) = claimed("silent");
        assert!(matches!(claim(&path).unwrap(), Claim::Served));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_killed_claim_left_is_removed_and_a_living_one_s_is_not() {
        let dir = std::env::temp_dir().join(format!("rsrun-dead-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0123456789abcdef-and-more");
        let of = |pid: &str| dir.join(format!("{}{pid}", own_prefix(&path)));
        // No pid is that large.
        let (dead, living, other) = (
            of("4194305"),
            of("1"),
            dir.join(".fedcba9876543210.4194305"),
        );
        for file in [&path, &dead, &living, &other] {
            fs::write(file, "").unwrap();
        }
        remove_dead(&path).unwrap();
        assert_eq!(
            [&path, &dead, &living, &other].map(|file| file.exists()),
            [false, false, true, true]
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
