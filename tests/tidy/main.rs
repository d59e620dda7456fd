//! Do the sources keep the rules that neither the compiler nor clippy can hold?
//!
//! Each rule is a test and tells every place that breaks it. `make tidy` runs them; they need neither root nor a
//! network. The invariants are those of ARCHITECTURE.md.
mod source;

use source::{Source, all};

/// Every breach, one a line, or the rule holds.
#[track_caller]
fn none(breaches: Vec<String>) {
    assert!(
        breaches.is_empty(),
        "{} breaches:\n{}",
        breaches.len(),
        breaches.join("\n")
    );
}

/// Lines of all sources that are below one of these paths and for which `wrong` says why.
fn breaches(below: &[&str], wrong: impl Fn(&Source, usize, &str) -> Option<String>) -> Vec<String> {
    let sources = all();
    for path in below {
        assert!(
            sources.iter().any(|s| s.path.starts_with(path)),
            "the rule is about {path}, which is not there"
        );
    }
    let chosen = sources
        .iter()
        .filter(|s| below.iter().any(|p| s.path.starts_with(p)));
    chosen
        .flat_map(|source| {
            let lines = source.code.lines().enumerate();
            lines
                .filter_map(|(n, line)| {
                    Some(format!(
                        "{}:{}: {}",
                        source.path,
                        n + 1,
                        wrong(source, n, line)?
                    ))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

const PRODUCT: [&str; 4] = [
    "runtime-core/src/",
    "runtime-core/init/src/",
    "shim/src/",
    "cli/src/",
];

#[test]
fn i2_unsafe_code_is_in_sys_and_raw_alone() {
    let allowed = |s: &Source| {
        ["runtime-core/src/sys/", "runtime-core/init/src/raw"]
            .iter()
            .any(|p| s.path.starts_with(p))
    };
    none(breaches(&PRODUCT, |source, _, line| {
        (!allowed(source) && source::has_word(line, "unsafe"))
            .then(|| "unsafe outside sys and raw".into())
    }));
}

#[test]
fn i2_every_unsafe_block_has_a_note_of_its_conditions() {
    none(breaches(
        &["runtime-core/", "shim/", "cli/", "tests/"],
        |source, n, line| {
            let opens = line.contains("unsafe {") || line.contains("unsafe impl");
            (opens && !source.comment_before(n).contains("SAFETY:"))
                .then(|| "no SAFETY note above".into())
        },
    ));
}

#[test]
fn i3_the_child_s_object_asks_for_memory_functions_alone() {
    let symbols = source::undefined_symbols_of_init();
    let allowed = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];
    let others = symbols
        .into_iter()
        .filter(|s| !allowed.contains(&s.as_str()));
    none(others.map(|s| format!("rsrun-init needs {s}")).collect());
}

#[test]
fn i5_pure_code_does_no_input_or_output() {
    const PURE: [&str; 7] = [
        "runtime-core/src/plan/",
        "runtime-core/src/cgroup/resources/",
        "runtime-core/src/cgroup/path.rs",
        "runtime-core/src/seccomp/enosys.rs",
        "runtime-core/src/launch/conversation.rs",
        "runtime-core/src/store/status.rs",
        "shim/src/container/policy.rs",
    ];
    none(breaches(&PURE, |source, _, line| {
        if source.is_test() {
            return None;
        }
        const DOERS: [&str; 8] = [
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "std::thread",
            "std::time::Instant::now",
            "crate::sys",
            "tokio::",
        ];
        let doer = DOERS
            .iter()
            .find(|d| line.contains(**d))
            .map(|d| (*d).to_string());
        doer.or_else(|| source::calls_into(line, "libc"))
            .or_else(|| source::calls_into(line, "nix"))
    }));
}

#[test]
#[should_panic(expected = "the rule is about runtime-core/src/nowhere.rs")]
fn a_rule_about_a_file_that_has_gone_fails() {
    breaches(&["runtime-core/src/nowhere.rs"], |_, _, _| None);
}

#[test]
fn i6_no_record_has_a_status() {
    none(breaches(
        &["runtime-core/src/store/record.rs"],
        |_, _, line| {
            let field = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            field
                .starts_with("status:")
                .then(|| "status is derived from facts, never stored".into())
        },
    ));
}

#[test]
fn i9_the_core_logs_nothing_above_debug() {
    none(breaches(
        &["runtime-core/src/", "runtime-core/init/src/"],
        |_, _, line| {
            let called = |m: &str| source::has_word(line, m) && line.contains(&format!("{m}!("));
            let mut macros = ["error", "warn", "info"].iter();
            macros
                .find(|m| called(m))
                .map(|m| format!("{m}! is for an edge"))
        },
    ));
}

/// Clippy takes one file, the nearest.
#[test]
fn i4_and_i7_what_no_crate_may_call_the_core_may_not_either() {
    let bans = |file: &str| -> Vec<String> {
        let text = source::text_of(file);
        let lines = text.lines().filter(|l| l.trim_start().starts_with('{'));
        lines.map(str::to_owned).collect()
    };
    let (all, core) = (bans("clippy.toml"), bans("runtime-core/clippy.toml"));
    assert!(all.len() > 30, "the bans have gone elsewhere");
    let lost = all.into_iter().filter(|ban| !core.contains(ban));
    none(
        lost.map(|ban| format!("runtime-core/clippy.toml lacks {ban}"))
            .collect(),
    );
}

/// What clippy can't see of a call: that it begins at no descriptor.
#[test]
fn i11_few_places_of_the_core_name_a_path_of_the_host() {
    const PLACES: [&str; 4] = [
        // The state root, which is ours.
        "runtime-core/src/seccomp/cache.rs",
        "runtime-core/src/store/root.rs",
        // Sources of mounts, namespaces and the root itself, as the spec names them.
        "runtime-core/src/launch/open.rs",
        "runtime-core/src/container/lookups.rs",
    ];
    none(breaches(&["runtime-core/src/"], |source, _, line| {
        let allowed = PLACES.contains(&source.path.as_str())
            || source.path.starts_with("runtime-core/src/sys/");
        (!allowed && source::has_word(line, "AT_FDCWD")).then(|| "a path of the host".into())
    }));
}

#[test]
fn a_file_has_at_most_450_lines_of_code_without_its_tests() {
    let long = all()
        .into_iter()
        .map(|s| (s.path.clone(), s.lines_of_code()))
        .filter(|(_, n)| *n > 450);
    none(long.map(|(path, n)| format!("{path}: {n} lines")).collect());
}

#[test]
fn a_file_begins_with_the_question_that_it_answers() {
    let silent = all()
        .into_iter()
        .filter(|s| !s.text.starts_with("//!") && !s.text.starts_with("#![cfg(test)]\n//!"));
    none(silent.map(|s| format!("{}:1: no //!", s.path)).collect());
}

#[test]
fn a_type_s_name_says_what_it_is() {
    const BANNED: [&str; 9] = [
        "Manager", "Impl", "Helper", "Util", "Utils", "Info", "Data", "Template", "Wrapper",
    ];
    none(breaches(
        &["runtime-core/", "shim/", "cli/", "tests/"],
        |_, _, line| {
            let name = source::declared_type(line)?;
            BANNED
                .iter()
                .find(|b| name.ends_with(**b))
                .map(|b| format!("{name} ends with {b}"))
        },
    ));
}

#[test]
fn a_test_s_name_is_a_sentence() {
    none(breaches(
        &["runtime-core/", "shim/", "cli/", "tests/"],
        |source, n, line| {
            let name = line.trim_start().strip_prefix("fn ")?.split('(').next()?;
            let attribute = source.code.lines().nth(n.checked_sub(1)?)?;
            let short = name.starts_with("test_") || name.matches('_').count() < 2;
            (attribute.contains("#[test]") && short).then(|| format!("{name} is no sentence"))
        },
    ));
}

#[test]
fn an_ignored_test_says_why() {
    none(breaches(
        &["runtime-core/", "shim/", "cli/", "tests/"],
        |_, _, line| (line.trim() == "#[ignore]").then(|| "no reason".into()),
    ));
}
