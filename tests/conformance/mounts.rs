//! Is every type of mount there, with its data, where the spec says?
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

pub(crate) fn cases(suite: &mut Suite) {
    kinds(suite);
    tmpfs(suite);
    binds(suite);
    targets(suite);
    cgroups(suite);
    refused(suite);
}

fn kinds(suite: &mut Suite) {
    suite.case("proc_shows_the_pid_namespace_of_the_container", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/readlink", "/proc/self"]);
        assert_eq!(b.printed(), "1");
        Ok(())
    });
    suite.case("proc_takes_its_hidepid_and_subset", |g| {
        let mut b = g.bundle();
        b.set("/mounts/0/options", json!(["nosuid", "hidepid=2"]));
        let found = b.facts().mount("/proc");
        assert!(
            found.fs_has("hidepid=invisible") && found.has("nosuid"),
            "{found:?}"
        );
        Ok(())
    });
    suite.case("devpts_is_an_instance_of_its_own", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/ls", "-A", "/dev/pts"]);
        assert_eq!(b.printed(), "ptmx");
        let found = b.facts().mount("/dev/pts");
        assert!(
            ["gid=5", "mode=620", "ptmxmode=666"]
                .iter()
                .all(|o| found.fs_has(o)),
            "{found:?}"
        );
        Ok(())
    });
    suite.case("mqueue_is_the_container_s_own", |g| {
        let mut b = g.bundle();
        b.shell("touch /dev/mqueue/q && cat /dev/mqueue/q");
        assert!(b.printed().starts_with("QSIZE:0"));
        Ok(())
    });
    suite.case("sysfs_shows_the_network_of_the_container", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/ls", "/sys/class/net"]);
        assert!(
            b.printed().lines().all(|l| l == "lo" || l.ends_with('0')),
            "more than lo and the tunnels of a new namespace"
        );
        Ok(())
    });
    suite.case("an_overlay_is_mounted_with_its_layers", |g| {
        let mut b = g.bundle();
        for dir in ["lower", "upper", "work"] {
            fs::create_dir(b.dir.join(dir)).expect("a directory");
        }
        fs::write(b.dir.join("lower/below"), "from below\n").expect("a file");
        let data: Vec<String> = ["lowerdir=lower", "upperdir=upper", "workdir=work"]
            .iter()
            .map(|o| o.replace('=', &format!("={}/", b.dir.display())))
            .collect();
        let options: Vec<&str> = data.iter().map(String::as_str).collect();
        b.mount("/over", "overlay", "overlay", &options);
        b.shell("cat /over/below && echo new > /over/above");
        assert_eq!(b.printed(), "from below");
        assert_eq!(
            fs::read_to_string(b.dir.join("upper/above")).expect("the upper layer"),
            "new\n"
        );
        let _ = fs::remove_dir_all(b.dir.join("work"));
        Ok(())
    });
    suite.case("mounts_are_made_in_the_order_of_the_spec", |g| {
        let mut b = g.bundle();
        b.mount("/a", "tmpfs", "first", &["mode=700"])
            .mount("/a/b", "tmpfs", "second", &["mode=711"])
            .mount("/a", "tmpfs", "third", &[]);
        let points: Vec<(String, String)> = b
            .facts()
            .mounts()
            .into_iter()
            .filter(|m| m.point.starts_with("/a"))
            .map(|m| (m.point, m.source))
            .collect();
        let wanted = [("/a", "first"), ("/a/b", "second"), ("/a", "third")];
        assert_eq!(points, wanted.map(|(p, s)| (p.to_string(), s.to_string())));
        Ok(())
    });
}

fn tmpfs(suite: &mut Suite) {
    suite.case("tmpfs_takes_size_mode_owner_and_inodes", |g| {
        let mut b = g.bundle();
        b.mount(
            "/data",
            "tmpfs",
            "data",
            &["size=1m", "mode=1750", "uid=5", "gid=6", "nr_inodes=100"],
        );
        let found = b.facts().mount("/data");
        assert!(
            ["size=1024k", "uid=5", "gid=6", "nr_inodes=100", "mode=1750"]
                .iter()
                .all(|o| found.fs_has(o)),
            "{found:?}"
        );
        Ok(())
    });
    suite.case("tmpfs_copies_up_what_the_image_has_there", |g| {
        let mut b = g.bundle();
        fs::create_dir_all(b.rootfs("/data/deep")).expect("a directory");
        fs::write(b.rootfs("/data/deep/file"), "kept\n").expect("a file");
        fs::set_permissions(b.rootfs("/data/deep/file"), fs::Permissions::from_mode(0o640)).expect("a mode");
        std::os::unix::fs::chown(b.rootfs("/data/deep/file"), Some(3), Some(4)).expect("an owner");
        symlink("deep/file", b.rootfs("/data/link")).expect("a link");
        let reads = json!(["CAP_DAC_OVERRIDE"]);
        b.set("/process/capabilities", json!({"bounding": reads, "effective": reads, "permitted": reads}));
        b.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        b.shell("cat /data/link; stat -c '%a %u %g' /data/deep/file; readlink /data/link; echo new > /data/deep/file");
        assert_eq!(b.printed(), "kept\n640 3 4\ndeep/file");
        assert_eq!(fs::read_to_string(b.rootfs("/data/deep/file")).expect("the image"), "kept\n", "the image was written");
        Ok(())
    });
    suite.case("tmpfs_without_copy_up_is_empty", |g| {
        let mut b = g.bundle();
        fs::create_dir_all(b.rootfs("/data/deep")).expect("a directory");
        b.mount("/data", "tmpfs", "tmpfs", &[])
            .args(&["/bin/ls", "-A", "/data"]);
        assert_eq!(b.printed(), "");
        Ok(())
    });
    suite.case("tmpfs_keeps_the_mode_of_the_directory_it_covers", |g| {
        let mut b = g.bundle();
        fs::create_dir(b.rootfs("/data")).expect("a directory");
        fs::set_permissions(b.rootfs("/data"), fs::Permissions::from_mode(0o711)).expect("a mode");
        b.mount("/data", "tmpfs", "tmpfs", &[])
            .args(&["/bin/stat", "-c", "%a", "/data"]);
        assert_eq!(b.printed(), "711");
        Ok(())
    });
    suite.case("a_read_only_tmpfs_takes_no_file", |g| {
        let mut b = g.bundle();
        b.mount("/data", "tmpfs", "tmpfs", &["ro"])
            .shell("touch /data/x 2>&1 || true");
        assert!(b.printed().contains("Read-only file system"));
        Ok(())
    });
}

fn binds(suite: &mut Suite) {
    suite.case("a_directory_is_bound", |g| {
        let mut b = g.bundle();
        fs::create_dir(b.dir.join("volume")).expect("a directory");
        fs::write(b.dir.join("volume/file"), "of the host\n").expect("a file");
        let source = b.dir.join("volume");
        b.mount("/vol", "bind", &source.to_string_lossy(), &["bind"])
            .shell("cat /vol/file; echo back > /vol/back");
        assert_eq!(b.printed(), "of the host");
        assert_eq!(
            fs::read_to_string(source.join("back")).expect("a file"),
            "back\n"
        );
        Ok(())
    });
    suite.case("a_file_is_bound_onto_a_file_that_is_made", |g| {
        let mut b = g.bundle();
        fs::write(b.dir.join("file"), "one file\n").expect("a file");
        let source = b.dir.join("file");
        b.mount(
            "/etc/deep/new",
            "bind",
            &source.to_string_lossy(),
            &["bind"],
        )
        .args(&["/bin/cat", "/etc/deep/new"]);
        assert_eq!(b.printed(), "one file");
        assert!(b.rootfs("/etc/deep/new").is_file());
        Ok(())
    });
    suite.case("a_type_of_none_with_bind_is_a_bind", |g| {
        let mut b = g.bundle();
        fs::write(b.dir.join("file"), "one file\n").expect("a file");
        let source = b.dir.join("file");
        b.mount(
            "/etc/new",
            "none",
            &source.to_string_lossy(),
            &["rbind", "ro"],
        )
        .args(&["/bin/cat", "/etc/new"]);
        assert_eq!(b.printed(), "one file");
        Ok(())
    });
    suite.case("a_bind_without_a_type_is_a_bind", |g| {
        let mut b = g.bundle();
        fs::write(b.dir.join("file"), "one file\n").expect("a file");
        let source = b.dir.join("file");
        b.set(
            "/mounts/-",
            json!({"destination": "/etc/new", "source": source, "options": ["bind"]}),
        )
        .args(&["/bin/cat", "/etc/new"]);
        assert_eq!(b.printed(), "one file");
        Ok(())
    });
    suite.case("a_relative_source_is_below_the_bundle", |g| {
        let mut b = g.bundle();
        fs::write(b.dir.join("file"), "one file\n").expect("a file");
        b.mount("/etc/new", "bind", "file", &["bind"])
            .args(&["/bin/cat", "/etc/new"]);
        assert_eq!(b.printed(), "one file");
        Ok(())
    });
    suite.case("a_source_that_is_a_link_is_followed_on_the_host", |g| {
        let mut b = g.bundle();
        fs::create_dir(b.dir.join("real")).expect("a directory");
        fs::write(b.dir.join("real/file"), "behind\n").expect("a file");
        symlink("real", b.dir.join("link")).expect("a link");
        let source = b.dir.join("link");
        b.mount("/vol", "bind", &source.to_string_lossy(), &["rbind"])
            .args(&["/bin/cat", "/vol/file"]);
        assert_eq!(b.printed(), "behind");
        Ok(())
    });
    for (option, below) in [("rbind", true), ("bind", false)] {
        suite.case(
            format!(
                "{option}_{}_the_mounts_below",
                if below { "takes" } else { "leaves" }
            ),
            move |g| {
                let source = g.work.join("tree");
                fs::create_dir_all(source.join("sub")).expect("a directory");
                mount(
                    Some("sub"),
                    &source.join("sub"),
                    Some("tmpfs"),
                    MsFlags::empty(),
                    None::<&str>,
                )
                .expect("a tmpfs");
                fs::write(source.join("sub/file"), "").expect("a file");
                let mut b = g.bundle();
                b.mount("/vol", "bind", &source.to_string_lossy(), &[option])
                    .args(&["/bin/ls", "/vol/sub"]);
                let out = b.run();
                umount2(&source.join("sub"), MntFlags::MNT_DETACH).expect("an umount");
                fs::remove_dir_all(&source).expect("removed");
                assert_eq!(out.ok().stdout.trim(), if below { "file" } else { "" });
                Ok(())
            },
        );
    }
    suite.case("a_device_node_is_bound", |g| {
        let mut b = g.bundle();
        b.mount("/dev/nothing", "bind", "/dev/null", &["bind"]);
        assert_eq!(b.probe(&["stat", "/dev/nothing"])[0]["device"], "1:3");
        Ok(())
    });
    suite.case("a_socket_is_bound", |g| {
        let mut b = g.bundle();
        let path = b.dir.join("socket");
        let socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        b.mount("/run/socket", "bind", &path.to_string_lossy(), &["bind"]);
        assert_eq!(b.probe(&["stat", "/run/socket"])[0]["type"], "socket");
        drop(socket);
        Ok(())
    });
}

fn targets(suite: &mut Suite) {
    suite.case("a_missing_target_is_made_with_mode_755", |g| {
        let mut b = g.bundle();
        b.mount("/not/there/yet", "tmpfs", "tmpfs", &[]).run().ok();
        let meta = fs::metadata(b.rootfs("/not/there")).expect("made");
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, 0));
        Ok(())
    });
    suite.case("a_target_behind_a_link_stays_inside_the_root", |g| {
        let mut b = g.bundle();
        symlink("/../../../../../../tmp", b.rootfs("/way")).expect("a link");
        symlink("/proc/self/cwd/../../..", b.rootfs("/trick")).expect("a link");
        b.mount("/way/here", "tmpfs", "here", &[]);
        assert_eq!(b.facts().mount("/tmp/here").source, "here");
        assert!(!Path::new("/tmp/here").exists());
        Ok(())
    });
    suite.case(
        "a_target_that_is_a_link_to_a_missing_place_is_made_inside",
        |g| {
            let mut b = g.bundle();
            symlink("/srv/data", b.rootfs("/data")).expect("a link");
            b.mount("/data", "tmpfs", "data", &[]);
            assert_eq!(b.facts().mount("/srv/data").source, "data");
            Ok(())
        },
    );
    suite.case("a_target_with_dots_is_cleaned", |g| {
        let mut b = g.bundle();
        b.mount("/tmp/../../../srv/./x/", "tmpfs", "clean", &[]);
        assert_eq!(b.facts().mount("/srv/x").source, "clean");
        Ok(())
    });
    suite.case("a_file_stays_a_mount_point_for_files_only", |g| {
        let mut b = g.bundle();
        fs::create_dir(b.dir.join("dir")).expect("a directory");
        let source = b.dir.join("dir");
        b.mount("/etc/passwd", "bind", &source.to_string_lossy(), &["bind"]);
        let words = b.refused();
        assert!(words.contains("not a directory"), "{words}");
        Ok(())
    });
}

fn cgroups(suite: &mut Suite) {
    for (name, options, writable) in [
        ("read_only", &["ro", "nosuid"][..], false),
        ("writable", &["rw", "nosuid"], true),
    ] {
        suite.case(format!("the_cgroup_mount_is_{name}_and_shows_the_own_cgroup"), move |g| {
            let mut b = g.bundle();
            b.mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
            let found = b.facts().mount("/sys/fs/cgroup");
            assert_eq!((found.kind.as_str(), found.has("ro"), found.root.as_str()), ("cgroup2", !writable, "/"));
            b.shell("cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>/dev/null && rmdir /sys/fs/cgroup/x && echo wrote; true");
            let text = b.printed();
            assert_eq!((text.starts_with('1'), text.ends_with("wrote")), (true, writable), "{text}");
            Ok(())
        });
    }
    suite.case(
        "without_a_cgroup_namespace_the_own_cgroup_is_found_by_its_path",
        |g| {
            let mut b = g.bundle();
            b.namespaces(&["pid", "network", "ipc", "uts", "mount"])
                .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
            let path = b.spec["linux"]["cgroupsPath"]
                .as_str()
                .map(String::from)
                .expect("a path");
            b.shell(&format!("cat /sys/fs/cgroup{path}/cgroup.procs"));
            assert!(b.printed().starts_with('1'));
            Ok(())
        },
    );
    suite.case("the_type_cgroup2_is_the_same", |g| {
        let mut b = g.bundle();
        b.mount(
            "/sys/fs/cgroup",
            "cgroup2",
            "cgroup2",
            &["ro", "nosuid", "noexec", "nodev"],
        );
        let found = b.facts().mount("/sys/fs/cgroup");
        assert!(
            found.kind == "cgroup2" && found.has("ro") && found.has("noexec"),
            "{found:?}"
        );
        Ok(())
    });
}

fn refused(suite: &mut Suite) {
    suite.case("a_bind_source_that_is_missing_is_refused_by_name", |g| {
        let mut b = g.bundle();
        b.mount("/vol", "bind", "/no/such/source", &["bind"]);
        assert!(b.refused().contains("/no/such/source"));
        Ok(())
    });
    suite.case("an_unknown_file_system_is_refused_by_name", |g| {
        let mut b = g.bundle();
        b.mount("/vol", "wishfs", "wishfs", &[]);
        let words = b.refused();
        assert!(
            words.contains("no such device") && words.contains("/vol"),
            "{words}"
        );
        Ok(())
    });
    suite.case("a_bad_option_of_a_file_system_is_refused", |g| {
        let mut b = g.bundle();
        b.mount("/vol", "tmpfs", "tmpfs", &["size=a-lot"]);
        assert!(b.refused().contains("/vol"));
        Ok(())
    });
    suite.case("a_mount_over_proc_that_is_no_proc_is_refused", |g| {
        let mut b = g.bundle();
        b.mount("/proc", "tmpfs", "tmpfs", &[]);
        assert!(b.refused().contains("/proc"));
        Ok(())
    });
    suite.case("a_mount_inside_proc_is_refused", |g| {
        g.since_runc(1, 2, "a check of mounts below /proc/self")?;
        let mut b = g.bundle();
        b.mount("/proc/self/attr", "tmpfs", "tmpfs", &[]);
        b.refused();
        Ok(())
    });
    suite.case("a_proc_that_is_a_link_in_the_image_is_refused", |g| {
        let b = g.bundle();
        fs::remove_dir(b.rootfs("/proc")).expect("removed");
        symlink("/tmp", b.rootfs("/proc")).expect("a link");
        b.refused();
        Ok(())
    });
}
