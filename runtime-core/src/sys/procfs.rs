//! Procfs, of which nobody can redirect a part to elsewhere (I11).
//!
//! What is written or followed goes through an instance of our own, on a detached mount: nobody can mount over it. It takes the kernel
//! 0.03 ms to make one, and a grace period of RCU to take it away again. So what is only read is read below `/proc`, where that
//! is found to be what it should be, and where something is mounted on the way our own is asked instead.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::mount::{fsconfig_create, fsmount, fsopen};

/// Of the root of a procfs (PROC_ROOT_INO).
const INODE: u64 = 1;

/// The one that is asked.
#[derive(Clone, Debug)]
enum Root {
    /// `/proc`, until the other is needed.
    Usual(Arc<OwnedFd>),
    /// Our own.
    Own(Arc<OwnedFd>),
}

impl Root {
    /// Made at the first call; `/proc` does too for who does not need our own.
    fn get(needs_own: bool) -> nix::Result<Self> {
        static ROOT: RwLock<Option<Root>> = RwLock::new(None);
        let does = |found: &Self| !needs_own || matches!(found, Self::Own(_));
        let found = ROOT.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(found) = found.filter(does) {
            return Ok(found);
        }
        let mut root = ROOT.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made it meanwhile.
        if let Some(found) = root.clone().filter(does) {
            return Ok(found);
        }
        let usual = (!needs_own).then(find_usual).flatten();
        let found = match usual {
            Some(usual) => Self::Usual(Arc::new(usual)),
            None => Self::Own(Arc::new(own()?)),
        };
        Ok(root.insert(found).clone())
    }

    fn open(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let (Self::Usual(root) | Self::Own(root)) = self;
        open_below(root, path, flags)
    }
}

/// Opens `path` of the procfs at `root`, over no link and no mount.
fn open_below(root: &OwnedFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC);
    openat2(root, path, how.resolve(resolve))
}

/// The root of a detached procfs of this process's pid namespace.
fn own() -> nix::Result<OwnedFd> {
    let context = fsopen(c"proc")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), 0)
}

/// `/proc`, if it is the root of a procfs.
#[allow(
    clippy::disallowed_methods,
    reason = "I11: a mount point of the host, which is looked at"
)]
fn find_any() -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/proc", flags, Mode::empty()).ok()?;
    let is_procfs = fstatfs(&root).ok()?.filesystem_type() == PROC_SUPER_MAGIC;
    let is_whole = fstat(&root).ok()?.st_ino == INODE;
    (is_procfs && is_whole).then_some(root)
}

/// `/proc`, if it is the root of a procfs of our own pid namespace: where `NSpid` of `self/status` (proc(5), Linux 4.1) tells one
/// pid. The procfs of a namespace around ours tells several, and any other has no `self`.
fn find_usual() -> Option<OwnedFd> {
    let root = find_any()?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC);
    let status = openat2(&root, "self/status", how.resolve(resolve)).ok()?;
    let is_ours = has_one_pid(&first_page(&status).ok()?);
    is_ours.then_some(root)
}

/// Whether this is the status of a process that has one pid, in all namespaces that its reader knows of.
fn has_one_pid(status: &str) -> bool {
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_some_and(|pids| pids.split_ascii_whitespace().count() == 1)
}

/// Opens `path` of procfs, without following links (`self` and `thread-self` too).
pub fn open(path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let is_read = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
    let root = Root::get(!is_read)?;
    match root.open(path, flags) {
        // Something is mounted there; or it was mounted so that this is not to be seen (subset=pid, hidepid), which is no
        // fact about a process.
        Err(errno @ (Errno::EXDEV | Errno::ENOENT | Errno::EPERM | Errno::EACCES))
            if matches!(root, Root::Usual(_)) =>
        {
            Root::get(true).map_err(|_| errno)?.open(path, flags)
        }
        found => found,
    }
}

/// Opens what a link of procfs refers to (`PID/ns/user`, `PID/root`): the link itself leads out of
/// procfs, so its directory is opened first, in our own, and only the last part is followed.
pub fn open_link(path: &str) -> nix::Result<OwnedFd> {
    let (directory, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
    let directory = Root::get(true)?.open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let flags = if name == "root" {
        OFlag::O_PATH
    } else {
        OFlag::O_RDONLY
    };
    openat2(
        directory,
        name,
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC),
    )
}

/// Writes `text` to `path` in one write(2), as procfs wants it.
pub fn write(path: &str, text: &str) -> nix::Result<()> {
    let file = open(path, OFlag::O_WRONLY)?;
    let written = nix::unistd::write(&file, text.as_bytes())?;
    if written == text.len() {
        Ok(())
    } else {
        Err(Errno::EIO)
    }
}

/// Reads the start of `path`, at most a page.
pub fn read(path: &str) -> nix::Result<String> {
    first_page(&open(path, OFlag::O_RDONLY)?)
}

fn first_page(file: &OwnedFd) -> nix::Result<String> {
    let mut buffer = [0u8; 4096];
    let length = nix::unistd::read(file, &mut buffer)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

/// Reads all of `path`: more than a page takes several calls.
pub fn read_all(path: &str) -> nix::Result<String> {
    let file = open(path, OFlag::O_RDONLY)?;
    let mut text = Vec::new();
    super::fds::read_all(&file, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The id of this boot: facts of another name nothing today. It is the same in each procfs, whosever it is.
pub fn boot_id() -> nix::Result<String> {
    const PATH: &str = "sys/kernel/random/boot_id";
    let found = find_any().and_then(|root| open_below(&root, PATH, OFlag::O_RDONLY).ok());
    let file = match found {
        Some(file) => file,
        None => open(PATH, OFlag::O_RDONLY)?,
    };
    Ok(first_page(&file)?.trim().to_owned())
}

/// What `/proc/PID/stat` says of a process, as far as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `Z` for a zombie, `R`, `S`, …
    pub state: char,
    /// Kernel flags (`PF_*`).
    pub flags: u32,
    /// Start time in clock ticks after boot: with the pid it names a process for good.
    pub start_time: u64,
}

/// Set from fork until the first execve.
const PF_FORKNOEXEC: u32 = 0x40;
/// Set when exit begins.
const PF_EXITING: u32 = 0x4;

impl Stat {
    /// Reads it. `ENOENT` or `ESRCH` when there is no such process.
    pub fn of(pid: i32) -> nix::Result<Self> {
        Self::parse(&read(&format!("{pid}/stat"))?).ok_or(Errno::EIO)
    }

    /// The command name may hold anything, so fields are counted after the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text
            .get(text.rfind(')')?.checked_add(1)?..)?
            .split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let flags = fields.nth(5)?.parse().ok()?;
        let start_time = fields.nth(12)?.parse().ok()?;
        Some(Self {
            state,
            flags,
            start_time,
        })
    }

    /// Whether the process has executed a program since it was cloned.
    #[must_use]
    pub fn has_executed(&self) -> bool {
        self.flags & PF_FORKNOEXEC == 0
    }

    /// Whether it is on its way out: the init of a pid namespace kills all others before it has ended.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// Whether it has ended and waits to be reaped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_after_the_last_parenthesis() {
        let line = "12 (a) b) c) Z 1 12 12 0 -1 4194316 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'Z',
                flags: 4_194_316,
                start_time: 987_654
            }
        );
        assert!(stat.has_ended() && stat.has_executed());
    }

    #[test]
    fn who_has_several_pids_is_read_from_an_outer_namespace() {
        assert!(has_one_pid("Name:\tx\nNStgid:\t7\nNSpid:\t7\nNSpgid:\t1\n"));
        assert!(!has_one_pid("Name:\tx\nNSpid:\t417\t7\nNSpgid:\t1\n"));
        assert!(!has_one_pid("Name:\tx\nNSpid:\n"));
        assert!(!has_one_pid("Name:\tx\n"));
    }

    #[test]
    fn garbage_is_no_stat() {
        assert_eq!(Stat::parse(""), None);
        assert_eq!(Stat::parse("1 (x)"), None);
        assert_eq!(Stat::parse("1 (x) S 1 2"), None);
    }
}
