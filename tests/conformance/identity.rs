//! Who is the process: ids, groups, umask, capabilities, privileges, keyring?
use rsrun_tests::cli::facts::{CAPABILITIES, Facts};
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) fn cases(suite: &mut Suite) {
    users(suite);
    capabilities(suite);
    privileges(suite);
    keyrings(suite);
}

fn users(suite: &mut Suite) {
    suite.case(
        "uid_and_gid_are_real_effective_saved_and_of_the_file_system",
        |g| {
            let mut b = g.bundle();
            b.set("/process/user", json!({"uid": 12, "gid": 34}));
            let facts = b.facts();
            assert_eq!(facts.status("Uid"), ["12"; 4]);
            assert_eq!(facts.status("Gid"), ["34"; 4]);
            Ok(())
        },
    );
    suite.case("the_largest_uid_is_no_special_one", |g| {
        let mut b = g.bundle();
        b.set(
            "/process/user",
            json!({"uid": 4_294_967_294_u32 - 1, "gid": 2_147_483_648_u32}),
        );
        if b.runtime().runc.is_some() {
            // runc takes no id above 2^31 - 1.
            return g.differs_from_runc("ids go up to 2^32 - 2, as in the kernel");
        }
        let facts = b.facts();
        assert_eq!(
            (facts.status("Uid")[0], facts.status("Gid")[0]),
            ("4294967293", "2147483648")
        );
        Ok(())
    });
    suite.case("additional_gids_replace_those_of_the_caller", |g| {
        let mut b = g.bundle();
        b.set(
            "/process/user",
            json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 2000, 3_000_000]}),
        );
        assert_eq!(b.facts().status("Groups"), ["5", "2000", "3000000"]);
        Ok(())
    });
    suite.case("without_additional_gids_there_are_none", |g| {
        let mut b = g.bundle();
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        assert!(b.facts().status("Groups").is_empty());
        Ok(())
    });
    suite.case("what_a_caller_without_setpcap_has_may_be_kept", |g| {
        let mut b = g.bundle();
        let own = std::fs::read_to_string("/proc/self/status").expect("a status");
        let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let own = u64::from_str_radix(own.expect("a set").trim(), 16).expect("hexadecimal");
        let all = CAPABILITIES.iter().zip(0..);
        let kept: Vec<_> = all
            .filter(|(name, n)| own & (1 << n) != 0 && **name != "CAP_SETPCAP")
            .map(|(name, _)| *name)
            .collect();
        b.args(&["/bin/probe", "facts"]).set(
            "/process/capabilities",
            json!({"bounding": kept, "effective": kept, "permitted": kept}),
        );
        b.write();
        let runtime = b.runtime();
        let without = "exec setpriv --bounding-set=-setpcap --inh-caps=-setpcap";
        let mut command = runtime.command_after(without, ["run", "--bundle"]);
        command.arg(&b.dir).arg(&b.id);
        let out = rsrun_tests::cli::runtime::finish(command, &runtime.root).ok();
        assert!(
            !Facts::parse(&out.stdout)
                .capabilities("CapBnd")
                .contains("CAP_SETPCAP")
        );
        Ok(())
    });
    suite.case("umask_is_022_by_default_whatever_the_caller_has", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let runtime = b.runtime();
        let mut command = runtime.command_after("umask 077; exec", ["run", "--bundle"]);
        command.arg(&b.dir).arg(&b.id);
        let out = rsrun_tests::cli::runtime::finish(command, &runtime.root).ok();
        assert_eq!(Facts::parse(&out.stdout).number("/umask"), 0o022);
        Ok(())
    });
    suite.case("umask_of_the_spec_is_set", |g| {
        let mut b = g.bundle();
        b.set("/process/user/umask", json!(0o137));
        assert_eq!(b.facts().number("/umask"), 0o137);
        b.shell("touch /tmp/made; stat -c %a /tmp/made");
        assert_eq!(b.printed(), "640");
        Ok(())
    });
}

fn set_of(names: &[&'static str]) -> BTreeSet<&'static str> {
    names.iter().copied().collect()
}

fn capabilities(suite: &mut Suite) {
    suite.case("five_capability_sets_are_each_as_written", |g| {
        let mut b = g.bundle();
        b.set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
                "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
                "effective": ["CAP_CHOWN", "CAP_KILL"],
                "inheritable": ["CAP_CHOWN", "CAP_KILL"],
                "ambient": ["CAP_KILL"]
            }),
        )
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let facts = b.facts();
        assert_eq!(
            facts.capabilities("CapBnd"),
            set_of(&["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"])
        );
        assert_eq!(
            facts.capabilities("CapInh"),
            set_of(&["CAP_CHOWN", "CAP_KILL"])
        );
        assert_eq!(facts.capabilities("CapAmb"), set_of(&["CAP_KILL"]));
        // What execve leaves of a user that is not root: the ambient ones.
        assert_eq!(facts.capabilities("CapPrm"), set_of(&["CAP_KILL"]));
        assert_eq!(facts.capabilities("CapEff"), set_of(&["CAP_KILL"]));
        Ok(())
    });
    suite.case("root_gets_by_execve_what_its_bounding_and_inheritable_sets_give", |g| {
        let mut b = g.bundle();
        b.set("/process/capabilities", json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"]
        }));
        let facts = b.facts();
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            assert_eq!(facts.capabilities(set), set_of(&["CAP_CHOWN", "CAP_KILL"]), "{set}");
        }
        assert!(facts.capabilities("CapInh").is_empty() && facts.capabilities("CapAmb").is_empty());
        Ok(())
    });
    suite.case("every_capability_that_the_host_has_can_be_given", |g| {
        let mut b = g.bundle();
        let own = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = own.lines().find_map(|l| l.strip_prefix("CapBnd:")).expect("a line").trim();
        let bits = u64::from_str_radix(line, 16).expect("hexadecimal");
        let all: Vec<&str> = CAPABILITIES.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|(_, c)| *c).collect();
        b.set("/process/capabilities", json!({"bounding": all, "permitted": all, "effective": all, "inheritable": all, "ambient": all}));
        let facts = b.facts();
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(facts.capabilities(set), all.iter().copied().collect(), "{set}");
        }
        Ok(())
    });
    suite.case("empty_capability_sets_leave_none", |g| {
        let mut b = g.bundle();
        b.set(
            "/process/capabilities",
            json!({"bounding": [], "permitted": [], "effective": []}),
        );
        let facts = b.facts();
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert!(facts.capabilities(set).is_empty(), "{set}");
        }
        Ok(())
    });
    suite.case("a_spec_without_capabilities_leaves_none", |g| {
        if g.since_runc(1, 2, "").is_ok() {
            g.differs_from_runc(
                "who is given no capability has none; runc since 1.2 leaves those of its caller",
            )?;
        }
        let mut b = g.bundle();
        b.remove("/process/capabilities");
        let facts = b.facts();
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            assert!(
                facts.capabilities(set).is_empty(),
                "{set} is {:?}",
                facts.capabilities(set)
            );
        }
        Ok(())
    });
    suite.case(
        "a_capability_that_nobody_knows_is_warned_of_and_passed_over",
        |g| {
            let mut b = g.bundle();
            let list = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
            b.set(
                "/process/capabilities",
                json!({"bounding": list, "permitted": list, "effective": list}),
            );
            b.args(&["/bin/probe", "facts"]);
            let out = b.run().ok();
            assert_eq!(
                Facts::parse(&out.stdout).capabilities("CapEff"),
                set_of(&["CAP_KILL"])
            );
            assert!(
                out.stderr.contains("CAP_OF_TOMORROW"),
                "no warning names it: {}",
                out.stderr
            );
            Ok(())
        },
    );
}

fn privileges(suite: &mut Suite) {
    suite.case("no_new_privileges_is_set_only_where_asked", |g| {
        for wanted in [true, false] {
            let mut b = g.bundle();
            b.set("/process/noNewPrivileges", json!(wanted));
            assert_eq!(b.facts().number("/no_new_privs"), i64::from(wanted));
        }
        Ok(())
    });
    suite.case("no_new_privileges_keeps_the_uid_at_a_set_uid_file", |g| {
        use std::os::unix::fs::PermissionsExt;
        for (wanted, uid) in [(true, "1000"), (false, "0")] {
            let mut b = g.bundle();
            std::fs::copy(b.rootfs("/bin/probe"), b.rootfs("/tmp/probe")).expect("a copy");
            std::fs::set_permissions(
                b.rootfs("/tmp/probe"),
                std::fs::Permissions::from_mode(0o4755),
            )
            .expect("a mode");
            b.set("/process/noNewPrivileges", json!(wanted))
                .set("/process/user", json!({"uid": 1000, "gid": 1000}));
            b.args(&["/tmp/probe", "facts"]);
            assert_eq!(Facts::parse(&b.printed()).status("Uid")[1], uid);
        }
        Ok(())
    });
    suite.case("nothing_of_the_launch_stays_in_the_process", |g| {
        let facts = g.bundle().facts();
        for (fact, value) in [
            ("/securebits", 0),
            ("/keepcaps", 0),
            ("/dumpable", 1),
            ("/parent_death_signal", 0),
            ("/thp_disable", 0),
        ] {
            assert_eq!(facts.number(fact), value, "{fact}");
        }
        assert_eq!(facts.text("/status/Seccomp"), "0");
        Ok(())
    });
    suite.case("the_process_leads_a_session_of_its_own", |g| {
        let facts = g.bundle().facts();
        assert_eq!(
            (
                facts.number("/pid"),
                facts.number("/sid"),
                facts.number("/pgid")
            ),
            (1, 1, 1)
        );
        assert_eq!(facts.number("/ppid"), 0);
        Ok(())
    });
}

fn keyrings(suite: &mut Suite) {
    suite.case("the_session_keyring_is_a_new_one_of_the_container", |g| {
        let mut b = g.bundle();
        let facts = b.facts();
        let description = facts.text("/keyring/description");
        assert!(
            description.starts_with("keyring;0;0;")
                && description.ends_with(&format!("_ses.{}", b.id)),
            "{description}"
        );
        Ok(())
    });
    suite.case("with_no_new_keyring_it_is_the_caller_s", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let facts = Facts::parse(&b.call("run", &["--no-new-keyring"]).ok().stdout);
        let own = std::process::Command::new(b.rootfs("/bin/probe"))
            .arg("facts")
            .output()
            .expect("the probe on the host");
        let own: Value = serde_json::from_slice(&own.stdout).expect("facts");
        assert_eq!(facts.at("/keyring/serial"), &own["keyring"]["serial"]);
        Ok(())
    });
}
