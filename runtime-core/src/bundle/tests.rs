//! Documents as they should not be, and those that the types read wrongly without help.

use super::*;
use oci_spec::runtime::LinuxSchedulerFlag;
use proptest::prelude::*;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

fn place_of(text: &str) -> (String, String) {
    let error = parse_spec(text.as_bytes()).unwrap_err();
    match error.kind() {
        ErrorKind::InvalidSpec { pointer } => (pointer.clone(), error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_names_its_place_in_the_document() {
    for (text, place) in [
        (r#"{"process": {"cwd": 1}}"#, "/process/cwd"),
        (
            r#"{"linux": {"namespaces": [{"type": "pid"}, {"type": "nope"}]}}"#,
            "/linux/namespaces/1/type",
        ),
        (
            r#"{"process": {"cwd": "/", "rlimits": [{"type": "RLIMIT_X"}]}}"#,
            "/process/rlimits/0/type",
        ),
        (
            r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_PRAY"}}}"#,
            "/linux/seccomp/defaultAction",
        ),
        (r#"{"annotations": {"a/b~c": 1}}"#, "/annotations/a~1b~0c"),
        (
            r#"{"linux": {"uidMappings": [{"containerID": 0, "hostID": 4294967296, "size": 1}]}}"#,
            "/linux/uidMappings/0/hostID",
        ),
        (
            r#"{"mounts": [{"destination": "/a"}, {}]}"#,
            "/mounts/1/destination",
        ),
        (r#"{"process": {}}"#, "/process/cwd"),
        (r#"{"linux": []}"#, "/linux"),
        (r#"{"linux": {"resources": []}}"#, "/linux/resources"),
        (
            r#"{"process": {"cwd": "/", "user": [0, 0]}}"#,
            "/process/user",
        ),
        (
            r#"{"hooks": {"poststop": [["/bin/true"]]}}"#,
            "/hooks/poststop/0",
        ),
    ] {
        let (found, text) = place_of(text);
        assert_eq!(found, place, "{text}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_where_it_does() {
    let (place, text) = place_of(r#"{"process": {"cwd": "/a", "cwd": "/b"}}"#);
    assert_eq!(place, "/process");
    assert!(text.contains("\"cwd\" stands twice"), "{text}");
}

#[test]
fn malformed_documents_are_errors_at_once() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let in_annotation = format!(r#"{{"annotations": {{"x": {deep}}}}}"#);
    let many = format!(r#"{{"x": [{}0]}}"#, "0,".repeat(500_000));
    for text in [
        "",
        "{",
        "{}x",
        "[]",
        "1",
        "null",
        &deep,
        &in_annotation,
        &many,
    ] {
        assert!(parse_spec(text.as_bytes()).is_err());
    }
    assert!(parse_spec(b"{\"hostname\": \"\xff\xfe\"}").is_err());
    assert!(parse_spec(br#"{"root": {"path": "\ud800"}}"#).is_err());
}

#[test]
fn an_unknown_property_is_no_error() {
    let loaded = parse_spec(br#"{"ociVersion": "1.9.0", "new": {"a": [1.5]}}"#).unwrap();
    assert_eq!(loaded.document.version(), "1.9.0");
}

#[test]
fn an_unknown_capability_is_left_out_with_a_warning() {
    let text = json!({"process": {"cwd": "/", "user": {"uid": 1, "gid": 1}, "capabilities": {
        "bounding": ["CAP_KILL", "CAP_TIME_TRAVEL", "chown"], "ambient": null}}});
    let loaded = parse_spec(text.to_string().as_bytes()).unwrap();
    let process = loaded.document.process().clone().unwrap();
    let bounding = process.capabilities().clone().unwrap().bounding().clone();
    assert_eq!(bounding.unwrap().len(), 2);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].starts_with("/process/capabilities/bounding: "));
    let wrong = json!({"process": {"cwd": "/", "capabilities": {"bounding": [7]}}});
    assert_eq!(
        place_of(&wrong.to_string()).0,
        "/process/capabilities/bounding/0"
    );
}

#[test]
fn a_pids_section_without_a_limit_sets_none() {
    for pids in [json!({}), json!({"limit": null})] {
        let loaded = parse_resources(json!({"pids": pids}).to_string().as_bytes()).unwrap();
        assert_eq!(loaded.document.pids(), &None);
    }
    let zero = parse_resources(br#"{"pids": {"limit": 0}}"#).unwrap();
    assert_eq!(zero.document.pids().map(|p| p.limit()), Some(0));
    let in_spec = parse_spec(br#"{"linux": {"resources": {"pids": {}}}}"#).unwrap();
    let resources = in_spec
        .document
        .linux()
        .clone()
        .unwrap()
        .resources()
        .clone();
    assert_eq!(resources.unwrap().pids(), &None);
}

#[test]
fn scheduler_flags_have_their_names_of_the_specification() {
    let names = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let text = json!({"cwd": "/", "scheduler": {"policy": "SCHED_OTHER", "flags": names}});
    let process = parse_process(text.to_string().as_bytes()).unwrap().document;
    let flags = process
        .scheduler()
        .clone()
        .unwrap()
        .flags()
        .clone()
        .unwrap();
    assert_eq!(flags.len(), names.len());
    assert_eq!(flags[0], LinuxSchedulerFlag::SchedResetOnFork);
    assert_eq!(flags[2], LinuxSchedulerFlag::SchedFlagDLOverrun);
}

#[test]
fn a_process_without_a_user_is_root() {
    let process = parse_process(br#"{"cwd": "/", "args": ["x"]}"#)
        .unwrap()
        .document;
    assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
}

/// A bundle directory of its own, gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bundle-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    fn load(&self) -> Result<Loaded<Spec>> {
        Bundle::open(&self.0)?.load()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_config_that_is_no_plain_file_or_too_large_is_refused_without_hanging() {
    let fifo = Directory::new();
    nix::unistd::mkfifo(&fifo.config(), Mode::S_IRWXU).unwrap();
    assert!(
        fifo.load()
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let device = Directory::new();
    std::os::unix::fs::symlink("/dev/zero", device.config()).unwrap();
    assert!(
        device
            .load()
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let large = Directory::new();
    File::create(large.config())
        .unwrap()
        .set_len(LARGEST + 1)
        .unwrap();
    assert!(
        large
            .load()
            .unwrap_err()
            .to_string()
            .contains("larger than 16 MiB")
    );
    let missing = Directory::new();
    let error = missing.load().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotFound { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[test]
fn a_bundle_is_read_by_its_directory() {
    let directory = Directory::new();
    std::fs::write(directory.config(), br#"{"ociVersion": "1.0.0"}"#).unwrap();
    assert_eq!(directory.load().unwrap().document.version(), "1.0.0");
    assert!(Bundle::open(Path::new("relative")).is_err());
    assert!(
        Bundle::open(&directory.config()).is_err(),
        "not a directory"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(text: Vec<u8>) {
        let _ = parse_spec(&text);
    }

    #[test]
    fn a_cut_document_is_an_error(cut in 0_usize..2000) {
        let whole = include_bytes!("../plan/testdata/ctr.json");
        let cut = cut.min(whole.len() - 2);
        prop_assert!(parse_spec(&whole[..cut]).is_err());
    }
}
