//! Any mounts: a whole plan, or an error with its place.

use super::*;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/.]{0,12}", "/proc(/[a-z]{1,4}){0,2}", "\\PC{0,6}"]
}

fn mount() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "bind", "tmpfs", "proc", "sysfs", "cgroup", "none", "overlay", "",
    ]);
    let known = prop::sample::select(mount_option_words());
    let options = prop::collection::vec(prop_oneof![3 => known, 1 => text()], 0..5);
    (text(), kind, text(), options).prop_map(|(destination, kind, source, options)| {
            json!({"destination": destination, "type": kind, "source": source, "options": options})
        })
}

proptest! {
    #[test]
    fn mounts_make_a_whole_plan_or_an_error_with_a_place(
        mounts in prop::collection::vec(mount(), 0..5), readonly: bool, terminal: bool,
    ) {
        let value = with(&[
            ("/mounts", json!(mounts)),
            ("/root/readonly", json!(readonly)),
            ("/process/terminal", json!(terminal)),
        ]);
        match planned(&value) {
            Ok(plan) => whole(&plan.init),
            Err(error) => prop_assert!(matches!(
                error.kind(),
                ErrorKind::InvalidSpec { .. } | ErrorKind::Unsupported { .. }
            ), "{error:?}"),
        }
    }

    #[test]
    fn no_mount_lands_in_proc_by_its_text(mounts in prop::collection::vec(mount(), 0..5)) {
        if let Ok(plan) = planned(&with(&[("/mounts", json!(mounts))])) {
            for step in &plan.init.steps {
                if let Step::AttachTree { target, .. } | Step::MountFilesystem { target, .. } = step {
                    let target = target.to_str().unwrap();
                    prop_assert!(target.split('/').all(|part| part != ".."), "{}", target);
                    prop_assert!(!target.starts_with("/proc/self"), "{}", target);
                }
            }
        }
    }
}

/// Every name is that of a descriptor, and what must come once comes once.
fn whole(plan: &Plan) {
    let count = |wanted: fn(&PlanStep) -> bool| plan.steps.iter().filter(|s| wanted(s)).count();
    assert_eq!(count(|s| matches!(s, Step::PivotRoot)), 1);
    assert_eq!(count(|s| matches!(s, Step::Identity { .. })), 1);
    assert_eq!(count(|s| matches!(s, Step::Capabilities(_))), 1);
    assert_eq!(count(|s| matches!(s, Step::NewSession { .. })), 1);
    assert!(matches!(plan.steps.last(), Some(Step::Execute { .. })));
    for step in &plan.steps {
        let name = match step {
            Step::AttachTree { tree, .. } | Step::AttachRoot { tree, .. } => tree,
            Step::PlaceFd { fd, .. } | Step::KeepFd { fd } => fd,
            Step::Gate { fifo } => fifo,
            _ => continue,
        };
        assert!(name.0 < plan.fds.len());
    }
}
