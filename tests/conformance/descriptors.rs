//! Does anything that a process has before its program runs lead out of the container, a descriptor or its binary?
//!
//! execve looks its program up while close-on-exec descriptors are open, and the arguments come from an image:
//! `/proc/self/fd/N/../..` of a directory of the host is the host (CVE-2024-21626).
use nix::unistd::Pid;
use rsrun_core::sys::mount::{MOUNT_ATTR_RDONLY, MountAttr, mount_setattr};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::finish;
use rsrun_tests::cli::suite::Suite;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// More than any of these processes has.
const NUMBERS: std::ops::Range<u32> = 3..40;

pub(crate) fn cases(suite: &mut Suite) {
    suite.case("no_descriptor_of_a_created_init_leads_to_the_host", |g| {
        let b = g.bundle();
        let host = climb(&g.work.join("base/busybox").to_string_lossy());
        let pid = created(&b);
        // That it would be seen: the same from a directory that is the host's.
        assert!(fs::exists(format!("/proc/self/cwd/{host}")).expect("a look"));
        let held: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("descriptors")
            .map(|entry| entry.expect("a descriptor").path())
            .collect();
        assert!(held.len() > 3, "{held:?}");
        let out: Vec<_> = held
            .iter()
            .filter(|fd| fs::exists(fd.join(&host)).unwrap_or(false))
            .map(|fd| fs::read_link(fd).expect("a descriptor"))
            .collect();
        assert!(out.is_empty(), "{out:?}");
        Ok(())
    });
    suite.case(
        "the_binary_of_a_created_init_is_not_written_through_it",
        |g| {
            let b = g.bundle();
            let pid = created(&b);
            // A container that may trace gets this far (CVE-2019-5736). While it is executed any file is busy, whatever
            // its mount says; so what is asked is the mount: a container keeps what it opened until the end of the last.
            let exe = PathBuf::from(format!("/proc/{pid}/exe"));
            let own = fs::metadata(&exe).expect("the binary of init");
            // So do its mappings, for whoever may checkpoint.
            let mapped = fs::read_dir(format!("/proc/{pid}/map_files")).expect("its mappings");
            let mapped = mapped.map(|entry| entry.expect("a mapping").path());
            let of_binary = |path: &PathBuf| {
                let file = fs::metadata(path).expect("a mapped file");
                (file.dev(), file.ino()) == (own.dev(), own.ino())
            };
            let ways: Vec<_> = [exe].into_iter().chain(mapped.filter(of_binary)).collect();
            assert!(ways.len() > 2, "{ways:?}");
            for way in ways {
                let file = fs::File::open(&way).expect("the binary of init");
                let flags = nix::sys::statvfs::fstatvfs(&file).expect("statvfs").flags();
                let sealed = flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
                let copied = fs::read_link(&way).expect("a link");
                assert!(
                    sealed || copied.to_string_lossy().starts_with("/memfd:"),
                    "{} is the host's own, {flags:?}",
                    copied.display()
                );
                // A detached mount that is held still is anybody's to change who is root in a user namespace.
                let writable = MountAttr {
                    attr_clr: MOUNT_ATTR_RDONLY,
                    ..MountAttr::default()
                };
                let changed = mount_setattr(file.as_fd(), 0, &writable);
                assert!(
                    changed.is_err() || g.runtime.runc.is_some(),
                    "{}",
                    way.display()
                );
            }
            Ok(())
        },
    );
    suite.case(
        "no_init_executes_a_program_of_the_host_by_a_descriptor",
        |g| {
            let host = climb(&g.work.join("base/busybox").to_string_lossy());
            for number in NUMBERS {
                let mut b = g.bundle();
                b.args(&[&by_descriptor(number, &host), "echo", "escaped"]);
                let out = b.run();
                assert!(out.code != 0, "{number}: {}", out.stdout);
            }
            Ok(())
        },
    );
    suite.case(
        "a_stream_that_the_caller_has_closed_is_the_null_device",
        |g| {
            for (number, shown) in [(0, 1), (1, 2), (2, 1)] {
                let mut b = g.bundle();
                let script = format!("(readlink /proc/$$/fd/{number}) >&{shown}; :");
                b.args(&["/bin/sh", "-c", &script]).write();
                let prologue = format!("exec {number}<&-; exec");
                let mut run = g.runtime.command_after(&prologue, ["run", "--bundle"]);
                run.arg(&b.dir).arg(&b.id);
                let out = finish(run, &g.runtime.root);
                let told = format!("{}{}", out.stdout, out.stderr);
                assert_eq!((told.trim(), out.code), ("/dev/null", 0), "stream {number}");
            }
            Ok(())
        },
    );
    suite.case("of_many_open_descriptors_none_is_inherited", |g| {
        let list = ["/bin/busybox", "ls", "/proc/self/fd"];
        let finished = |command| finish(command, &g.runtime.root).ok().stdout;
        let mut b = g.bundle();
        b.args(&list).write();
        let mut run = g.runtime.command_after(MANY, ["run", "--bundle"]);
        run.arg(&b.dir).arg(&b.id);
        // The last is the directory that is listed.
        assert_eq!(finished(run), "0\n1\n2\n3\n");
        let mut b = g.bundle();
        b.hold();
        let mut exec = g.runtime.command_after(MANY, ["exec", &b.id]);
        exec.args(list);
        assert_eq!(finished(exec), "0\n1\n2\n3\n");
        Ok(())
    });
    suite.case(
        "no_exec_executes_a_program_of_the_host_by_a_descriptor",
        |g| {
            let host = climb(&g.work.join("base/busybox").to_string_lossy());
            let mut b = g.bundle();
            b.hold();
            for number in NUMBERS {
                let out = exec(&b, &by_descriptor(number, &host));
                assert!(out.code != 0, "{number}: {}", out.stdout);
            }
            // That the same words work where the program is the container's.
            assert_eq!(exec(&b, "/bin/busybox").ok().stdout, "escaped\n");
            Ok(())
        },
    );
}

/// A shell that has many descriptors open for whatever it executes, and ours come after them.
const MANY: &str =
    "exec /bin/bash -c 'for n in {3..400}; do eval \"exec $n</dev/null\"; done; exec \"$@\"' bash";

/// Creates the container; its init waits before its execve.
fn created(b: &Bundle<'_>) -> Pid {
    b.write();
    let file = b.dir.join("pid");
    b.call("create", &["--pid-file", &file.to_string_lossy()])
        .ok();
    let text = fs::read_to_string(&file).expect("a pid file");
    Pid::from_raw(text.trim().parse().expect("a pid"))
}

fn exec(b: &Bundle<'_>, program: &str) -> rsrun_tests::cli::runtime::Output {
    b.on(&["exec"], &[program, "echo", "escaped"])
}

fn by_descriptor(number: u32, host: &str) -> String {
    format!("/proc/self/fd/{number}/{host}")
}

/// From any directory to an absolute path of the host.
fn climb(path: &str) -> String {
    format!("{}{}", "../".repeat(24), path.trim_start_matches('/'))
}
