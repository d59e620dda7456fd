//! How is an attack run and judged? Contained: the oracle sees nothing. A control: the same attack on something
//! that is weak, and the oracle has to see it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::guest;
use super::scene::{Scene, Thoroughness};
use crate::cli::suite::{Outcome, Skip};

type Body = Box<dyn FnOnce(&Scene) -> Outcome + Send>;

/// What the oracle has to say in the end.
enum Wanted {
    Nothing,
    /// A line that has this word.
    Hit(&'static str),
}

struct Attack {
    name: String,
    wanted: Wanted,
    body: Body,
}

impl Attack {
    fn family(&self) -> &str {
        self.name.split(':').next().unwrap_or_default()
    }
}

/// The attacks of a suite.
#[derive(Default)]
pub struct Attacks {
    all: Vec<Attack>,
    family: &'static str,
}

impl Attacks {
    /// What follows belongs to this family, such as `a01`.
    pub fn family(&mut self, name: &'static str) -> &mut Self {
        self.family = name;
        self
    }

    /// An attack that has to fail; the body looks at what is its own, the oracle at everything.
    pub fn contained(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&Scene) -> Outcome + Send + 'static,
    ) -> &mut Self {
        self.add(name.into(), Wanted::Nothing, Box::new(body))
    }

    /// The same attack on something weak: the oracle has to say a line with `word`.
    pub fn control(
        &mut self,
        name: impl Into<String>,
        word: &'static str,
        body: impl FnOnce(&Scene) -> Outcome + Send + 'static,
    ) -> &mut Self {
        let name = format!("control_{}", name.into());
        self.add(name, Wanted::Hit(word), Box::new(body))
    }

    /// The same where not the oracle but the look of the case itself has to see it: it asserts that it does.
    pub fn control_of_look(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&Scene) -> Outcome + Send + 'static,
    ) -> &mut Self {
        let name = format!("control_{}", name.into());
        self.add(name, Wanted::Nothing, Box::new(body))
    }

    fn add(&mut self, name: String, wanted: Wanted, body: Body) -> &mut Self {
        let name = format!("{}::{name}", self.family);
        self.all.push(Attack { name, wanted, body });
        self
    }

    /// The sums of [`Attacks::count`], in words.
    fn what_there_is(&self) -> String {
        let found = self.count();
        let (attacks, controls) = found
            .values()
            .fold((0, 0), |(a, c), one| (a + one.0, c + one.1));
        format!(
            "{} families, {attacks} attacks, {controls} controls",
            found.len()
        )
    }

    /// Attacks and controls of each family.
    pub fn count(&self) -> BTreeMap<String, (usize, usize)> {
        let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for attack in &self.all {
            let (contained, controls) = found.entry(attack.family().into()).or_default();
            match attack.name.contains("::control_") {
                false => *contained += 1,
                true => *controls += 1,
            }
        }
        found
    }

    /// Runs what the command line selects; the whole of a suite's `main`.
    pub fn run(self) -> ExitCode {
        guest::only_here(|| crate::ground::on_private_ground(|| self.conclude()))
    }

    fn conclude(self) -> ExitCode {
        let said = self.what_there_is();
        let mut args = Arguments::from_args();
        args.test_threads = Some(1);
        args.color = Some(libtest_mimic::ColorSetting::Never);
        if args.list {
            let listed = self.all.into_iter().map(|a| Trial::test(a.name, || Ok(())));
            return libtest_mimic::run(&args, listed.collect()).exit_code();
        }
        let scene = match Scene::enter() {
            Ok(scene) => Arc::new(scene),
            Err(reason) => {
                eprintln!("no scene: {reason}");
                return ExitCode::from(2);
            }
        };
        println!("runtime under test: {}", scene.ground.runtime.version);
        println!("{said}");
        let panicked = Arc::new(Mutex::new(String::new()));
        crate::cli::suite::keep_panic_places(&panicked);
        let times = Arc::new(Mutex::new(Times::default()));
        let mut all = self.all.into_iter().peekable();
        let mut trials = Vec::new();
        while let Some(attack) = all.next() {
            // Eight hundred settings take longer than most attacks: they are read after the last of each family.
            let how = match all.peek() {
                Some(next) if next.family() == attack.family() => Thoroughness::Quick,
                Some(_) | None => Thoroughness::Full,
            };
            trials.push(trial(attack, how, &scene, &panicked, &times));
        }
        let conclusion = libtest_mimic::run(&args, trials);
        println!("{}", times.lock().unwrap_or_else(|e| e.into_inner()).told());
        scene.ground.leave();
        conclusion.exit_code()
    }
}

fn trial(
    attack: Attack,
    how: Thoroughness,
    scene: &Arc<Scene>,
    panicked: &Arc<Mutex<String>>,
    times: &Arc<Mutex<Times>>,
) -> Trial {
    let (scene, panicked, times) = (scene.clone(), panicked.clone(), times.clone());
    let name = attack.name.clone();
    Trial::ignorable_test(attack.name, move || {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (attack.body)(&scene)));
        let acted = begun.elapsed();
        let found = match attack.wanted {
            Wanted::Nothing => scene.settled(how),
            Wanted::Hit(_) => scene.oracle().differences(),
        };
        let judged = begun.elapsed() - acted;
        times
            .lock()
            .map_err(|e| e.to_string())?
            .add(&name, acted, judged);
        if !found.is_empty() {
            scene.ground.sweep();
            scene.oracle().mend()?;
        }
        let outcome = outcome.or_else(|thrown| thrown.downcast::<Skip>().map(|skip| Err(*skip)));
        match (outcome, attack.wanted) {
            (Err(_), _) => {
                let said = std::mem::take(&mut *panicked.lock().map_err(|e| e.to_string())?);
                Err(Failed::from(format!(
                    "{said}; the oracle: {}",
                    shown(&found)
                )))
            }
            (Ok(Err(Skip(reason))), _) => {
                println!("skip {name}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
            (Ok(Ok(())), Wanted::Nothing) if found.is_empty() => Ok(Completion::Completed),
            (Ok(Ok(())), Wanted::Nothing) => {
                Err(format!("not contained: {}", shown(&found)).into())
            }
            (Ok(Ok(())), Wanted::Hit(word)) if found.iter().any(|l| l.contains(word)) => {
                Ok(Completion::Completed)
            }
            (Ok(Ok(())), Wanted::Hit(word)) => {
                Err(format!("the oracle does not see {word:?}: {}", shown(&found)).into())
            }
        }
    })
}

/// Where the time of a run goes: it has to end well inside its limit on slow machines too.
#[derive(Default)]
struct Times {
    acted: Duration,
    judged: Duration,
    longest: Vec<(Duration, String)>,
}

impl Times {
    fn add(&mut self, name: &str, acted: Duration, judged: Duration) {
        self.acted += acted;
        self.judged += judged;
        self.longest.push((acted, name.to_string()));
        self.longest.sort_by(|a, b| b.cmp(a));
        self.longest.truncate(10);
    }

    fn told(&self) -> String {
        let longest: Vec<String> = self
            .longest
            .iter()
            .map(|(time, name)| format!("{name} {time:.1?}"))
            .collect();
        format!(
            "{:.1?} in the attacks, {:.1?} in the oracle; the longest: {}",
            self.acted,
            self.judged,
            longest.join(", ")
        )
    }
}

fn shown(found: &[String]) -> String {
    let mut lines = found.iter().take(12).cloned().collect::<Vec<_>>();
    if found.len() > lines.len() {
        lines.push(format!("and {} more", found.len() - lines.len()));
    }
    lines.join("; ")
}
