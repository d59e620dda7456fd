//! How does a suite run its cases, skip them for a reason and watch the host around each?
//!
//! A suite is a program of its own (`harness = false`). It makes its [`Ground`] first, while it has one thread, and
//! runs one case at a time: the oracle compares the host before and after each.
use crate::cli::ground::Ground;
use crate::cli::oracle;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// Why a case cannot show anything on this machine, in words.
#[derive(Debug)]
pub struct Skip(pub String);

/// Leaves the case from anywhere below it, as skipped.
pub fn skip(reason: impl Into<String>) -> ! {
    std::panic::resume_unwind(Box::new(Skip(reason.into())))
}

/// What a case says: done (it panics where it fails), or skipped.
pub type Outcome = Result<(), Skip>;

type Body = Box<dyn FnOnce(&Ground) -> Outcome + Send>;

/// The cases of one suite, by name.
#[derive(Default)]
pub struct Suite {
    cases: Vec<(String, Body)>,
}

impl Suite {
    /// Adds a case; the name is a sentence in snake_case.
    pub fn case(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&Ground) -> Outcome + Send + 'static,
    ) -> &mut Self {
        self.cases.push((name.into(), Box::new(body)));
        self
    }

    /// Runs what the command line selects, on private ground; the whole of a suite's `main`.
    pub fn run(self) -> ExitCode {
        crate::ground::on_private_ground(|| self.conclude())
    }

    fn conclude(self) -> ExitCode {
        let mut args = Arguments::from_args();
        args.test_threads = Some(1);
        if args.list {
            let listed = self.cases.into_iter().map(|(name, _)| unlisted(name));
            return libtest_mimic::run(&args, listed.collect()).exit_code();
        }
        let ground = match Ground::enter() {
            Ok(ground) => Arc::new(ground),
            Err(reason) => {
                let skipped = self
                    .cases
                    .into_iter()
                    .map(|(name, _)| skipped(name, reason.clone()))
                    .collect();
                return libtest_mimic::run(&args, skipped).exit_code();
            }
        };
        println!(
            "runtime under test: {} ({})",
            ground.runtime.path.display(),
            ground.runtime.version
        );
        let seen = Arc::new(Mutex::new(String::new()));
        keep_panic_places(&seen);
        let trials = self
            .cases
            .into_iter()
            .map(|(name, body)| trial(name, body, &ground, &seen))
            .collect();
        let conclusion = libtest_mimic::run(&args, trials);
        ground.leave();
        conclusion.exit_code()
    }
}

fn unlisted(name: String) -> Trial {
    Trial::test(name, || Ok(()))
}

fn skipped(name: String, reason: String) -> Trial {
    Trial::ignorable_test(name.clone(), move || {
        println!("skip {name}: {reason}");
        Ok(Completion::ignored_with(reason))
    })
}

fn trial(name: String, body: Body, ground: &Arc<Ground>, panicked: &Arc<Mutex<String>>) -> Trial {
    let (ground, panicked) = (ground.clone(), panicked.clone());
    Trial::ignorable_test(name.clone(), move || {
        let before = oracle::look(&ground);
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&ground)));
        let difference = oracle::settle(&ground, &before);
        if !difference.is_empty() {
            // What one case left must not fail the next ones.
            ground.sweep();
        }
        let outcome = outcome.or_else(|thrown| thrown.downcast::<Skip>().map(|skip| Err(*skip)));
        match outcome {
            Err(_) => Err(Failed::from(std::mem::take(
                &mut *panicked.lock().expect("one thread"),
            ))),
            Ok(_) if !difference.is_empty() => {
                Err(Failed::from(format!("the host is changed: {difference}")))
            }
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(Skip(reason))) => {
                println!("skip {name}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
        }
    })
}

/// The message of a panic with its file and line, kept for the summary instead of printed in between.
pub(crate) fn keep_panic_places(seen: &Arc<Mutex<String>>) {
    let seen = seen.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(|l| format!("{}:{}: ", l.file(), l.line()))
            .unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("panic without words");
        if let Ok(mut seen) = seen.lock()
            && seen.is_empty()
        {
            *seen = format!("{place}{words}");
        }
    }));
}
