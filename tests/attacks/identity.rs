//! B05, B08, B12, B13: capabilities, groups, keyrings, set-user-ID.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::runtime::finish;
use rsrun_tests::containment::inside;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

use crate::naive;

pub(crate) fn families(all: &mut Attacks) {
    b05_inheritable(all.family("b05"));
    b08_groups(all.family("b08"));
    b12_keyrings(all.family("b12"));
    b13_set_user_id(all.family("b13"));
}

/// CVE-2022-29162, 27650, 24769: an inheritable set that is not empty.
fn b05_inheritable(all: &mut Attacks) {
    all.contained("sets_of_an_init_are_those_of_the_spec", |s| {
        let facts = s.as_specified(&mut s.bundle());
        assert!(facts.capabilities("CapInh").is_empty());
        Ok(())
    });
    all.contained("sets_of_a_user_are_those_of_the_spec", |s| {
        let mut b = s.bundle();
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.args(&["/bin/probe", "facts"]);
        let facts = Facts::parse(&b.printed());
        assert!(facts.capabilities("CapInh").is_empty() && facts.capabilities("CapAmb").is_empty());
        Ok(())
    });
    all.contained("a_capability_of_an_exec_is_not_inheritable", |s| {
        let mut b = s.bundle();
        b.hold();
        let facts = b.exec_facts(&["--cap", "CAP_NET_RAW"]);
        assert!(facts.capabilities("CapEff").contains("CAP_NET_RAW"));
        assert!(
            facts.capabilities("CapInh").is_empty(),
            "{:?}",
            facts.capabilities("CapInh")
        );
        Ok(())
    });
    all.contained("inheritable_capabilities_of_a_file_give_nothing", |s| {
        let mut b = s.bundle();
        fs::copy(b.rootfs("/bin/probe"), b.rootfs("/bin/marked")).expect("a copy");
        let marked = Command::new("setcap")
            .arg("cap_kill+ei")
            .arg(b.rootfs("/bin/marked"))
            .status();
        assert!(marked.is_ok_and(|m| m.success()));
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/noNewPrivileges", json!(false));
        b.args(&["/bin/marked", "facts"]);
        assert!(Facts::parse(&b.printed()).capabilities("CapEff").is_empty());
        Ok(())
    });
    all.control_of_look("an_inheritable_set_that_stays", |s| {
        let b = s.bundle();
        let facts = naive::chrooted(&b, "exec setpriv --inh-caps +kill");
        let found = inside::differences(&b.spec, &facts);
        assert!(
            found.iter().any(|l| l.starts_with("inheritable")),
            "{found:?}"
        );
        Ok(())
    });
}

/// CVE-2023-25173: the caller's supplementary groups survive.
fn b08_groups(all: &mut Attacks) {
    for groups in [json!(null), json!([]), json!([7]), json!([7, 8, 4_000_000])] {
        let name = groups
            .as_array()
            .map_or("no_list_of".into(), |g| format!("{}", g.len()));
        all.contained(format!("of_a_caller_with_groups_{name}_groups"), move |s| {
            let mut b = s.bundle();
            b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            b.set("/process/user/additionalGids", groups);
            b.args(&["/bin/probe", "facts"]).write();
            let mut command = Command::new("setpriv");
            command
                .args(["--groups", "5,6,27"])
                .arg(&b.runtime().path)
                .arg("--root")
                .arg(&b.runtime().root);
            command.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
            let facts = Facts::parse(&finish(command, &b.runtime().root).ok().stdout);
            let found = inside::differences(&b.spec, &facts);
            assert!(!found.iter().any(|l| l.starts_with("groups")), "{found:?}");
            Ok(())
        });
    }
    all.control_of_look("groups_that_are_not_set", |s| {
        let b = s.bundle();
        let found = inside::differences(&b.spec, &naive::chrooted(&b, "exec setpriv --groups 5,6"));
        assert!(found.iter().any(|l| l.starts_with("groups")), "{found:?}");
        Ok(())
    });
}

/// The caller's keyring and terminal are inherited.
fn b12_keyrings(all: &mut Attacks) {
    all.contained("the_session_keyring_is_a_new_one", |s| {
        let mut b = s.bundle();
        let facts = b.facts();
        let name = facts.text("/keyring/description");
        assert!(name.contains(&b.id), "{name}");
        Ok(())
    });
    all.contained("an_exec_has_the_container_s_keyring_or_a_new_one", |s| {
        let mut b = s.bundle();
        b.hold();
        let facts = b.exec_facts(&[]);
        assert!(facts.text("/keyring/description").contains(&b.id));
        Ok(())
    });
    all.contained("no_terminal_of_the_caller_is_in_reach", |s| {
        let mut b = s.bundle();
        assert_eq!(b.probe(&["call", "16:0:0x5412:@x"]), json!([-25]));
        let opened = b.probe(&["open", "rw:/dev/tty"]);
        assert!([json!([-6]), json!([-2])].contains(&opened), "{opened}");
        let facts = b.facts();
        assert_eq!(facts.number("/sid"), facts.number("/pid"));
        Ok(())
    });
    all.control_of_look("a_keyring_that_is_kept", |s| {
        let b = s.bundle();
        let facts = naive::chrooted(&b, "exec");
        assert!(!facts.at("/keyring/description").to_string().contains(&b.id));
        Ok(())
    });
}

/// A helper of the image gains the rights of its owner.
fn b13_set_user_id(all: &mut Attacks) {
    for (what, seccomp) in [("without_a_profile", false), ("with_a_profile", true)] {
        all.contained(format!("an_init_{what}"), move |s| {
            let mut b = s.bundle();
            helper(&mut b, seccomp);
            b.args(&["/bin/helper", "facts"]);
            assert_eq!(Facts::parse(&b.printed()).status("Uid"), vec!["1000"; 4]);
            Ok(())
        });
        all.contained(format!("an_exec_{what}"), move |s| {
            let mut b = s.bundle();
            helper(&mut b, seccomp);
            b.hold();
            let out = b.on(&["exec"], &["/bin/helper", "facts"]).ok();
            assert_eq!(Facts::parse(&out.stdout).status("Uid"), vec!["1000"; 4]);
            Ok(())
        });
    }
    all.control_of_look("a_helper_without_no_new_privileges", |s| {
        let mut b = s.bundle();
        helper(&mut b, false);
        b.set("/process/noNewPrivileges", json!(false))
            .args(&["/bin/helper", "facts"]);
        assert_eq!(Facts::parse(&b.printed()).status("Uid")[1], "0");
        Ok(())
    });
}

fn helper(b: &mut Bundle<'_>, seccomp: bool) {
    let helper = b.rootfs("/bin/helper");
    fs::copy(b.rootfs("/bin/probe"), &helper).expect("a copy");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).expect("a mode");
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    if seccomp {
        let deny = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": deny}));
    }
}
