//! Does the device filter hold in the kernel?

use oci_spec::runtime::LinuxDeviceCgroup;
use rsrun_core::cgroup::devices::Program;
use rsrun_tests::cases;
use rsrun_tests::suite::{Case, Check};

use crate::scene::{Scene, open_descriptors};

pub fn cases() -> Vec<Case<Scene>> {
    cases![60 s:
        a_denied_device_does_not_open_and_an_allowed_one_does,
        a_denied_write_is_denied_beside_an_allowed_read,
        mknod_is_an_access_of_its_own,
        an_update_holds_at_once_and_leaves_one_program,
        one_filter_serves_many_cgroups_and_may_come_again,
        a_rule_list_of_a_thousand_is_loaded;
    ]
}

fn program(json: &str) -> Check<Program> {
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json)?;
    Ok(Program::compile(&rules)?)
}

const DENY: &str = r#"{"allow":false,"access":"rwm"}"#;
const NULL: &str = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
const ZERO: &str = r#"{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}"#;

/// The exit codes of these lines of shell, each run inside the cgroup.
fn codes(s: &Scene, lines: &[&str]) -> Check<Vec<bool>> {
    // The filter also holds for the shell's own /dev/null: everything it needs it has open.
    lines
        .iter()
        .map(|line| Ok(s.wait(s.shell("a", line)?)? == 0))
        .collect()
}

fn a_denied_device_does_not_open_and_an_allowed_one_does(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let opens = [
        ": < /dev/null",
        ": > /dev/null",
        ": < /dev/zero",
        ": < /dev/full",
    ];
    assert_eq!(codes(s, &opens)?, [true, true, true, true]);
    cgroup.set_devices(&program(&format!("[{DENY},{NULL},{ZERO}]"))?)?;
    assert_eq!(codes(s, &opens)?, [true, true, true, false]);
    assert_eq!(
        codes(s, &[": > /dev/zero", "cat < /dev/full 2>&1 | grep -q x"])?,
        [false, false]
    );
    cgroup.set_devices(&program("[]")?)?;
    assert_eq!(codes(s, &opens)?, [false, false, false, false]);
    Ok(())
}

fn a_denied_write_is_denied_beside_an_allowed_read(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let hole = r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},
                   {"allow":false,"type":"c","major":1,"minor":5,"access":"w"}]"#;
    cgroup.set_devices(&program(hole)?)?;
    let opens = [
        ": < /dev/zero",
        ": > /dev/zero",
        ": <> /dev/zero",
        ": <> /dev/full",
    ];
    assert_eq!(codes(s, &opens)?, [true, false, false, true]);
    Ok(())
}

fn mknod_is_an_access_of_its_own(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let make = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","access":"m"}]"#;
    cgroup.set_devices(&program(make)?)?;
    let node = format!("/run/node-{}", cgroup.inode());
    let made = format!("mknod {node} c 1 7");
    let opened = format!(": < {node}");
    let block = format!("mknod {node}-b b 7 0");
    assert_eq!(codes(s, &[&made, &opened, &block])?, [true, false, false]);
    std::fs::remove_file(node)?;
    Ok(())
}

fn an_update_holds_at_once_and_leaves_one_program(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    assert!(cgroup.device_programs()?.is_empty());
    let open = program(&format!("[{DENY},{NULL}]"))?;
    let shut = program(&format!("[{DENY}]"))?;
    let before = open_descriptors()?;
    for _ in 0..100 {
        cgroup.set_devices(&open)?;
        cgroup.set_devices(&shut)?;
    }
    assert_eq!(cgroup.device_programs()?.len(), 1);
    assert!(open_descriptors()? < before + 50);
    assert_eq!(codes(s, &[": < /dev/null"])?, [false]);
    cgroup.set_devices(&open)?;
    assert_eq!(codes(s, &[": < /dev/null"])?, [true]);
    Ok(())
}

fn one_filter_serves_many_cgroups_and_may_come_again(s: &Scene) -> Check {
    let first = s.cgroup("a")?;
    let second = s.cgroup("b")?;
    let filter = program("[]")?.load()?;
    for cgroup in [&first, &second, &first] {
        cgroup.attach_devices(&filter)?;
        assert_eq!(cgroup.device_programs()?.len(), 1);
    }
    drop(filter);
    assert_eq!(codes(s, &[": < /dev/null"])?, [false]);
    // Inside a cgroup that allows all, one that denies still does: the filters of both hold.
    let open = program(r#"[{"allow":true,"access":"rwm"}]"#)?;
    s.cgroup("a/below")?.set_devices(&open)?;
    let below = s.shell("a/below", ": < /dev/null")?;
    assert_ne!(s.wait(below)?, 0);
    Ok(())
}

fn a_rule_list_of_a_thousand_is_loaded(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let mut rules = vec![DENY.to_owned(), NULL.to_owned()];
    rules.extend((0..1000).map(|minor| {
        let access = ["r", "rw", "m", "rwm", "w"][minor % 5];
        let (allow, typ) = (minor % 3 != 0, ["b", "c"][minor % 2]);
        let major = 250 + minor % 7;
        format!(r#"{{"allow":{allow},"type":"{typ}","major":{major},"minor":{minor},"access":"{access}"}}"#)
    }));
    cgroup.set_devices(&program(&format!("[{}]", rules.join(",")))?)?;
    assert_eq!(
        codes(s, &[": < /dev/null", ": < /dev/zero"])?,
        [true, false]
    );
    Ok(())
}
