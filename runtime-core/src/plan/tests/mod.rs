//! Whole plans, from specs as clients send them.
//!
//! The expected plans lie in `testdata`; after a wanted change they are written anew with
//! `WRITE_PLANS=1 cargo test -p rsrun-core plan`.

mod any;
mod create;
mod exec;
mod refused;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use rsrun_init::step::Step;
use serde_json::{Value, json};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::host::{CgroupState, Host, KernelVersion};

pub(super) fn host() -> Host {
    Host {
        kernel: KernelVersion(6, 1),
        cgroup_mount: PathBuf::from("/sys/fs/cgroup"),
        cgroup: CgroupState::Unified,
        apparmor: false,
        apparmor_attributes: false,
        selinux: false,
        last_capability: 40,
        bounding: u64::MAX >> 23,
        hard_limits: vec![
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            4096,
            524_288,
        ],
        open_files: None,
        in_user_namespace: false,
        has_kcore: true,
    }
}

fn ctr() -> Value {
    serde_json::from_str(include_str!("../testdata/ctr.json")).unwrap()
}

fn spec(value: &Value) -> Spec {
    crate::bundle::parse_spec(value.to_string().as_bytes())
        .unwrap()
        .document
}

fn facts() -> CreateFacts {
    CreateFacts {
        id: "c1".into(),
        bundle: PathBuf::from("/run/bundle"),
        ..CreateFacts::default()
    }
}

fn planned(value: &Value) -> Result<ContainerPlan> {
    create(&spec(value), &facts(), &host())
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) if key == "-" => items.push(new),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = new,
        other => other[key] = new,
    }
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut value = ctr();
    for (pointer, new) in changes {
        set(&mut value, pointer, new.clone());
    }
    value
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(step_words).collect()
}

/// The index of the first step whose words start so.
fn at(plan: &Plan, start: &str) -> usize {
    let words = words(plan);
    let found = words.iter().position(|w| w.starts_with(start));
    found.unwrap_or_else(|| panic!("no step {start:?} in {words:#?}"))
}

fn in_order(plan: &Plan, starts: &[&str]) {
    let found: Vec<usize> = starts.iter().map(|start| at(plan, start)).collect();
    assert!(found.is_sorted(), "{starts:?} at {found:?}");
}

fn expect_plan(name: &str, plan: &Plan) {
    let text = explain(plan);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plan/testdata/{name}.plan"));
    if std::env::var_os("WRITE_PLANS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected, "the plan is not that of {}", file.display());
}

fn refused(changes: &[(&str, Value)], pointer: &str) {
    let error = planned(&with(changes)).unwrap_err();
    let found = match error.kind() {
        ErrorKind::InvalidSpec { pointer } => pointer.clone(),
        ErrorKind::Unsupported { feature } => feature.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, pointer, "{error}");
}
