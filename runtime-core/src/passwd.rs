//! The home directory of a user by the container's own /etc/passwd.
//!
//! The file comes with the image, so it may be anything: a fifo, a device that does something when it
//! is opened, a link to /proc/kmsg, four gigabytes of nothing (CVE-2026-47262). It is looked up below
//! the container's root, judged before it is opened, and read with a bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use crate::error::{Context, Error, ErrorKind, Result};

/// The most that is read. A real one has some ten kilobytes.
const LARGEST: u64 = 4 << 20;

/// The longest line that is understood; a longer one is no user of ours.
const LONGEST_LINE: usize = 4096;

/// The home directory of `uid` below `root`; `None` when there is no file or no such user.
pub fn home_below(root: BorrowedFd<'_>, uid: u32) -> Result<Option<String>> {
    match open_file(root).with(|| "open /etc/passwd of the container")? {
        None => Ok(None),
        Some(file) => home_in(file.take(LARGEST), uid),
    }
}

/// The file, once it is known to be a plain one. Opening is done last: opening some devices acts.
fn open_file(root: BorrowedFd<'_>) -> Result<Option<File>> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found: OwnedFd = match openat2(root, "etc/passwd", how) {
        Ok(found) => found,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(Error::os(errno, "openat2(root, \"etc/passwd\")")),
    };
    let stat = fstat(&found).with(|| "fstat")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    // A masked file is the host's /dev/null: nobody is in it.
    if kind == SFlag::S_IFCHR && stat.st_rdev == nix::libc::makedev(1, 3) {
        return Ok(None);
    }
    let filesystem = fstatfs(found.as_fd()).with(|| "fstatfs")?.filesystem_type();
    if kind != SFlag::S_IFREG || filesystem == PROC_SUPER_MAGIC || filesystem == SYSFS_MAGIC {
        return Err(refused("it is not a regular file"));
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > LARGEST) {
        return Err(refused("it is larger than 4 MiB"));
    }
    let name = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    #[allow(
        clippy::disallowed_methods,
        reason = "I11: opens anew what the descriptor is, whose inode was looked at"
    )]
    let file = open(name.as_str(), flags, Mode::empty()).with(|| "open")?;
    Ok(Some(File::from(file)))
}

fn refused(why: &str) -> Error {
    Error::invalid(why)
}

/// Reads line by line in one buffer; what does not fit is passed over.
fn home_in(mut file: impl Read, uid: u32) -> Result<Option<String>> {
    let mut buffer = [0_u8; LONGEST_LINE];
    let mut filled = 0;
    let mut too_long = false;
    loop {
        let free = buffer.get_mut(filled..).unwrap_or_default();
        let read = file
            .read(free)
            .map_err(|cause| Error::new(ErrorKind::Internal, "read").caused_by(cause))?;
        let end = read == 0;
        filled += read;
        let mut start = 0;
        while let Some(length) = buffer[start..filled].iter().position(|b| *b == b'\n') {
            let line = &buffer[start..start + length];
            if let Some(home) = home_of(line, uid).filter(|_| !too_long) {
                return Ok(Some(home));
            }
            too_long = false;
            start += length + 1;
        }
        if end {
            let rest = &buffer[start..filled];
            return Ok(home_of(rest, uid).filter(|_| !too_long));
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled == buffer.len() {
            too_long = true;
            filled = 0;
        }
    }
}

/// `name:password:uid:gid:gecos:home:shell`
fn home_of(line: &[u8], uid: u32) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let found = fields.nth(2)?;
    let digits = !found.is_empty() && found.bytes().all(|b| b.is_ascii_digit());
    if !digits || found.parse() != Ok(uid) {
        return None;
    }
    let home = fields.nth(2)?;
    (!home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives its text in pieces of one length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let length = self.1.min(self.0.len()).min(into.len());
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    const FILE: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        4294967296:x:0x3e8:1::/wrong:/bin/sh\n\
        long:x:7:7:::\n\
        app:x:1000:1000:App:/srv/app:/bin/false\n\
        last:x:1001:1001::/last:";

    #[test]
    fn the_home_of_a_number_is_found_in_any_piecing() {
        for piece in 1..200 {
            for (uid, home) in [
                (0, Some("/root")),
                (1000, Some("/srv/app")),
                (1001, Some("/last")),
                (7, None),
                (42, None),
            ] {
                let found = home_in(Pieces(FILE.as_bytes(), piece), uid).unwrap();
                assert_eq!(found.as_deref(), home, "{uid} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_nobody_and_hides_nobody() {
        let tail = ":x:5:5::/evil:/bin/sh\n";
        let text = format!("{}{tail}ok:x:6:6::/ok:\n", "a".repeat(3 * LONGEST_LINE));
        assert_eq!(home_in(text.as_bytes(), 5).unwrap(), None);
        assert_eq!(home_in(text.as_bytes(), 6).unwrap().as_deref(), Some("/ok"));
    }

    fn root_with(make: impl FnOnce(&std::path::Path)) -> Result<Option<String>> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("passwd-{}-{number}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        make(&root);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let found = home_below(open(&root, flags, Mode::empty()).unwrap().as_fd(), 0);
        std::fs::remove_dir_all(&root).unwrap();
        found
    }

    #[test]
    fn files_that_are_no_files_are_refused_at_once() {
        let etc = |root: &std::path::Path| root.join("etc/passwd");
        let fifo = root_with(|root| {
            nix::unistd::mkfifo(&etc(root), Mode::from_bits_truncate(0o644)).unwrap();
        });
        assert!(fifo.unwrap_err().to_string().contains("not a regular file"));
        let sparse = root_with(|root| {
            File::create(etc(root)).unwrap().set_len(4 << 30).unwrap();
        });
        assert!(sparse.unwrap_err().to_string().contains("larger than"));
        let missing = root_with(|_| {});
        assert_eq!(missing.unwrap(), None);
    }

    #[test]
    fn a_link_out_of_the_root_leads_nowhere() {
        let link = |to: &'static str| {
            root_with(move |root| {
                std::os::unix::fs::symlink(to, root.join("etc/passwd")).unwrap();
            })
        };
        assert_eq!(
            link("/proc/kmsg").unwrap(),
            None,
            "the host's /proc is not below the root"
        );
        assert_eq!(link("../../../../etc/hostname").unwrap(), None);
        assert!(link("/proc/self/fd/0").is_ok());
        assert!(link("/etc/passwd").is_err(), "a loop");
    }

    proptest! {
        #[test]
        fn no_text_is_read_wrongly_or_panics(text: Vec<u8>, uid: u32, piece in 1_usize..64) {
            let _ = home_in(Pieces(&text, piece), uid);
        }
    }
}
