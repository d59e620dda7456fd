//! Plans of execs, hooks and other programs.

use super::*;

#[test]
fn the_default_exec_of_ctr() {
    let container = planned(&ctr()).unwrap();
    let process: Process = serde_json::from_value(ctr()["process"].clone()).unwrap();
    let plan = exec(&process, &container.exec, &ExecAsk::default(), &host()).unwrap();
    expect_plan("ctr-exec", &plan.plan);
    let text = serde_json::to_string(&container.exec).unwrap();
    assert_eq!(
        serde_json::from_str::<ExecFacts>(&text).unwrap(),
        container.exec
    );
}

#[test]
fn an_exec_keeps_what_it_needs_and_no_more() {
    let container = planned(&ctr()).unwrap().exec;
    let process: Process = serde_json::from_value(json!({
        "user": {"uid": 1, "gid": 1}, "args": ["x"], "cwd": "/", "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_KILL"]},
    }))
    .unwrap();
    let kept = |facts: &ExecFacts| {
        exec(&process, facts, &ExecAsk::default(), &host())
            .unwrap()
            .plan
            .keep_capabilities
    };
    let own = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1;
    assert_eq!(kept(&container), Some(own));
    let timed = ExecFacts {
        namespaces: container.namespaces | namespaces::TIME,
        ..container.clone()
    };
    assert_eq!(kept(&timed), Some(own | 1 << 21));
    let plan = exec(&process, &timed, &ExecAsk::default(), &host())
        .unwrap()
        .plan;
    in_order(
        &plan,
        &[
            "be undumpable",
            "join time",
            "set capabilities",
            "open the root",
        ],
    );
    let mapped = ExecFacts {
        namespaces: container.namespaces | namespaces::USER,
        ..container
    };
    assert_eq!(kept(&mapped), None);
}

#[test]
fn an_execs_cpus_are_those_of_its_document_or_all() {
    let container = planned(&ctr()).unwrap().exec;
    let plan = |affinity: Value| {
        let process: Process = serde_json::from_value(json!({
            "user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/", "execCPUAffinity": affinity,
        }))
        .unwrap();
        exec(&process, &container, &ExecAsk::default(), &host())
            .unwrap()
            .plan
    };
    let both = plan(json!({"initial": "0", "final": "1"}));
    assert_eq!(both.thread_affinity, Some(vec![1]));
    assert!(both.steps.contains(&Step::Affinity { mask: vec![2] }));
    let initial = plan(json!({"initial": "0"}));
    assert!(
        !initial
            .steps
            .iter()
            .any(|s| matches!(s, Step::Affinity { .. }))
    );
    assert!(
        plan(Value::Null)
            .steps
            .contains(&Step::Affinity { mask: vec![] })
    );
}

#[test]
fn hooks_have_their_own_environment_and_working_directory() {
    let given =
        serde_json::from_value(json!({"path": "/usr/bin/hook", "args": ["hook", "x"]})).unwrap();
    let bundle = PathBuf::from("/run/bundle");
    let on_host = hook(
        &given,
        &HookPlace::Host {
            bundle: bundle.clone(),
        },
        &host(),
    )
    .unwrap();
    expect_plan("hook-host", &on_host.plan);
    let place = HookPlace::BeforePivot {
        bundle,
        namespaces: namespaces::MOUNT | namespaces::USER | namespaces::PID,
    };
    expect_plan(
        "hook-before-pivot",
        &hook(&given, &place, &host()).unwrap().plan,
    );
    let Some(Step::Execute { env, .. }) = on_host.plan.steps.last() else {
        panic!()
    };
    assert!(env.is_empty());
}

#[test]
fn a_hook_inside_is_as_confined_as_the_containers_process() {
    let given = serde_json::from_value(json!({"path": "/in/hook"})).unwrap();
    let value = with(&[
        ("/process/user", json!({"uid": 7, "gid": 8})),
        ("/process/terminal", json!(true)),
    ]);
    let container = planned(&value).unwrap();
    let place = HookPlace::Container(Box::new(Inside {
        process: spec(&value).process().clone().unwrap(),
        facts: container.exec,
        host: host(),
    }));
    let plan = hook(&given, &place, &host()).unwrap();
    in_order(
        &plan.plan,
        &[
            "place [1] as fd 0",
            "bound capabilities",
            "become 7:8",
            "set no_new_privs",
        ],
    );
    assert!(plan.plan.keep_capabilities.is_some());
    assert_eq!(plan.program.candidates, [c"/in/hook".to_owned()]);
}

#[test]
fn a_logger_gets_its_descriptors_by_number() {
    let fds = [
        (FdSource::Stream(1), 3),
        (FdSource::Stream(2), 4),
        (FdSource::HostPath("/p".into()), 5),
    ];
    let plan = program(
        Path::new("/bin/logger"),
        &["logger".into()],
        &["A=1".into()],
        &fds,
    )
    .unwrap();
    expect_plan("logger", &plan.plan);
}
