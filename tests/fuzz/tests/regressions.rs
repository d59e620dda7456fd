//! Do all properties hold for every seed, and for every input that once broke one?
//!
//! One case for each file of `seeds/TARGET` and `regressions/TARGET`; no fuzzer, no root. One more sees to it that
//! a breach of the budget can be seen.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use rsrun_fuzz::{Check, TARGETS, budget, run};

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let mut trials = vec![
        Trial::test("a_budget_that_is_broken_is_seen", a_breach_is_seen),
        Trial::test("every_target_has_seeds", seeds_are_there),
    ];
    for (name, check) in TARGETS {
        for file in files(name) {
            let label = format!(
                "{name}::{}",
                file.file_name().unwrap_or_default().to_string_lossy()
            );
            trials.push(Trial::test(label, move || holds(check, &file)));
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(target: &str) -> Vec<PathBuf> {
    let places = ["seeds", "regressions"].map(|place| top().join(place).join(target));
    let entries = places.iter().filter_map(|place| place.read_dir().ok());
    let mut files: Vec<_> = entries
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn holds(check: Check, file: &Path) -> Result<(), Failed> {
    let data = std::fs::read(file)?;
    run(check, &data);
    Ok(())
}

fn a_breach_is_seen() -> Result<(), Failed> {
    let greedy = || std::hint::black_box(vec![1u8; 64 << 20]).truncate(1);
    match std::panic::catch_unwind(|| budget::within(1, greedy)) {
        Ok(()) => Err("64 MiB for one byte were not noticed".into()),
        Err(_) => Ok(()),
    }
}

fn seeds_are_there() -> Result<(), Failed> {
    for (name, _) in TARGETS {
        if files(name).is_empty() {
            return Err(format!("seeds/{name} is empty").into());
        }
    }
    Ok(())
}
