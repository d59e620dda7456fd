//! config.json: an error names a place; what is accepted reads back as itself and freezes, with all that belongs
//! to it.

use oci_spec::runtime::Spec;
use rsrun_core::bundle::parse_spec;
use rsrun_core::cgroup::devices::Program;
use rsrun_core::cgroup::{Controllers, Driver, resolve, writes};
use rsrun_core::plan::{ContainerPlan, ExecAsk, HookPlace, Inside, create, exec, hook};

use crate::ground::{CONTROLLERS, create_facts, freezes, host, names_its_place};

/// See the module.
pub fn check(data: &[u8]) {
    let spec = match parse_spec(data) {
        Ok(loaded) => loaded.document,
        Err(error) => return names_its_place(&error, data),
    };
    let printed = serde_json::to_vec(&spec).expect("a spec has a text");
    let again = parse_spec(&printed).unwrap_or_else(|e| panic!("what was printed is refused: {e}"));
    assert!(again.document == spec, "it reads back as another spec");
    limits(&spec, data);
    let has_profile = spec.linux().as_ref().is_some_and(|l| l.seccomp().is_some());
    match create(&spec, &create_facts(has_profile), &host()) {
        Ok(plan) => whole(&spec, &plan, data),
        Err(error) => names_its_place(&error, data),
    }
}

fn limits(spec: &Spec, data: &[u8]) {
    let Some(linux) = spec.linux() else { return };
    if let Some(resources) = linux.resources() {
        if let Err(error) = writes(resources, &Controllers::parse(CONTROLLERS)) {
            names_its_place(&error, data);
        }
        if let Err(error) = Program::compile(resources.devices().as_deref().unwrap_or_default()) {
            names_its_place(&error, data);
        }
    }
    let path = linux
        .cgroups_path()
        .as_ref()
        .map(|path| path.to_string_lossy());
    match resolve(
        Driver::Cgroupfs,
        path.as_deref(),
        "c1",
        Some("/system/shim"),
    ) {
        Ok(path) => assert!(
            path.starts_with('/') && path.split('/').all(|part| part != ".."),
            "the cgroup {path} climbs"
        ),
        Err(error) => names_its_place(&error, data),
    }
}

fn whole(spec: &Spec, plan: &ContainerPlan, data: &[u8]) {
    freezes(&plan.init);
    let Some(process) = spec.process() else {
        return;
    };
    let inside = || {
        HookPlace::Container(Box::new(Inside {
            process: process.clone(),
            facts: plan.exec.clone(),
            host: host(),
        }))
    };
    let on_host = || HookPlace::Host {
        bundle: "/run/bundle".into(),
    };
    let hooks = &plan.hooks;
    for one in hooks.create_runtime.iter().chain(&hooks.poststop) {
        freezes(
            &hook(one, &on_host(), &host())
                .expect("a hook that was accepted")
                .plan,
        );
    }
    for one in &hooks.start_container {
        freezes(
            &hook(one, &inside(), &host())
                .expect("a hook that was accepted")
                .plan,
        );
    }
    match exec(process, &plan.exec, &ExecAsk::default(), &host()) {
        Ok(planned) => freezes(&planned.plan),
        // Its pointers start at the process.
        Err(error) => names_its_place(&error, &part(data, "/process")),
    }
}

fn part(data: &[u8], pointer: &str) -> Vec<u8> {
    let document: serde_json::Value = serde_json::from_slice(data).expect("it was read before");
    document
        .pointer(pointer)
        .expect("it was used")
        .to_string()
        .into_bytes()
}
