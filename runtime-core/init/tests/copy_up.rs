//! tmpcopyup: a tmpfs that starts with what it covers.

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rsrun_init::Step;
use rsrun_init::step::{MountAttributes, Wake};
use support::*;

fn copy_up(
    target: &str,
    flags: u64,
    options: &[(&str, &str)],
) -> Step<rsrun_init::InArena<'static>> {
    Step::MountFilesystem {
        fstype: text("tmpfs"),
        source: text("tmpfs"),
        params: params(options),
        flags,
        target: text(target),
        copy_up: true,
        after: MountAttributes::default(),
        becomes_proc: false,
    }
}

/// A child that waits in this root, with /work covered by a tmpfs that has what it held.
fn covered(rootfs: &Rootfs, flags: u64) -> Running {
    let tree = rootfs.tree();
    let steps = vec![
        copy_up("/work", flags, &[]),
        Step::PivotRoot,
        Step::Ready { wait: true },
    ];
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    child.expect(Wake::Ready);
    child
}

#[test]
#[ignore = "needs root"]
fn the_tmpfs_holds_what_the_directory_held() {
    let rootfs = Rootfs::new();
    let from = rootfs.join("work");
    let chown = |path: &std::path::Path| std::os::unix::fs::lchown(path, Some(7), Some(8)).unwrap();
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    fs::create_dir_all(from.join("a/b/c")).unwrap();
    fs::write(from.join("a/b/big"), &big).unwrap();
    fs::write(from.join("a/empty"), "").unwrap();
    chown(&from.join("a/empty"));
    fs::set_permissions(from.join("a/empty"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/etc/passwd", from.join("a/link")).unwrap();
    chown(&from.join("a/link"));
    fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o2751)).unwrap();
    chown(&from);
    fs::set_permissions(&from, fs::Permissions::from_mode(0o2751)).unwrap();
    for number in 0..200 {
        fs::write(
            from.join(format!("a/b/c/file-with-a-longer-name-{number}")),
            [number],
        )
        .unwrap();
    }
    let fifo = text(from.join("fifo").to_str().unwrap());
    // SAFETY: the path is NUL-terminated and outlives the call.
    #[allow(unsafe_code, reason = "std can't make a fifo")]
    let made = unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) };
    assert_eq!(made, 0);
    let before = fs::metadata(from.join("a/b/big"))
        .unwrap()
        .modified()
        .unwrap();

    let child = covered(&rootfs, 0);
    let to = child.inside("/work");
    let owner = |path: &str| {
        let inode = fs::symlink_metadata(to.join(path)).unwrap();
        (inode.uid(), inode.gid(), inode.mode() & 0o7777)
    };
    assert_eq!(fs::read(to.join("a/b/big")).unwrap(), big);
    assert_eq!(
        fs::metadata(to.join("a/b/big"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    assert_eq!(owner(""), (7, 8, 0o2751));
    assert_eq!(owner("a/empty"), (7, 8, 0o4755));
    assert_eq!(owner("a/b"), (0, 0, 0o1770));
    assert_eq!(owner("a/link").0, 7);
    assert_eq!(
        fs::read_link(to.join("a/link")).unwrap().to_str(),
        Some("/etc/passwd")
    );
    assert!(fs::metadata(to.join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_dir(to.join("a/b/c")).unwrap().count(), 200);
    assert_eq!(
        fs::read(to.join("a/b/c/file-with-a-longer-name-77")).unwrap(),
        [77]
    );
    fs::write(to.join("new"), "").unwrap();
    assert!(!from.join("new").exists());
}

#[test]
#[ignore = "needs root"]
fn extended_attributes_of_files_and_directories_are_copied() {
    let rootfs = Rootfs::new();
    let from = rootfs.join("work");
    fs::create_dir_all(from.join("dir")).unwrap();
    fs::write(from.join("file"), "x").unwrap();
    fs::set_permissions(from.join("file"), fs::Permissions::from_mode(0o4711)).unwrap();
    // CAP_NET_RAW, permitted and effective: VFS_CAP_REVISION_2.
    let capability: Vec<u8> = [0x0200_0001u32, 1 << 13, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let long = vec![b'v'; 2000];
    set_attribute(&from.join("file"), "security.capability", &capability);
    set_attribute(&from.join("file"), "trusted.note", &long);
    set_attribute(&from.join("dir"), "trusted.overlay.opaque", b"y");
    set_attribute(&from, "trusted.top", b"");

    let child = covered(&rootfs, 0);
    let to = child.inside("/work");
    let file = to.join("file");
    assert_eq!(attribute(&file, "security.capability"), Some(capability));
    assert_eq!(attribute(&file, "trusted.note"), Some(long));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4711);
    let opaque = attribute(&to.join("dir"), "trusted.overlay.opaque");
    assert_eq!(opaque, Some(b"y".to_vec()));
    assert_eq!(attribute(&to, "trusted.top"), Some(Vec::new()));
    assert_eq!(attribute(&to, "trusted.note"), None);
}

fn set_attribute(path: &std::path::Path, name: &str, value: &[u8]) {
    let (path, name) = (text(path.to_str().unwrap()), text(name));
    // SAFETY: both texts are NUL-terminated, `value` is read for its length only, and all outlive the call.
    #[allow(unsafe_code, reason = "std has no extended attributes")]
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    assert_eq!(set, 0, "{name:?}: {}", std::io::Error::last_os_error());
}

fn attribute(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (text(path.to_str().unwrap()), text(name));
    let mut value = vec![0u8; 1 << 16];
    // SAFETY: both texts are NUL-terminated, `value` is written for its length at most, and all outlive the call.
    #[allow(unsafe_code, reason = "std has no extended attributes")]
    let len = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(len).ok()?);
    Some(value)
}

#[test]
#[ignore = "needs root"]
fn a_read_only_tmpfs_is_filled_before_it_is_read_only() {
    let rootfs = Rootfs::new();
    fs::write(rootfs.join("work/file"), "x").unwrap();
    let child = covered(&rootfs, libc::MOUNT_ATTR_RDONLY);
    let to = child.inside("/work");
    assert_eq!(fs::read(to.join("file")).unwrap(), b"x");
    let written = fs::write(to.join("new"), "");
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EROFS));
}

#[test]
#[ignore = "needs root"]
fn too_much_or_too_deep_is_an_error() {
    let rootfs = Rootfs::new();
    fs::write(rootfs.join("work/big"), vec![1; 1 << 20]).unwrap();
    let failure = failure_in(&rootfs, vec![copy_up("/work", 0, &[("size", "64k")])]);
    assert_eq!(failure, Some((0, libc::ENOSPC)));
    fs::create_dir_all(rootfs.join(&format!("tmp{}", "/d".repeat(64)))).unwrap();
    assert_eq!(
        failure_in(&rootfs, vec![copy_up("/tmp", 0, &[])]),
        Some((0, libc::ELOOP))
    );
    fs::create_dir_all(rootfs.join(&format!("etc{}", "/d".repeat(63)))).unwrap();
    assert_eq!(failure_in(&rootfs, vec![copy_up("/etc", 0, &[])]), None);
}

#[test]
#[ignore = "needs root"]
fn a_tmpfs_takes_the_mode_of_the_directory_that_was_there() {
    let rootfs = Rootfs::new();
    fs::set_permissions(rootfs.join("work"), fs::Permissions::from_mode(0o3751)).unwrap();
    let tree = rootfs.tree();
    let steps = vec![
        mount("tmpfs", "/work", &[]),
        mount("tmpfs", "/tmp", &[("mode", "700")]),
        mount("tmpfs", "/missing", &[]),
        Step::PivotRoot,
        Step::Ready { wait: true },
    ];
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    child.expect(Wake::Ready);
    for (path, mode) in [("/work", 0o3751), ("/tmp", 0o700), ("/missing", 0o1777)] {
        let found = fs::metadata(child.inside(path)).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
}
