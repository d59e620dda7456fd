//! What is mounted at and below a place, and how does it get away?

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rsrun_core::{Context, Error, Result};

/// How long busy mounts are tried, and how long apart: whoever holds them is being killed.
const PATIENCE: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(50);

/// Mounts stacked on one place and below it, at most; more is an attack or a bug.
const ROUNDS: u32 = 1000;

/// How often all of them may be gone when they are tried: others unmount too.
const IDLE: u32 = 3;

/// Unmounts what we mounted at `target`, and what is mounted below it if that is in the way.
pub fn unmount_own(target: &Path) -> Result<()> {
    if unmount_top(target) {
        return Ok(());
    }
    unmount_listed(target, Instant::now() + PATIENCE)
}

/// Unmounts everything at and below `target`, deepest first, until nothing is left. Nothing there is a success.
pub fn unmount_all(target: &Path) -> Result<()> {
    unmount_all_until(target, Instant::now() + PATIENCE)
}

/// The same; what is busy at `until` is detached.
pub fn unmount_all_until(target: &Path, until: Instant) -> Result<()> {
    // The table of a host with a thousand overlays takes a second to read: an empty directory has no need of it.
    if unmount_top(target) && is_bare(target) {
        return Ok(());
    }
    unmount_listed(target, until)
}

/// Unmounts what is stacked on `target` itself; whether all of that went.
fn unmount_top(target: &Path) -> bool {
    for _ in 0..ROUNDS {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINTR) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Whether `target` is not there or has no entry: then it is no mount point's parent either.
fn is_bare(target: &Path) -> bool {
    match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The same by the mount table.
fn unmount_listed(target: &Path, until: Instant) -> Result<()> {
    let target = canonical(target);
    let mut idle = 0;
    for _ in 0..ROUNDS {
        let mounted = mounted_at(&target)?;
        let Some(last) = mounted.last() else {
            return Ok(());
        };
        if !unmount_one(&mounted, until)? {
            idle += 1;
        }
        if idle > IDLE {
            let text = format!("unmount {}: something covers it", last.display());
            return Err(Error::new(rsrun_core::ErrorKind::Internal, text));
        }
    }
    Err(Error::new(
        rsrun_core::ErrorKind::Timeout,
        format!(
            "unmount {}: something goes on mounting there",
            target.display()
        ),
    ))
}

/// Unmounts the latest that can be reached; whether there was one. A mount may lie under one that came before it, as that
/// was moved: then it is not there by its path.
fn unmount_one(mounted: &[PathBuf], until: Instant) -> Result<bool> {
    for place in mounted.iter().rev() {
        if unmount(place, until)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether something is mounted at `place` itself.
pub fn is_mount_point(place: &Path) -> Result<bool> {
    let place = canonical(place);
    Ok(mounted_at(&place)?.contains(&place))
}

/// Whether something was unmounted at `place`. Not where nothing is: it is gone already, its parent may have taken it
/// along, or something covers the place.
fn unmount(place: &Path, until: Instant) -> Result<bool> {
    loop {
        match umount2(place, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => return Ok(true),
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(false),
            Err(Errno::EBUSY | Errno::EINTR) if Instant::now() < until => {
                std::thread::sleep(PAUSE);
            }
            Err(Errno::EBUSY | Errno::EINTR) => break,
            Err(errno) => {
                return Err(Error::os(
                    errno,
                    format!("umount2({}, UMOUNT_NOFOLLOW)", place.display()),
                ));
            }
        }
    }
    log::warn!("{} stays busy and is detached", place.display());
    umount2(place, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
        .with(|| format!("umount2({}, MNT_DETACH)", place.display()))
        .map(|()| true)
}

/// The path as the mount table has it; its last component is never followed.
fn canonical(path: &Path) -> PathBuf {
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Mount points at and below `target`, in the order in which they were mounted.
fn mounted_at(target: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/thread-self/mountinfo")
        .map_err(|e| super::io_error(&e, "read(/proc/thread-self/mountinfo)".into()))?;
    Ok(points(&table)
        .filter(|point| point.starts_with(target))
        .collect())
}

/// Fifth field of each line.
fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescaped(field))))
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match (first, digits) {
            (b'\\', Some(digits)) => {
                plain.push(digits.iter().fold(0u8, |value, digit| {
                    value.wrapping_mul(8).wrapping_add(digit - b'0')
                }));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_with_the_same_beginning_is_not_below() {
        let table = b"1 0 0:1 / /b/rootfs rw - t s rw\n2 1 0:2 / /b/rootfs2 rw - t s rw\n3 1 0:3 / /b/rootfs/a\\040b rw - t s rw\n";
        let below: Vec<_> = points(table)
            .filter(|p| p.starts_with("/b/rootfs"))
            .collect();
        assert_eq!(below, [Path::new("/b/rootfs"), Path::new("/b/rootfs/a b")]);
    }

    #[test]
    fn escapes_are_three_octal_digits_and_nothing_else() {
        assert_eq!(unescaped(b"a\\134b\\011\\9"), b"a\\b\t\\9");
    }

    #[test]
    fn a_place_that_does_not_exist_has_nothing_mounted() {
        unmount_all(Path::new("/nonexistent/rootfs")).unwrap();
        unmount_own(Path::new("/nonexistent/rootfs")).unwrap();
    }
}
