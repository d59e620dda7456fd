//! State on disk: `<root>/<id>/{state.json, exit.json, exec.fifo, lock, cgroup}`.
//!
//! A directory descriptor is held for everything; names below it are the constants of this file. What
//! is written is written beside and renamed, so a reader finds the old or the new, never a half.

pub(crate) mod lock;
pub mod record;
mod root;
pub mod status;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat, renameat2,
};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use self::lock::Lock;
use self::record::Record;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::process::{Cancel, Exit};
use crate::sys::directory::entries;
use crate::sys::fds::read_all;

const STATE: &str = "state.json";
const EXIT: &str = "exit.json";
const FIFO: &str = "exec.fifo";
const LOCK: &str = "lock";
const CGROUP: &str = "cgroup";

/// All that an [`Entry`] writes, and what a death in the middle of it leaves.
const HELD: [&str; 7] = [
    STATE,
    ".state.json.new",
    EXIT,
    ".exit.json.new",
    FIFO,
    CGROUP,
    LOCK,
];

/// Between two tries to take a name that somebody deletes.
const PAUSE: Duration = Duration::from_millis(1);

/// A record holds the facts for exec, among them a compiled seccomp profile; nothing near this size.
const LARGEST_RECORD: i64 = 64 << 20;

/// The state root: a directory of containers.
#[derive(Debug)]
pub struct Store {
    /// Not there before the first container is made.
    root: OnceLock<Lock>,
    path: PathBuf,
}

impl Store {
    /// Opens the root if it is there. It is made with its first container: 0700, its parents 0711.
    pub fn open(path: &Path) -> Result<Self> {
        let found = root::find(path).with(|| format!("state root {}", path.display()))?;
        let root = OnceLock::new();
        if let Some(found) = found {
            let _ = root.set(found);
        }
        Ok(Self {
            root,
            path: path.to_owned(),
        })
    }

    /// Makes the root, unless it is there.
    pub fn make_root(&self) -> Result<&Lock> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let made = root::open(&self.path).with(|| format!("state root {}", self.path.display()))?;
        Ok(self.root.get_or_init(|| made))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of it: the root goes too, if nothing is in it and nobody else has it open.
    pub fn leave(&self) {
        if let Some(root) = self.root.get() {
            root::leave(root, &self.path);
        }
    }

    /// Takes the name `id`: makes its directory and locks it. `AlreadyExists` if it is taken.
    pub fn reserve(&self, id: &ContainerId, cancel: &Cancel) -> Result<(Entry, Lock)> {
        loop {
            match mkdirat(self.make_root()?, id.as_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => return Err(taken(id)),
                Err(errno) => {
                    let path = self.path.join(id.as_str());
                    return Err(Error::os(errno, format!("mkdir({})", path.display())));
                }
            }
            match self.first_in(id, cancel) {
                // A delete was here before anybody could see that it is in use.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound { .. }) => cancel.pause(PAUSE)?,
                first => {
                    return first.inspect_err(|_| {
                        // Where nothing is in it, it is nobody's.
                        let _ = self.unlink(id);
                    });
                }
            }
        }
    }

    /// The lock of a directory in which nobody has created a container yet. `NotFound` where it has gone, `AlreadyExists`
    /// where another create had the lock before.
    fn first_in(&self, id: &ContainerId, cancel: &Cancel) -> Result<(Entry, Lock)> {
        let entry = self.entry(id)?;
        let lock = match entry.lock(cancel) {
            Err(_) if entry.is_gone()? => return Err(not_found(id.as_str())),
            locked => locked?,
        };
        if entry.is_gone()? {
            return Err(not_found(id.as_str()));
        }
        match fstatat(&entry.dir, STATE, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok((entry, lock)),
            Err(errno) => Err(Error::os(errno, format!("stat({})", entry.at(STATE)))),
            Ok(_) => Err(taken(id)),
        }
    }

    /// The directory of `id`. `NotFound` "container does not exist".
    pub fn entry(&self, id: &ContainerId) -> Result<Entry> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let opened = match self.root.get() {
            Some(root) => openat2(root, id.as_str(), how),
            None => Err(Errno::ENOENT),
        };
        match opened {
            Ok(dir) => Ok(Entry {
                dir,
                path: self.path.join(id.as_str()),
            }),
            Err(Errno::ENOENT) => Err(not_found(id.as_str())),
            Err(errno) => Err(Error::os(
                errno,
                format!("open({})", self.path.join(id.as_str()).display()),
            )),
        }
    }

    /// Names below the root, sorted; what is no directory or no valid name is left out.
    pub fn names(&self) -> Result<Vec<ContainerId>> {
        let mut names = Vec::new();
        let Some(root) = self.root.get() else {
            return Ok(names);
        };
        let entries =
            entries(root.as_fd()).with(|| format!("getdents64({})", self.path.display()))?;
        for entry in entries {
            let name = entry.name.to_str().ok();
            names.extend(name.and_then(|name| ContainerId::parse(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Forgets `id`: removes what its entry holds, then the directory. It takes no descriptor: want of them may be why
    /// it is called.
    pub fn remove(&self, id: &ContainerId, entry: &Entry) -> Result<()> {
        HELD.iter().try_for_each(|name| entry.unlink(name))?;
        if entry.is_gone()? {
            // The name may be another's already.
            return Ok(());
        }
        match self.unlink(id) {
            // Whoever wrote it there, it would keep the name taken for ever.
            Err(Errno::ENOTEMPTY) => {
                entry
                    .names()?
                    .iter()
                    .try_for_each(|name| entry.unlink(name))?;
                self.unlink(id)
            }
            removed => removed,
        }
        .with(|| format!("rmdir({})", entry.path.display()))
    }

    fn unlink(&self, id: &ContainerId) -> nix::Result<()> {
        let root = self.root.get().ok_or(Errno::ENOENT)?;
        match unlinkat(root, id.as_str(), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            removed => removed,
        }
    }
}

/// Where the next content of the file `name` is written.
fn new_of(name: &str) -> String {
    format!(".{name}.new")
}

fn taken(id: &ContainerId) -> Error {
    let text = format!("container with given ID already exists: {id}");
    Error::new(ErrorKind::AlreadyExists, text)
}

fn not_found(id: &str) -> Error {
    Error::not_found("container", format!("container {id} does not exist"))
}

/// The directory of one container.
#[derive(Debug)]
pub struct Entry {
    dir: OwnedFd,
    path: PathBuf,
}

impl Entry {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was removed since it was opened.
    pub fn is_gone(&self) -> Result<bool> {
        let found = fstat(&self.dir).with(|| format!("fstat({})", self.path.display()))?;
        Ok(found.st_nlink == 0)
    }

    /// What is said of a container that is gone.
    pub fn not_found(&self) -> Error {
        let id = self.path.file_name().unwrap_or_default();
        not_found(&id.to_string_lossy())
    }

    /// Takes the container's lock; held until dropped. Start, exec and delete of one container
    /// exclude each other by it, also between processes.
    pub fn lock(&self, cancel: &Cancel) -> Result<Lock> {
        let lock = self.lock_until(None, cancel)?;
        // Without a deadline it is had or given up.
        lock.ok_or_else(|| Error::new(ErrorKind::Internal, "the lock was not taken"))
    }

    /// The same, at most until `deadline`: `None` if another process has it still.
    pub fn lock_until(&self, deadline: Option<Instant>, cancel: &Cancel) -> Result<Option<Lock>> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.dir, LOCK, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .with(|| format!("open({})", self.path.join(LOCK).display()))?;
        Lock::take_until(file, deadline, cancel)
            .with(|| format!("lock {}", self.path.join(LOCK).display()))
    }

    /// Reads the record. `Corrupt` when it is damaged, missing or newer than this program.
    pub fn record(&self) -> Result<Record> {
        let corrupt = |text: String| {
            Error::new(
                ErrorKind::Corrupt {
                    path: self.at(STATE),
                },
                text,
            )
        };
        let text = match self.read(STATE) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound { .. }) => {
                return Err(corrupt(format!(
                    "{} is missing: the container was never complete",
                    self.at(STATE)
                )));
            }
            Err(e) => return Err(e),
        };
        Record::parse(&text).map_err(|e| corrupt(format!("{}: {e}", self.at(STATE))))
    }

    /// Writes the record.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        self.replace(STATE, &record.to_json()?)
    }

    /// Writes the record beside the one that holds, until [`Self::commit_record`].
    pub fn stage_record(&self, record: &Record) -> Result<()> {
        self.stage(STATE, &record.to_json()?)
    }

    /// Has the record hold that was staged last.
    pub fn commit_record(&self) -> Result<()> {
        // The intent stays beside it: whoever waits for this need not wait for its end.
        self.commit(STATE).map(drop)
    }

    /// The recorded exit of the init.
    pub fn exit(&self) -> Option<Exit> {
        serde_json::from_slice(&self.read(EXIT).ok()?).ok()
    }

    /// Records the exit of the init.
    pub fn write_exit(&self, exit: &Exit) -> Result<()> {
        let text =
            serde_json::to_vec(exit).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
        self.replace(EXIT, &text)
    }

    /// Notes which cgroup is the container's, in one system call and beside the record: what is left
    /// of a container can be killed even when its record can't be read.
    pub fn link_cgroup(&self, path: &str, inode: u64) -> Result<()> {
        let text = format!("{inode}:{path}");
        nix::unistd::symlinkat(text.as_str(), &self.dir, CGROUP)
            .with(|| format!("symlink({})", self.at(CGROUP)))
    }

    /// Path and inode of the container's cgroup, as noted.
    pub fn cgroup_link(&self) -> Option<(String, u64)> {
        let text = nix::fcntl::readlinkat(&self.dir, CGROUP).ok()?;
        let (inode, path) = text.to_str()?.split_once(':')?;
        Some((path.to_owned(), inode.parse().ok()?))
    }

    /// Makes the fifo of the gate, 0622, owned by the container's root: its init opens it for
    /// writing after it has changed identity.
    pub fn make_fifo(&self, uid: u32, gid: u32) -> Result<OwnedFd> {
        let mode = Mode::from_bits_truncate(0o622);
        let doing = |call: &str| format!("{call}({})", self.at(FIFO));
        nix::sys::stat::mknodat(&self.dir, FIFO, SFlag::S_IFIFO, mode, 0)
            .with(|| doing("mkfifo"))?;
        let fifo = self.fifo()?;
        // mknod applied our caller's umask, which the core does not change (I4).
        nix::sys::stat::fchmodat(
            &self.dir,
            FIFO,
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .with(|| doing("chmod"))?;
        let (uid, gid) = (
            nix::unistd::Uid::from_raw(uid),
            nix::unistd::Gid::from_raw(gid),
        );
        nix::unistd::fchownat(&fifo, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
            .with(|| doing("chown"))?;
        Ok(fifo)
    }

    /// The fifo, O_PATH. `NotFound` after start.
    pub fn fifo(&self) -> Result<OwnedFd> {
        openat(
            &self.dir,
            FIFO,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .with(|| format!("open({})", self.at(FIFO)))
    }

    /// The fifo opened for reading without waiting for the other end: this opens the gate.
    pub fn open_gate(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.dir, FIFO, flags, Mode::empty()).with(|| format!("open({})", self.at(FIFO)))
    }

    /// Removes the fifo: the gate opens once.
    pub fn remove_fifo(&self) -> Result<()> {
        self.unlink(FIFO)
    }

    fn unlink(&self, name: &str) -> Result<()> {
        match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os(errno, format!("unlink({})", self.at(name)))),
        }
    }

    fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries =
            entries(self.dir.as_fd()).with(|| format!("getdents64({})", self.path.display()))?;
        let names = entries.into_iter();
        Ok(names
            .filter_map(|entry| entry.name.into_string().ok())
            .collect())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::empty())
            .with(|| format!("open({})", self.at(name)))?;
        let stat = fstat(&file).with(|| format!("fstat({})", self.at(name)))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG
            || stat.st_size > LARGEST_RECORD
        {
            let kind = ErrorKind::Corrupt {
                path: self.at(name),
            };
            return Err(Error::new(
                kind,
                format!("{} is no file that this program wrote", self.at(name)),
            ));
        }
        let mut content = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
        read_all(&file, &mut content).with(|| format!("read({})", self.at(name)))?;
        Ok(content)
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        self.stage(name, content)?;
        if self.commit(name)? {
            // What stays is written over by the next, and goes with the directory.
            let _ = unlinkat(&self.dir, new_of(name).as_str(), UnlinkatFlags::NoRemoveDir);
        }
        Ok(())
    }

    fn stage(&self, name: &str, content: &[u8]) -> Result<()> {
        let new = new_of(name);
        let written = self.write_new(&new, content);
        self.gone_unless(written, &new)
    }

    /// Gives what was staged its name. Where there is a file of that name already they change places: for a rename onto a
    /// file that exists ext4 sends the new one to the disk at once, and its removal waits for the disk (1.3 ms of a short
    /// container's life; ext4(5), auto_da_alloc). Says whether there was one, which is where the new one was now.
    fn commit(&self, name: &str) -> Result<bool> {
        let new = new_of(name);
        let (dir, flags) = (&self.dir, RenameFlags::RENAME_EXCHANGE);
        let put = match renameat2(dir, new.as_str(), dir, name, flags) {
            Ok(()) => Ok(true),
            // There is none yet, or this file system can't.
            Err(_) => renameat(dir, new.as_str(), dir, name).map(|()| false),
        };
        self.gone_unless(put.with(|| format!("rename({})", self.at(name))), &new)
    }

    /// The old one stays as it was; a half-written one, or one that can't be put in its place, must not stay at all.
    fn gone_unless<T>(&self, done: Result<T>, new: &str) -> Result<T> {
        done.inspect_err(|_| {
            let _ = unlinkat(&self.dir, new, UnlinkatFlags::NoRemoveDir);
        })
    }

    fn write_new(&self, name: &str, content: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .with(|| format!("open({})", self.at(name)))?;
        // No fsync: a rename is all that the death of a process can tear, and after a power cut no
        // container is left of which the record could tell. What a disk then shows instead (an empty
        // file, an old boot id) is recognised and can be deleted. Where the root is no tmpfs, three
        // of them were a quarter of a short container's life.
        write_all(file.as_fd(), content).with(|| format!("write({})", self.at(name)))
    }
}

pub(crate) fn write_all(file: BorrowedFd<'_>, mut content: &[u8]) -> nix::Result<()> {
    while !content.is_empty() {
        match nix::unistd::write(file, content) {
            Ok(0) => return Err(Errno::EIO),
            Ok(length) => content = content.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
