//! The state root: made by who opens it first, taken away by who leaves it last.
//!
//! Everyone who has it open holds a shared lock on it, so who gets the exclusive one is alone. A directory
//! that was taken away between its opening and the lock has no name any more, and is opened anew.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::lock::Lock;
use crate::error::{Context, Error, ErrorKind, Result};

/// More often than others can take it away between two calls.
const TRIES: u32 = 64;

/// A lock is taken on it: it has to be open for reading.
const ROOT_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Opens the root, creating it.
pub fn open(path: &Path) -> Result<Lock> {
    for _ in 0..TRIES {
        let made = match make_path(path) {
            // Taken away between mkdir and open.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound { .. }) => continue,
            made => made?,
        };
        if let Some(root) = locked(made, path)? {
            return Ok(root);
        }
    }
    Err(ever_taken_away())
}

/// Opens the root if it is there.
pub fn find(path: &Path) -> Result<Option<Lock>> {
    absolute(path)?;
    for _ in 0..TRIES {
        let found = match openat(AT_FDCWD, path, ROOT_FLAGS, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::os(errno, format!("open({})", path.display()))),
        };
        if let Some(root) = locked(found, path)? {
            return Ok(Some(root));
        }
    }
    Err(ever_taken_away())
}

/// `None` if it was taken away before it could be locked.
fn locked(root: OwnedFd, path: &Path) -> Result<Option<Lock>> {
    let root = Lock::share(root).with(|| format!("flock({})", path.display()))?;
    let links = fstat(&root).with(|| "fstat")?.st_nlink;
    Ok((links > 0).then_some(root))
}

fn ever_taken_away() -> Error {
    Error::new(
        ErrorKind::Internal,
        "it is taken away each time that it is made",
    )
}

fn absolute(path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} is not an absolute path",
        path.display()
    )))
}

/// Takes it away if nothing is in it and nobody else has it open. With its lock it is not to be used any more: of
/// two who leave at once, one has to find itself alone.
pub fn leave(root: &Lock, path: &Path) {
    if !root.take_if_alone() {
        return;
    }
    // Not empty: there are containers that no process of ours has. Who comes for them must not wait for our end.
    if unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir).is_err() {
        let _ = root.share_again();
    }
}

/// mkdir -p. Parents 0711, the last 0700; what exists stays as it is.
fn make_path(path: &Path) -> Result<OwnedFd> {
    absolute(path)?;
    let make = || mkdirat(AT_FDCWD, path, Mode::S_IRWXU);
    let made = match make() {
        Err(Errno::ENOENT) => {
            make_parents(path)?;
            make()
        }
        made => made,
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Error::os(errno, format!("mkdir({})", path.display()))),
    }
    openat(AT_FDCWD, path, ROOT_FLAGS, Mode::empty()).with(|| format!("open({})", path.display()))
}

fn make_parents(path: &Path) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = openat(AT_FDCWD, "/", flags, Mode::empty()).with(|| "open(/)")?;
    let parents = path.parent().into_iter().flat_map(Path::components);
    for part in parents.skip(1) {
        match mkdirat(&dir, part.as_os_str(), Mode::from_bits_truncate(0o711)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::os(errno, format!("mkdir({})", path.display()))),
        }
        dir = openat(&dir, part.as_os_str(), flags, Mode::empty())
            .with(|| format!("open({})", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::id::ContainerId;
    use crate::process::Cancel;
    use crate::store::Store;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("rsrun-root-{}-{name}", std::process::id()))
    }

    #[test]
    fn who_leaves_last_takes_the_root_away() {
        let path = place("last");
        let (first, second) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
        assert!(!path.exists(), "nobody has a container yet");
        first.make_root().unwrap();
        second.make_root().unwrap();
        first.leave();
        assert!(path.is_dir());
        second.leave();
        assert!(!path.exists());
        // And the next one makes it again.
        let third = Store::open(&path).unwrap();
        third.make_root().unwrap();
        third.leave();
        assert!(!path.exists());
    }

    #[test]
    fn a_root_with_a_container_stays() {
        let path = place("full");
        let id = ContainerId::parse("c").unwrap();
        let store = Store::open(&path).unwrap();
        store.reserve(&id, &Cancel::new().unwrap()).unwrap();
        store.leave();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.names().unwrap(), std::slice::from_ref(&id));
        store.remove(&id, &store.entry(&id).unwrap()).unwrap();
        store.leave();
        assert!(!path.exists());
    }

    #[test]
    fn nobody_is_left_with_a_root_that_was_taken_away() {
        let path = place("race");
        let id = |n: usize| ContainerId::parse(&format!("c{n}")).unwrap();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (path, id) = (&path, id(n));
                scope.spawn(move || {
                    for _ in 0..200 {
                        let store = Store::open(path).unwrap();
                        let (entry, _lock) = store.reserve(&id, &Cancel::new().unwrap()).unwrap();
                        assert!(path.join(id.as_str()).is_dir());
                        store.remove(&id, &entry).unwrap();
                        store.leave();
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
