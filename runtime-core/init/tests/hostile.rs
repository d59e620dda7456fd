//! Root filesystems that want out by what they hold: links, magic links, wrong types.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use rsrun_init::Step;
use rsrun_init::step::{MountAttributes, Wake};
use support::*;

fn link_instead(rootfs: &Rootfs, name: &str, points_to: &str) {
    let _ = fs::remove_dir(rootfs.join(name));
    symlink(points_to, rootfs.join(name)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn proc_and_sys_of_the_image_may_not_be_links() {
    for name in ["proc", "sys"] {
        let fstype = if name == "proc" { "proc" } else { "sysfs" };
        let canary = Canary::new();
        for points_to in ["/tmp", "tmp", "self", canary.text()] {
            let rootfs = Rootfs::new();
            link_instead(&rootfs, name, points_to);
            let target = format!("/{name}");
            let failure = failure_in(&rootfs, vec![mount(fstype, &target, &[])]);
            assert_eq!(failure, Some((0, libc::ELOOP)), "{name} -> {points_to}");
        }
        let rootfs = Rootfs::new();
        fs::remove_dir(rootfs.join(name)).unwrap();
        fs::write(rootfs.join(name), "").unwrap();
        let failure = failure_in(&rootfs, vec![mount(fstype, &format!("/{name}"), &[])]);
        assert_eq!(failure, Some((0, libc::ENOTDIR)));
        canary.assert_untouched();
    }
}

#[test]
#[ignore = "needs root"]
fn devices_stay_below_the_root_whatever_dev_points_to() {
    let canary = Canary::new();
    let up = format!("../../../../../../..{}", canary.text());
    for points_to in [canary.text(), &up] {
        let rootfs = Rootfs::new();
        link_instead(&rootfs, "dev", points_to);
        let steps = vec![
            null_node("/dev/null"),
            Step::MakeLink {
                path: text("/dev/ptmx"),
                points_to: text("pts/ptmx"),
                replace: true,
            },
            mount("tmpfs", "/dev/shm", &[]),
        ];
        assert_eq!(failure_in(&rootfs, steps), None, "{points_to}");
        canary.assert_untouched();
        assert!(rootfs.join(&format!(".{}/null", canary.text())).exists());
    }
}

#[test]
#[ignore = "needs root"]
fn a_node_that_is_there_must_be_the_same_device() {
    let rootfs = Rootfs::new();
    fs::write(rootfs.join("dev/null"), "").unwrap();
    assert_eq!(
        failure_in(&rootfs, vec![null_node("/dev/null")]),
        Some((0, libc::EEXIST))
    );
    assert_eq!(
        failure_in(
            &rootfs,
            vec![null_node("/dev/zero"), null_node("/dev/zero")]
        ),
        None
    );
    fs::remove_file(rootfs.join("dev/null")).unwrap();
    symlink("zero", rootfs.join("dev/null")).unwrap();
    assert_eq!(
        failure_in(&rootfs, vec![null_node("/dev/null")]),
        Some((0, libc::ELOOP))
    );
    let made = fs::metadata(rootfs.join("dev/zero")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.rdev()), (0o666, 0x103));
}

#[test]
#[ignore = "needs root"]
fn a_console_that_is_a_link_is_refused() {
    let canary = Canary::new();
    let rootfs = Rootfs::new();
    fs::create_dir(rootfs.join("dev/pts")).unwrap();
    symlink(
        format!("{}/made", canary.text()),
        rootfs.join("dev/console"),
    )
    .unwrap();
    let steps = vec![
        mount("devpts", "/dev/pts", &[]),
        Step::OpenConsole {
            rows: 24,
            columns: 80,
            uid: 0,
            bind: true,
        },
    ];
    assert_eq!(failure_in(&rootfs, steps), Some((1, libc::ELOOP)));
    canary.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn a_terminal_comes_from_a_devpts_only() {
    let rootfs = Rootfs::new();
    fs::create_dir(rootfs.join("dev/pts")).unwrap();
    fs::write(rootfs.join("dev/pts/ptmx"), "").unwrap();
    let console = Step::OpenConsole {
        rows: 0,
        columns: 0,
        uid: 0,
        bind: false,
    };
    assert_eq!(failure_in(&rootfs, vec![console]), Some((0, libc::ENODEV)));
}

#[test]
#[ignore = "needs root"]
fn a_mask_is_the_hosts_null_whatever_the_image_has() {
    let rootfs = Rootfs::new();
    symlink("/etc/secret", rootfs.join("dev/null")).unwrap();
    fs::write(rootfs.join("etc/secret"), "secret").unwrap();
    fs::write(rootfs.join("etc/hidden"), "hidden").unwrap();
    let tree = rootfs.tree();
    let mask = |path| Step::MaskPath { path: text(path) };
    let steps = vec![
        mask("/etc/hidden"),
        Step::PivotRoot,
        // After the pivot the host's /dev is gone: these are clones.
        mask("/etc/secret"),
        mask("/bin/id"),
        mask("/work"),
        mask("/tmp"),
        mask("/not/there"),
        mask("/etc/secret/no/directory"),
        Step::Ready { wait: true },
    ];
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    child.expect(Wake::Ready);
    for path in ["/etc/hidden", "/etc/secret", "/bin/busybox"] {
        let inode = fs::metadata(child.inside(path)).unwrap();
        assert_eq!(inode.rdev(), 0x103, "{path}");
    }
    for path in ["/work", "/tmp"] {
        let made = fs::write(child.inside(path).join("x"), "");
        assert_eq!(
            made.unwrap_err().raw_os_error(),
            Some(libc::EROFS),
            "{path}"
        );
    }
    assert_eq!(
        fs::read_to_string(rootfs.join("etc/secret")).unwrap(),
        "secret"
    );
}

#[test]
#[ignore = "needs root"]
fn nothing_but_the_allowed_is_mounted_in_procfs() {
    let rootfs = Rootfs::new();
    symlink("/proc", rootfs.join("alias")).unwrap();
    symlink("/proc/sys", rootfs.join("work/sys")).unwrap();
    fs::write(rootfs.join("etc/file"), "lie").unwrap();
    let (dir, file) = (
        clone_tree(&rootfs.join("etc")),
        clone_tree(&rootfs.join("etc/file")),
    );
    let proc = || mount("proc", "/proc", &[]);
    let refused = [
        mount("tmpfs", "/proc/sys", &[]),
        mount("tmpfs", "/work/sys", &[]),
        mount("tmpfs", "/alias", &[]),
        mount("proc", "/proc/sys", &[]),
        attach(&dir, "/proc/self/attr"),
        attach(&file, "/proc/self/attr/exec"),
        attach(&file, "/alias/cpuinfo"),
        attach(&file, "/proc/sys/kernel/core_pattern"),
        attach(&dir, "/proc"),
    ];
    for step in refused {
        let failure = failure_in(&rootfs, vec![proc(), step]);
        assert_eq!(failure, Some((1, libc::EPERM)), "{step:?}");
    }
    // And not at the place of procfs before it is there.
    for step in [
        mount("tmpfs", "/proc", &[]),
        mount("tmpfs", "/alias", &[]),
        attach(&dir, "/proc"),
    ] {
        assert_eq!(
            failure_in(&rootfs, vec![step]),
            Some((0, libc::EPERM)),
            "{step:?}"
        );
    }
    // A tree is attached once.
    let second = clone_tree(&rootfs.join("etc/file"));
    let allowed = [
        attach(&file, "/proc/cpuinfo"),
        attach(&second, "/proc/net/dev"),
        proc(),
    ];
    for step in allowed {
        assert_eq!(failure_in(&rootfs, vec![proc(), step]), None, "{step:?}");
    }
    let again = clone_tree("/proc".as_ref());
    assert_eq!(failure_in(&rootfs, vec![attach(&again, "/proc")]), None);
}

#[test]
#[ignore = "needs root"]
fn magic_links_lead_nowhere() {
    let rootfs = Rootfs::new();
    let canary = Canary::new();
    let steps = |step| vec![mount("proc", "/proc", &[]), step];
    for path in [
        "/proc/self/root/x",
        "/proc/self/cwd/x",
        "/proc/1/root/tmp/x",
    ] {
        let failure = failure_in(&rootfs, steps(mount("tmpfs", path, &[])));
        assert_eq!(failure, Some((1, libc::ELOOP)), "{path}");
        let failure = failure_in(&rootfs, steps(Step::MakeDirectory { path: text(path) }));
        assert_eq!(failure, Some((1, libc::ELOOP)), "{path}");
    }
    canary.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn the_root_itself_is_not_covered() {
    let rootfs = Rootfs::new();
    symlink("/", rootfs.join("top")).unwrap();
    for path in ["/", "/top", "/work/../.."] {
        assert_eq!(
            failure_in(&rootfs, vec![mount("tmpfs", path, &[])]),
            Some((0, libc::EBUSY))
        );
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_link_points_to_is_made_below_the_root() {
    let canary = Canary::new();
    let rootfs = Rootfs::new();
    let file = clone_tree("/etc/passwd".as_ref());
    fs::create_dir(rootfs.join("var")).unwrap();
    symlink("/run", rootfs.join("var/run")).unwrap();
    symlink("../../../run/lock", rootfs.join("var/lock")).unwrap();
    symlink(
        format!("{}/made", canary.text()),
        rootfs.join("etc/resolv.conf"),
    )
    .unwrap();
    let steps = vec![
        mount("tmpfs", "/var/run/secrets/serviceaccount", &[]),
        Step::MakeDirectory {
            path: text("/var/lock/one/two"),
        },
        attach(&file, "/etc/resolv.conf"),
    ];
    assert_eq!(failure_in(&rootfs, steps), None);
    assert!(rootfs.join("run/secrets/serviceaccount").is_dir());
    assert!(rootfs.join("run/lock/one/two").is_dir());
    let made = fs::metadata(rootfs.join(&format!(".{}/made", canary.text()))).unwrap();
    assert!(made.is_file());
    assert_eq!(
        fs::metadata(rootfs.join("run/lock")).unwrap().mode() & 0o7777,
        0o755
    );
    canary.assert_untouched();

    symlink("b", rootfs.join("a")).unwrap();
    symlink("a", rootfs.join("b")).unwrap();
    let failure = failure_in(&rootfs, vec![mount("tmpfs", "/a/x", &[])]);
    assert_eq!(failure, Some((0, libc::ELOOP)));
    symlink("deep/endless", rootfs.join("endless")).unwrap();
    fs::create_dir(rootfs.join("deep")).unwrap();
    symlink("../endless/x", rootfs.join("deep/endless")).unwrap();
    let failure = failure_in(&rootfs, vec![mount("tmpfs", "/endless", &[])]);
    assert_eq!(failure, Some((0, libc::ELOOP)));
}

#[test]
#[ignore = "needs root"]
fn a_name_or_path_that_is_too_long_is_refused() {
    let rootfs = Rootfs::new();
    for path in [format!("/{}", "n".repeat(256)), "/d".repeat(2048)] {
        let failure = failure_in(&rootfs, vec![Step::MakeDirectory { path: text(&path) }]);
        assert_eq!(failure, Some((0, libc::ENAMETOOLONG)));
    }
    let most = format!("/{}", "n".repeat(255));
    assert_eq!(
        failure_in(&rootfs, vec![Step::MakeDirectory { path: text(&most) }]),
        None
    );
    assert!(rootfs.join(&most[1..]).is_dir());
}

#[test]
#[ignore = "needs root"]
fn a_read_only_root_keeps_its_missing_mount_points_missing() {
    let rootfs = Rootfs::new();
    let change = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    let steps = |step| {
        vec![
            Step::SetMountAttributes {
                target: text("/"),
                change,
            },
            step,
        ]
    };
    let failure = failure_in(&rootfs, steps(mount("tmpfs", "/data", &[])));
    assert_eq!(failure, Some((1, libc::EROFS)));
    assert_eq!(
        failure_in(&rootfs, steps(mount("tmpfs", "/work", &[]))),
        None
    );
}

/// CVE-2024-21626: a working directory that is a descriptor of the child, among them one of the host that
/// was leaked on purpose.
#[test]
#[ignore = "needs root"]
fn a_working_directory_by_descriptor_is_never_outside() {
    let rootfs = Rootfs::new();
    let leaked = fs::File::open("/usr").unwrap();
    let (mut refused, leaked_number) = (0, std::os::fd::AsRawFd::as_raw_fd(&leaked));
    for number in 0..=leaked_number.max(24) {
        let tree = rootfs.tree();
        let path = format!("/proc/self/fd/{number}");
        let steps = vec![
            mount("proc", "/proc", &[]),
            Step::MaskPath {
                path: text("/work"),
            },
            Step::PivotRoot,
            Step::Cwd {
                path: text(&path),
                retry: false,
            },
            Step::Ready { wait: true },
        ];
        let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
        let mut byte = [0; 1];
        if std::io::Read::read(&mut child.wake, &mut byte).unwrap() == 0 {
            let (step, errno) = child.failure();
            assert_eq!(step, 6, "{path}");
            assert!(
                [libc::ENOENT, libc::ENOTDIR, libc::EACCES].contains(&errno),
                "{path}: {errno}"
            );
            refused += i32::from(number == leaked_number);
            continue;
        }
        let inside = fs::read_link(format!("/proc/{}/cwd", child.pid)).unwrap();
        // The root, or the cover of the masked directory.
        assert!(
            ["/", "/work"].contains(&inside.to_str().unwrap()),
            "{path}: {inside:?}"
        );
    }
    assert_eq!(refused, 1, "the leaked directory was entered");
}
