//! What does a weak runtime do? Each verb is one published mistake and nothing else, done by a process of its own.
//!
//! The controls of the suite give it the image that rsrun is given: what the oracle can't see here it would not
//! see there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;

/// First argument of this program when it plays the weak runtime.
pub(crate) const WORD: &str = "naive-runtime";

/// Runs a verb in a process of its own; it has to work.
#[track_caller]
pub(crate) fn runtime(args: &[&str]) {
    let out = Command::new("/proc/self/exe")
        .arg(WORD)
        .args(args)
        .output()
        .expect("the weak runtime");
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Runs the probe in the bundle's root, changed into and no more, after shell words `before`.
#[track_caller]
pub(crate) fn chrooted(b: &Bundle<'_>, before: &str) -> Facts {
    let script = format!(
        "{0}/bin/busybox mount -t proc proc {0}/proc && {before} chroot {0} /bin/probe facts",
        b.rootfs("").display()
    );
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .expect("a shell");
    assert!(
        out.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Facts::parse(&String::from_utf8_lossy(&out.stdout))
}

/// Does what `args` name.
pub(crate) fn act(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match attempt(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{words:?}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(words: &[&str]) -> io::Result<()> {
    match words {
        ["devices", root] => devices(Path::new(root)),
        ["streams", root] => streams(Path::new(root)),
        ["console", root] => File::create(Path::new(root).join("dev/console")).map(drop),
        ["mask", root, path] => mask(Path::new(root), path),
        ["write", path, text] => fs::write(path, text),
        ["mkdir", path] => fs::create_dir_all(path),
        ["mount", path] => tmpfs(path),
        ["propagate", path] => propagate(path),
        ["sysctl", name, value] => {
            fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
        }
        _ => Err(io::Error::other("no such mistake")),
    }
}

/// By a path of text, before the root is changed.
fn devices(root: &Path) -> io::Result<()> {
    let null = root.join("dev/null");
    mknod(
        &null,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 3),
    )?;
    std::os::unix::fs::symlink("pts/ptmx", root.join("dev/ptmx"))
}

/// Opens what is called null, and gives it to the container's user.
fn streams(root: &Path) -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open(root.join("dev/null"))?;
    std::os::unix::fs::fchown(null.as_fd(), Some(1000), Some(1000))
}

/// Covers with the container's own /dev/null, and the container writes to what it is told is masked.
fn mask(root: &Path, path: &str) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(
        Some("proc"),
        &root.join("proc"),
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    nix::unistd::chroot(root)?;
    std::env::set_current_dir("/")?;
    mount(
        Some("/dev/null"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    fs::write(path, "|/escape")
}

fn tmpfs(path: &str) -> io::Result<()> {
    Ok(mount(
        Some("naive-mount"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )?)
}

/// Goes into a mount namespace of its own and leaves the mounts shared.
fn propagate(path: &str) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    tmpfs(path)
}
