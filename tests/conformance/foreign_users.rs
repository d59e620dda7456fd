//! Does a user namespace go with namespaces that are not its own: one that is joined, the pids of the host?
use crate::user_namespaces::{ONE, map};
use rsrun_tests::cli::facts::namespace_of;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(crate) fn cases(suite: &mut Suite) {
    joined(suite);
    looked_up(suite);
    with_the_pids_of_the_host(suite);
}

fn joined(suite: &mut Suite) {
    suite.case("a_container_joins_the_user_namespace_of_its_pod", |g| {
        let mut pod = g.bundle();
        pod.user_namespace(&ONE);
        let pid = pod.hold();
        let mut b = g.bundle();
        b.user_namespace(&ONE).remove("/hostname");
        for (kind, file) in [
            ("user", "user"),
            ("network", "net"),
            ("ipc", "ipc"),
            ("uts", "uts"),
        ] {
            b.join(kind, &format!("/proc/{pid}/ns/{file}"));
        }
        let facts = b.facts();
        for file in ["user", "net", "ipc", "uts"] {
            assert_eq!(facts.ns(file), namespace_of(pid, file), "{file}");
        }
        assert_eq!(
            (facts.number("/pid"), facts.mount("/proc").kind.as_str()),
            (1, "proc")
        );
        Ok(())
    });
    suite.case(
        "a_container_joins_the_user_and_pid_namespace_of_its_pod",
        |g| {
            let mut pod = g.bundle();
            pod.user_namespace(&ONE);
            let pid = pod.hold();
            let mut b = g.bundle();
            b.user_namespace(&ONE);
            for kind in ["user", "pid"] {
                b.join(kind, &format!("/proc/{pid}/ns/{kind}"));
            }
            let facts = b.facts();
            assert_eq!(facts.ns("pid"), namespace_of(pid, "pid"));
            assert!(facts.number("/pid") > 1);
            Ok(())
        },
    );
    suite.case(
        "an_exec_enters_a_container_with_a_joined_user_namespace",
        |g| {
            let mut pod = g.bundle();
            pod.user_namespace(&ONE);
            let pid = pod.hold();
            let mut b = g.bundle();
            b.user_namespace(&ONE)
                .join("user", &format!("/proc/{pid}/ns/user"));
            b.hold();
            let facts = b.exec_facts(&[]);
            assert_eq!(facts.ns("user"), namespace_of(pid, "user"));
            Ok(())
        },
    );
}

/// The maps need not be in the spec then.
fn looked_up(suite: &mut Suite) {
    suite.case(
        "a_joined_user_namespace_gives_the_maps_that_the_spec_leaves_out",
        |g| {
            g.since_runc(1, 2, "the maps of a joined user namespace")?;
            let mut pod = g.bundle();
            pod.user_namespace(&ONE);
            let pid = pod.hold();
            let mut b = g.bundle();
            b.user_namespace(&ONE)
                .join("user", &format!("/proc/{pid}/ns/user"))
                .remove("/linux/uidMappings")
                .remove("/linux/gidMappings");
            let running = b.hold();
            let meta = fs::metadata(format!("/proc/{running}")).expect("a process");
            assert_eq!((meta.uid(), meta.gid()), (100_000, 100_000));
            assert_eq!(
                map(b.exec_facts(&[]).text("/uid_map")),
                [[0, 100_000, 65_536]]
            );
            Ok(())
        },
    );
    suite.case(
        "a_user_namespace_that_lives_in_a_file_alone_is_joined_without_maps_in_the_spec",
        |g| {
            g.since_runc(1, 2, "the maps of a joined user namespace")?;
            use nix::mount::{MntFlags, MsFlags, mount, umount2};
            let file = g.work.join("userns");
            fs::write(&file, "").expect("a file");
            let mut pod = g.bundle();
            pod.user_namespace(&ONE);
            let pid = pod.hold();
            let none = None::<&str>;
            let source = format!("/proc/{pid}/ns/user");
            mount(Some(source.as_str()), &file, none, MsFlags::MS_BIND, none)
                .expect("a bind mount");
            drop(pod);
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut b = g.bundle();
                b.user_namespace(&ONE)
                    .join("user", &file.to_string_lossy())
                    .remove("/linux/uidMappings")
                    .remove("/linux/gidMappings");
                map(b.facts().text("/uid_map"))
            }));
            umount2(&file, MntFlags::MNT_DETACH).expect("an umount");
            fs::remove_file(&file).expect("removed");
            let seen = seen.unwrap_or_else(|p| std::panic::resume_unwind(p));
            assert_eq!(seen, [[0, 100_000, 65_536]]);
            Ok(())
        },
    );
    suite.case(
        "maps_that_are_not_those_of_the_joined_user_namespace_are_refused",
        |g| {
            g.since_runc(1, 2, "a check of the maps of a joined user namespace")?;
            let mut pod = g.bundle();
            pod.user_namespace(&ONE);
            let pid = pod.hold();
            let mut b = g.bundle();
            b.user_namespace(&[(0, 200_000, 65_536)])
                .join("user", &format!("/proc/{pid}/ns/user"));
            assert!(b.refused().to_lowercase().contains("mapping"));
            Ok(())
        },
    );
}

fn with_the_pids_of_the_host(suite: &mut Suite) {
    const KINDS: [&str; 5] = ["mount", "network", "ipc", "uts", "cgroup"];
    suite.case(
        "a_user_namespace_goes_with_the_pid_namespace_of_the_host_where_its_proc_is_bound",
        |g| {
            let mut b = g.bundle();
            b.namespaces(&KINDS)
                .user_namespace(&ONE)
                .set("/mounts/0", json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}))
                .set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "80"}));
            let facts = b.facts();
            let own = fs::read_link("/proc/self/ns/pid").expect("a link");
            assert_eq!(facts.ns("pid"), own.to_string_lossy());
            assert_eq!(map(facts.text("/uid_map")), [[0, 100_000, 65_536]]);
            assert!(facts.number("/pid") > 1);
            Ok(())
        },
    );
    suite.case(
        "a_procfs_of_its_own_is_refused_in_a_user_namespace_with_the_pids_of_the_host",
        |g| {
            let mut b = g.bundle();
            b.namespaces(&KINDS).user_namespace(&ONE);
            let said = b.refused();
            assert!(
                g.runtime.runc.is_some() || said.contains("/mounts/0/type"),
                "{said}"
            );
            Ok(())
        },
    );
}
