//! Which files get which values for the resources of a spec?

use oci_spec::runtime::LinuxResources;
use proptest::prelude::*;

use super::super::controllers::Controllers;
use super::{Absent, Changes, Value, writes};
use crate::error::{Error, ErrorKind};

fn all() -> Controllers {
    Controllers::parse("cpuset cpu io memory hugetlb pids rdma misc")
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect(json)
}

fn planned(json: &str) -> Changes {
    writes(&resources(json), &all()).expect(json)
}

/// Files and values of the writes, in order.
fn files(json: &str) -> Vec<(String, String)> {
    planned(json)
        .writes
        .into_iter()
        .map(|write| match write.value {
            Value::Text(text) => (write.file, text),
            Value::AfterFirstWord(rest) => (write.file, format!("* {rest}")),
        })
        .collect()
}

fn assert_files(json: &str, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(files(json), wanted, "{json}");
}

fn refused(json: &str, controllers: &Controllers) -> Error {
    writes(&resources(json), controllers).expect_err(json)
}

fn assert_invalid(json: &str, place: &str) {
    let error = refused(json, &all());
    assert!(
        matches!(error.kind(), ErrorKind::InvalidSpec { pointer } if pointer == place),
        "{json}: {error}"
    );
}

fn assert_unsupported(json: &str, place: &str) {
    let error = refused(json, &all());
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported { .. }),
        "{json}: {error}"
    );
    assert!(error.to_string().starts_with(place), "{json}: {error}");
}

#[test]
fn shares_become_the_weight_that_fits_minimum_default_and_maximum() {
    for (shares, weight) in [
        (1, 1),
        (2, 1),
        (3, 2),
        (100, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (10240, 639),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(super::cpu::weight(shares), weight, "{shares}");
    }
    assert_files(r#"{"cpu":{"shares":1024}}"#, &[("cpu.weight", "100")]);
    assert_files(r#"{"cpu":{"shares":0}}"#, &[]);
}

#[test]
fn a_value_that_the_kernel_would_cut_is_refused() {
    assert_invalid(
        r#"{"unified":{"memory.high":"1\u0000000"}}"#,
        "/linux/resources/unified/memory.high",
    );
}

#[test]
fn quota_and_period_share_a_file() {
    assert_files(
        r#"{"cpu":{"quota":50000,"period":200000}}"#,
        &[("cpu.max", "50000 200000")],
    );
    assert_files(r#"{"cpu":{"quota":50000}}"#, &[("cpu.max", "50000")]);
    assert_files(r#"{"cpu":{"quota":-1}}"#, &[("cpu.max", "max")]);
    assert_files(r#"{"cpu":{"period":50000}}"#, &[("cpu.max", "* 50000")]);
    assert_invalid(r#"{"cpu":{"quota":-5}}"#, "/linux/resources/cpu/quota");
}

#[test]
fn an_idle_cgroup_gets_its_weight_before_it_is_idle() {
    assert_files(
        r#"{"cpu":{"idle":1,"shares":2}}"#,
        &[("cpu.weight", "1"), ("cpu.idle", "1")],
    );
    assert_files(
        r#"{"cpu":{"idle":0,"shares":2}}"#,
        &[("cpu.idle", "0"), ("cpu.weight", "1")],
    );
    assert_invalid(r#"{"cpu":{"idle":2}}"#, "/linux/resources/cpu/idle");
}

#[test]
fn burst_and_cpusets_are_written() {
    assert_files(
        r#"{"cpu":{"quota":1000,"burst":500,"cpus":"0-1","mems":""}}"#,
        &[
            ("cpu.max", "1000"),
            ("cpu.max.burst", "500"),
            ("cpuset.cpus", "0-1"),
        ],
    );
}

#[test]
fn swap_is_what_memory_and_swap_have_beyond_memory() {
    let limits = r#"{"memory":{"limit":1000,"swap":1500,"reservation":500}}"#;
    assert_files(
        limits,
        &[
            ("memory.swap.max", "500"),
            ("memory.max", "1000"),
            ("memory.low", "500"),
        ],
    );
    assert_files(
        r#"{"memory":{"limit":-1}}"#,
        &[("memory.swap.max", "max"), ("memory.max", "max")],
    );
    assert_files(r#"{"memory":{"swap":-1}}"#, &[("memory.swap.max", "max")]);
    assert_files(
        r#"{"memory":{"limit":-1,"swap":300}}"#,
        &[("memory.swap.max", "300"), ("memory.max", "max")],
    );
    assert_files(r#"{"memory":{"limit":0,"swap":0}}"#, &[]);
    assert_invalid(r#"{"memory":{"swap":300}}"#, "/linux/resources/memory/swap");
    assert_invalid(
        r#"{"memory":{"limit":500,"swap":300}}"#,
        "/linux/resources/memory/swap",
    );
    assert_invalid(
        r#"{"memory":{"limit":-2}}"#,
        "/linux/resources/memory/limit",
    );
}

#[test]
fn no_swap_at_all_holds_on_hosts_without_swap_accounting() {
    let changes = planned(r#"{"memory":{"limit":1000,"swap":1000}}"#);
    assert_eq!(changes.writes[0].file, "memory.swap.max");
    assert_eq!(changes.writes[0].absent, Absent::Skip);
    let changes = planned(r#"{"memory":{"limit":1000,"swap":1001}}"#);
    assert_eq!(changes.writes[0].absent, Absent::Refuse);
}

#[test]
fn check_before_update_is_kept_for_the_update() {
    let changes = planned(r#"{"memory":{"limit":1000,"swap":-1,"checkBeforeUpdate":true}}"#);
    let check = changes.above_usage.expect("a check");
    assert_eq!((check.memory, check.memory_and_swap), (Some(1000), None));
    assert_eq!(planned(r#"{"memory":{"limit":1}}"#).above_usage, None);
}

#[test]
fn pids_zero_is_a_limit_and_minus_one_is_none() {
    assert_files(r#"{"pids":{"limit":32}}"#, &[("pids.max", "32")]);
    assert_files(r#"{"pids":{"limit":0}}"#, &[("pids.max", "1")]);
    assert_files(r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]);
    assert_files("{}", &[]);
}

#[test]
fn block_io_has_two_scales_of_weight() {
    let changes = planned(
        r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}],
            "throttleReadBpsDevice":[{"major":8,"minor":16,"rate":1048576}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
    );
    let lines: Vec<_> = changes
        .writes
        .iter()
        .map(|write| (write.file.as_str(), &write.value, &write.absent))
        .collect();
    let text = |text: &str| Value::Text(text.to_owned());
    let instead = |text: &str| Absent::Instead("io.weight".to_owned(), text.to_owned());
    assert_eq!(
        lines,
        [
            ("io.bfq.weight", &text("500"), &instead("4950")),
            ("io.bfq.weight", &text("8:0 10"), &instead("8:0 1")),
            ("io.max", &text("8:16 rbps=1048576"), &Absent::Refuse),
            ("io.max", &text("8:16 wiops=max"), &Absent::Skip),
        ]
    );
    assert_eq!(super::io::io_weight(1000), 10_000);
    assert_invalid(
        r#"{"blockIO":{"weight":9}}"#,
        "/linux/resources/blockIO/weight",
    );
    assert_invalid(
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
        "/linux/resources/blockIO/throttleReadBpsDevice/0",
    );
}

#[test]
fn hugepages_limit_use_and_reservations() {
    assert_files(
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
        &[("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "0")],
    );
    for size in ["", "MB", "2mb", "../2MB", "2 MB"] {
        let json = format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#);
        assert_invalid(&json, "/linux/resources/hugepageLimits/0/pageSize");
    }
}

#[test]
fn rdma_devices_come_in_order() {
    assert_files(
        r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"mlx4_0":{"hcaObjects":1},"x":{}}}"#,
        &[
            ("rdma.max", "mlx4_0 hca_object=1"),
            ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"),
        ],
    );
}

#[test]
fn unified_is_written_last_and_line_by_line() {
    assert_files(
        r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2\n","cgroup.max.depth":"3"},"pids":{"limit":5}}"#,
        &[
            ("pids.max", "5"),
            ("cgroup.max.depth", "3"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:16 rbps=2"),
        ],
    );
}

#[test]
fn unified_names_can_neither_leave_the_cgroup_nor_act_on_it() {
    for (name, place) in [
        ("../memory.max", "..~1memory.max"),
        ("memory/max", "memory~1max"),
        ("memory", "memory"),
        (".max", ".max"),
        ("cgroup.procs", "cgroup.procs"),
        ("cgroup.kill", "cgroup.kill"),
        ("cgroup.freeze", "cgroup.freeze"),
        ("cgroup.subtree_control", "cgroup.subtree_control"),
    ] {
        let json = format!(r#"{{"unified":{{"{name}":"1"}}}}"#);
        assert_invalid(&json, &format!("/linux/resources/unified/{place}"));
    }
    assert_unsupported(
        r#"{"unified":{"dmem.max":"1"}}"#,
        "/linux/resources/unified/dmem.max",
    );
}

#[test]
fn what_v2_does_not_have_is_refused_with_its_place() {
    for (json, place) in [
        (r#"{"memory":{"kernel":1}}"#, "memory/kernel"),
        (r#"{"memory":{"kernelTCP":1}}"#, "memory/kernelTCP"),
        (r#"{"memory":{"swappiness":10}}"#, "memory/swappiness"),
        (
            r#"{"memory":{"disableOOMKiller":true}}"#,
            "memory/disableOOMKiller",
        ),
        (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu/realtimeRuntime"),
        (r#"{"cpu":{"realtimePeriod":1}}"#, "cpu/realtimePeriod"),
        (r#"{"blockIO":{"leafWeight":10}}"#, "blockIO/leafWeight"),
        (r#"{"network":{"classID":1}}"#, "network/classID"),
        (
            r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#,
            "network/priorities",
        ),
    ] {
        assert_unsupported(json, &format!("/linux/resources/{place}"));
    }
}

/// containerd's, ctr's and Docker's default specs, on a host whose controllers are on v1.
#[test]
fn values_that_state_what_the_kernel_does_need_no_controller() {
    let defaults = r#"{
        "cpu":{"shares":1024,"quota":-1,"period":100000,"idle":0,"burst":0,"cpus":"","mems":"",
               "realtimeRuntime":0,"realtimePeriod":0},
        "memory":{"limit":-1,"swap":-1,"reservation":-1,"kernel":-1,"kernelTCP":0,"swappiness":60,
                  "disableOOMKiller":false,"useHierarchy":true},
        "pids":{"limit":-1},
        "blockIO":{"weight":0,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":-1}],
        "rdma":{"x":{}}, "network":{"priorities":[]}, "unified":{"memory.high":""}}"#;
    let changes = writes(&resources(defaults), &Controllers::default()).expect("defaults");
    assert_eq!(changes, Changes::default());
}

#[test]
fn a_limit_without_its_controller_names_both() {
    for (json, place, controller) in [
        (r#"{"memory":{"limit":1}}"#, "memory/limit", "memory"),
        (
            r#"{"memory":{"limit":-1,"swap":5}}"#,
            "memory/swap",
            "memory",
        ),
        (
            r#"{"memory":{"reservation":1}}"#,
            "memory/reservation",
            "memory",
        ),
        (r#"{"cpu":{"shares":2}}"#, "cpu/shares", "cpu"),
        (r#"{"cpu":{"quota":2}}"#, "cpu/quota", "cpu"),
        (r#"{"cpu":{"period":2}}"#, "cpu/period", "cpu"),
        (r#"{"cpu":{"burst":2}}"#, "cpu/burst", "cpu"),
        (r#"{"cpu":{"idle":1}}"#, "cpu/idle", "cpu"),
        (r#"{"cpu":{"cpus":"0"}}"#, "cpu/cpus", "cpuset"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpu/mems", "cpuset"),
        (r#"{"pids":{"limit":1}}"#, "pids/limit", "pids"),
        (r#"{"blockIO":{"weight":10}}"#, "blockIO/weight", "io"),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
            "hugepageLimits/0",
            "hugetlb",
        ),
        (r#"{"rdma":{"x":{"hcaHandles":1}}}"#, "rdma/x", "rdma"),
        (
            r#"{"unified":{"pids.max":"1"}}"#,
            "unified/pids.max",
            "pids",
        ),
    ] {
        let error = refused(json, &Controllers::default());
        let text = error.to_string();
        let feature = format!("cgroup controller {controller}");
        assert!(
            matches!(error.kind(), ErrorKind::Unsupported { feature: found } if *found == feature),
            "{json}: {text}"
        );
        assert!(
            text.starts_with(&format!("/linux/resources/{place} ")),
            "{json}: {text}"
        );
    }
}

proptest! {
    #[test]
    fn more_shares_are_never_less_weight(shares in 0..300_000_u64) {
        let weight = super::cpu::weight(shares);
        prop_assert!((1..=10_000).contains(&weight));
        prop_assert!(weight <= super::cpu::weight(shares + 1));
    }

    #[test]
    fn memory_and_swap_add_up(memory in 1..i64::MAX / 2, swap in 0..i64::MAX / 2) {
        let both = memory + swap;
        let json = format!(r#"{{"memory":{{"limit":{memory},"swap":{both}}}}}"#);
        prop_assert_eq!(
            files(&json),
            [("memory.swap.max".to_owned(), swap.to_string()),
             ("memory.max".to_owned(), memory.to_string())]
        );
    }

    #[test]
    fn block_io_weights_stay_on_the_scale(weight in 10..=1000_u16) {
        prop_assert!((1..=10_000).contains(&super::io::io_weight(weight)));
    }

    #[test]
    fn no_write_leaves_the_cgroup(name in "[a-z./]{1,20}", value in "\\PC{0,20}") {
        let json = serde_json::json!({"unified": {name: value}}).to_string();
        if let Ok(changes) = writes(&resources(&json), &all()) {
            for write in changes.writes {
                prop_assert!(!write.file.contains('/') && write.file != "..");
            }
        }
    }
}
