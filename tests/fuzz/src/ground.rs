//! What every target stands on: a host, a container, a place to freeze in, and what an error has to name.

use std::fmt;
use std::path::PathBuf;

use rsrun_core::error::ErrorKind;
use rsrun_core::freeze::freeze;
use rsrun_core::host::{CgroupState, Host, KernelVersion};
use rsrun_core::plan::{CreateFacts, ExecFacts, Plan, SeccompProgram, create, explain};
use rsrun_core::sys::arena::{Arena, SharedPage};
use rsrun_core::{Error, bundle};
use rsrun_init::step::FilterLine;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Every controller of the kernel, so that no limit is refused for want of one.
pub const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma misc";

/// A host with everything; no fact of this machine is in it.
pub fn host() -> Host {
    Host {
        kernel: KernelVersion(6, 12),
        cgroup_mount: PathBuf::from("/sys/fs/cgroup"),
        cgroup: CgroupState::Unified,
        apparmor: true,
        apparmor_attributes: true,
        selinux: true,
        last_capability: 40,
        bounding: u64::MAX >> 23,
        hard_limits: vec![u64::MAX; 16],
        open_files: None,
        in_user_namespace: false,
        has_kcore: true,
    }
}

/// What a create knows beside the document. The profile is not compiled here, `seccomp` does that: it would take
/// nearly all the time.
pub fn create_facts(has_profile: bool) -> CreateFacts {
    let allow = FilterLine {
        code: 6,
        jt: 0,
        jf: 0,
        k: 0x7fff_0000,
    };
    CreateFacts {
        id: "c1".into(),
        bundle: PathBuf::from("/run/bundle"),
        seccomp: has_profile.then(|| SeccompProgram {
            lines: vec![allow],
            flags: 0,
            listener: None,
        }),
        ..CreateFacts::default()
    }
}

/// A container that an exec is planned for: that of containerd's default spec.
pub fn exec_facts() -> ExecFacts {
    let spec = include_bytes!("../../conformance/specs/containerd.json");
    let spec = bundle::parse_spec(spec)
        .expect("containerd's own spec")
        .document;
    create(&spec, &create_facts(false), &host())
        .expect("the plan of containerd's own spec")
        .exec
}

/// A plan that was accepted can be frozen, and told in words.
pub fn freezes(plan: &Plan) {
    let arena = Arena::new().expect("an arena");
    let page = SharedPage::new().expect("a page");
    let numbers: Vec<i32> = (100..).take(plan.fds.len()).collect();
    let frozen = freeze(&arena, plan, &numbers, &page, 99, -1)
        .unwrap_or_else(|error| panic!("an accepted plan does not freeze: {error}"));
    assert_eq!(frozen.steps.len(), plan.steps.len());
    assert!(!explain(plan).is_empty());
}

/// A document in which the first of equal keys counts: an error about the second is met before what would replace the
/// place that it names.
struct FirstOfEqual(Value);

impl<'de> Deserialize<'de> for FirstOfEqual {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(FirstOfEqual(value)) = list.next_element()? {
            found.push(value);
        }
        Ok(found.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((key, FirstOfEqual(value))) = members.next_entry::<String, _>()? {
            found.entry(key).or_insert(value);
        }
        Ok(found.into())
    }
}

/// An error about a document has a kind that says so, and a place that is in it (or would be, below what is).
pub fn names_its_place(error: &Error, document: &[u8]) {
    let pointer = match error.kind() {
        ErrorKind::InvalidSpec { pointer } => pointer,
        ErrorKind::Unsupported { feature } => {
            assert!(!feature.is_empty(), "{error}: which feature?");
            return;
        }
        other => panic!("{error}: a document is no reason for {other:?}"),
    };
    assert!(
        pointer.is_empty() || pointer.starts_with('/'),
        "{pointer:?} is no JSON pointer: {error}"
    );
    let Ok(FirstOfEqual(value)) = serde_json::from_slice(document) else {
        return;
    };
    let (parent, _) = pointer.rsplit_once('/').unwrap_or_default();
    assert!(
        value.pointer(parent).is_some(),
        "{pointer:?} is nowhere in the document: {error}"
    );
}
