//! Root filesystems that change while they are resolved. Apart from the other suites: the kernel lets
//! no `..` be resolved below a root while anything is renamed anywhere, and this renames all the time.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rsrun_init::Step;
use support::*;

/// CVE-2021-30465: a component of the target is exchanged for a link all the time.
#[test]
#[ignore = "needs root"]
fn exchanging_a_component_for_a_link_puts_nothing_outside() {
    let canary = Canary::new();
    let rootfs = Rootfs::new();
    fs::create_dir_all(rootfs.join("vol/a")).unwrap();
    symlink(canary.text(), rootfs.join("vol/b")).unwrap();
    let (a, b) = (rootfs.join("vol/a"), rootfs.join("vol/b"));
    let (a, b) = (text(a.to_str().unwrap()), text(b.to_str().unwrap()));
    let stop = AtomicBool::new(false);
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for its thread.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: both paths are NUL-terminated and outlive the call.
                #[allow(unsafe_code, reason = "std has no exchange")]
                unsafe {
                    let at = libc::AT_FDCWD;
                    libc::renameat2(at, a.as_ptr(), at, b.as_ptr(), libc::RENAME_EXCHANGE)
                };
            }
        });
        for round in 0..300 {
            let name = format!("/vol/a/x{}", round % 7);
            let file = clone_tree("/etc/passwd".as_ref());
            let steps = vec![
                mount("tmpfs", &name, &[]),
                attach(&file, &format!("/vol/a/f{}/file", round % 5)),
                null_node(&format!("/vol/a/null{round}")),
                Step::MakeDirectory {
                    path: text(&format!("/vol/b/y{round}/z")),
                },
            ];
            let failure = failure_in(&rootfs, steps);
            if let Some((_, errno)) = failure {
                let allowed = [libc::ELOOP, libc::ENOENT, libc::ENOTDIR, libc::EAGAIN];
                assert!(allowed.contains(&errno), "{failure:?}");
            }
        }
    });
    canary.assert_untouched();
}
