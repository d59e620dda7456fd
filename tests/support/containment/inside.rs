//! Has a process in a container what its spec says, and nothing more?

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::facts::Facts;

const SETS: [(&str, &str); 5] = [
    ("bounding", "CapBnd"),
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("ambient", "CapAmb"),
];

/// All that differs between what the probe saw and the spec, a line each.
pub fn differences(spec: &Value, facts: &Facts) -> Vec<String> {
    let process = &spec["process"];
    let mut found = Vec::new();
    let mut same = |what: &str, wanted: String, seen: String| {
        if wanted != seen {
            found.push(format!("{what} is {seen}, not {wanted}"));
        }
    };
    for (set, line) in SETS {
        let listed = process["capabilities"][set].as_array();
        let wanted: BTreeSet<&str> = listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        same(
            set,
            format!("{wanted:?}"),
            format!("{:?}", facts.capabilities(line)),
        );
    }
    let id = |name: &str| process["user"][name].as_u64().unwrap_or(0);
    for (name, line) in [("uid", "Uid"), ("gid", "Gid")] {
        let all_four = vec![id(name).to_string(); 4];
        same(
            name,
            format!("{all_four:?}"),
            format!("{:?}", facts.status(line)),
        );
    }
    let groups = process["user"]["additionalGids"].as_array();
    let wanted: BTreeSet<String> = groups.into_iter().flatten().map(Value::to_string).collect();
    let seen: BTreeSet<String> = facts
        .status("Groups")
        .iter()
        .map(ToString::to_string)
        .collect();
    same("groups", format!("{wanted:?}"), format!("{seen:?}"));
    let flag = process["noNewPrivileges"].as_bool().unwrap_or(false);
    same(
        "NoNewPrivs",
        i32::from(flag).to_string(),
        facts.status("NoNewPrivs").join(" "),
    );
    let mode = if spec["linux"]["seccomp"].is_object() {
        "2"
    } else {
        "0"
    };
    same("Seccomp", mode.into(), facts.status("Seccomp").join(" "));
    if let Some(label) = process["apparmorProfile"].as_str() {
        same(
            "attr/current",
            format!("{label} (enforce)"),
            facts.text("/apparmor").to_string(),
        );
    }
    found
}
