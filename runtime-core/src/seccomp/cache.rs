//! Compiled profiles kept on disk: libseccomp takes 13 ms for the profile that containerd sends, ten
//! times as long as all else of a create.
//!
//! A program is kept under the digest of everything it was made from, with a digest of its own: what
//! was cut off or damaged is not used but compiled anew. Whoever can write the directory (root, 0700)
//! can do more than loosen a filter.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::LinuxSeccomp;
use rsrun_init::step::FilterLine;
use sha2::{Digest, Sha256};

use super::{LONGEST, from_bytes, to_bytes};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::directory::entries;

/// Raised when the same profile compiles to something else than before.
const FORMAT: &str = "rsrun seccomp 1";

/// A node has a handful of profiles; when there are more, all are dropped and made anew.
const MOST_PROGRAMS: usize = 64;

const DIGEST: usize = 32;

/// The directory of compiled profiles.
#[derive(Debug)]
pub struct Cache {
    directory: OwnedFd,
}

impl Cache {
    /// Opens (and creates, 0700) the directory; the one above it exists.
    pub fn open(path: &Path) -> Result<Self> {
        match mkdirat(nix::fcntl::AT_FDCWD, path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::os(errno, format!("mkdir {}", path.display()))),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        #[allow(
            clippy::disallowed_methods,
            reason = "I11: below the state root, which is ours; not through a link"
        )]
        let directory =
            open(path, flags, Mode::empty()).with(|| format!("open {}", path.display()))?;
        Ok(Self { directory })
    }

    /// The program that was kept for `profile`, or what `compile` makes, which is then kept. That it
    /// can't be kept is no failure.
    pub(super) fn lines(
        &self,
        profile: &LinuxSeccomp,
        compile: impl FnOnce() -> Result<Vec<FilterLine>>,
    ) -> Result<Vec<FilterLine>> {
        let name = name_of(profile)?;
        if let Some(lines) = self.kept(&name) {
            return Ok(lines);
        }
        let lines = compile()?;
        if let Err(error) = self.keep(&name, &lines) {
            log::debug!("a compiled seccomp profile was not kept: {error}");
        }
        Ok(lines)
    }

    fn kept(&self, name: &str) -> Option<Vec<FilterLine>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty()).ok()?;
        let mut content = Vec::new();
        let most = (LONGEST * 8 + DIGEST + 1) as u64;
        File::from(file).take(most).read_to_end(&mut content).ok()?;
        let (digest, bytes) = content.split_at_checked(DIGEST)?;
        if Sha256::digest(bytes).as_slice() != digest {
            return None;
        }
        from_bytes(bytes).ok()
    }

    fn keep(&self, name: &str, lines: &[FilterLine]) -> Result<()> {
        self.make_room()?;
        let directory = self.directory.as_fd();
        // Two creates may do so at once: each has a file of its own until the rename.
        let thread = std::thread::current().id();
        let temporary = format!(".{name}.{}.{thread:?}", std::process::id());
        let written = write(directory, &temporary, lines).and_then(|()| {
            renameat(directory, temporary.as_str(), directory, name).with(|| "rename")
        });
        if written.is_err() {
            // What is left behind is dropped when room is made.
            let _ = unlinkat(directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    fn make_room(&self) -> Result<()> {
        let names = entries(self.directory.as_fd()).with(|| "getdents64 \".\"")?;
        if names.len() < MOST_PROGRAMS {
            return Ok(());
        }
        for entry in names {
            let name = entry.name;
            match unlinkat(&self.directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::os(errno, format!("unlink {name:?}"))),
            }
        }
        Ok(())
    }
}

fn write(directory: BorrowedFd<'_>, name: &str, lines: &[FilterLine]) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let file = openat(directory, name, flags | OFlag::O_CLOEXEC, mode).with(|| "create")?;
    let bytes = to_bytes(lines);
    let mut content = Sha256::digest(&bytes).to_vec();
    content.extend(bytes);
    File::from(file)
        .write_all(&content)
        .map_err(|cause| Error::new(ErrorKind::Internal, "write").caused_by(cause))
}

/// The digest of all that a program is made from: the profile, libseccomp, this machine.
fn name_of(profile: &LinuxSeccomp) -> Result<String> {
    let text = serde_json::to_vec(profile)
        .map_err(|cause| Error::new(ErrorKind::Internal, "write the profile").caused_by(cause))?;
    let version = libseccomp::ScmpVersion::current().map(|v| v.to_string());
    let mut digest = Sha256::new();
    for part in [FORMAT, &version.unwrap_or_default(), std::env::consts::ARCH] {
        digest.update(part);
        digest.update([0]);
    }
    digest.update(text);
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("seccomp-{}-{number}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn profile(name: &str) -> LinuxSeccomp {
        serde_json::from_value(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": [name], "action": "SCMP_ACT_ALLOW"}],
        }))
        .unwrap()
    }

    fn never() -> Result<Vec<FilterLine>> {
        panic!("it is compiled though it was kept")
    }

    fn lines() -> Vec<FilterLine> {
        let line = |k| FilterLine {
            code: 6,
            jt: 1,
            jf: 2,
            k,
        };
        (0..3).map(line).collect()
    }

    #[test]
    fn a_profile_is_compiled_once_and_another_one_by_itself() {
        let directory = Directory::new();
        let cache = Cache::open(&directory.0).unwrap();
        assert_eq!(
            cache.lines(&profile("read"), || Ok(lines())).unwrap(),
            lines()
        );
        let again = Cache::open(&directory.0).unwrap();
        assert_eq!(again.lines(&profile("read"), never).unwrap(), lines());
        assert_eq!(again.lines(&profile("write"), || Ok(vec![])).unwrap(), []);
        assert_eq!(directory.files().len(), 2);
    }

    #[test]
    fn what_is_damaged_is_compiled_anew() {
        let directory = Directory::new();
        let cache = Cache::open(&directory.0).unwrap();
        cache.lines(&profile("read"), || Ok(lines())).unwrap();
        let file = directory.files().remove(0);
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        changed[DIGEST + 4] ^= 1;
        for content in [
            &whole[..0],
            &whole[..20],
            &whole[..DIGEST],
            &whole[..40],
            &changed,
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(
                cache.lines(&profile("read"), || Ok(lines())).unwrap(),
                lines()
            );
            assert_eq!(std::fs::read(&file).unwrap(), whole);
        }
    }

    #[test]
    fn the_number_of_programs_is_bounded() {
        let directory = Directory::new();
        let cache = Cache::open(&directory.0).unwrap();
        for number in 0..3 * MOST_PROGRAMS {
            let name = format!("call{number}");
            cache.lines(&profile(&name), || Ok(lines())).unwrap();
        }
        assert!(directory.files().len() <= MOST_PROGRAMS);
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let (directory, link) = (Directory::new(), Directory::new());
        std::fs::create_dir(&directory.0).unwrap();
        std::os::unix::fs::symlink(&directory.0, &link.0).unwrap();
        assert!(Cache::open(&link.0).is_err());
        std::fs::remove_file(&link.0).unwrap();
    }
}
