//! The commands of `rsrun`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rsrun_tests::command::{self, eventually};
use rsrun_tests::life::has_words;
use rsrun_tests::places::Places;
use rsrun_tests::stepping::End;
use rsrun_tests::suite::{Case, Check, World, fail};
use rsrun_tests::{cases, proc, spec};
use serde_json::Value;

use crate::calls;
use crate::follower::Followed;
use crate::points::{self, Point, Seen};

/// The program of a container: it says that it runs and ends with a code that nothing else has.
const SPEAKS: [&str; 3] = ["/bin/sh", "-c", "echo ready; exit 7"];
const STAYS: [&str; 3] = ["/bin/sh", "-c", "echo ready; exec /bin/sleep 1000"];
const WITHIN: Duration = Duration::from_secs(5);
const PLAIN: Duration = Duration::from_secs(20);

/// A state root with its bundles.
pub struct Line {
    places: Places,
    name: &'static str,
    dir: PathBuf,
    count: AtomicU32,
}

/// Makes one for a case.
pub fn world(name: &'static str) -> impl FnOnce() -> Check<Line> + Send {
    move || {
        let dir = PathBuf::from("/run/faults").join(name);
        fs::create_dir_all(&dir)?;
        Ok(Line {
            places: Places::find(),
            name,
            dir,
            count: AtomicU32::new(0),
        })
    }
}

impl World for Line {
    fn testimony(&self) -> String {
        String::new()
    }

    fn close(&self) {
        let _ = fs::write(format!("/sys/fs/cgroup/{}/cgroup.kill", self.name), "1");
    }
}

/// Each command, killed and refused.
pub fn cases() -> Vec<Case<Line>> {
    cases![
        3600 s: run_killed, create_killed, start_killed, exec_killed, kill_killed, delete_killed, run_refused,
            create_refused, start_refused, exec_refused, kill_refused, delete_refused
    ]
}

fn run_killed(line: &Line) -> Check {
    killed(line, Verb::Run)
}
fn create_killed(line: &Line) -> Check {
    killed(line, Verb::Create)
}
fn start_killed(line: &Line) -> Check {
    killed(line, Verb::Start)
}
fn exec_killed(line: &Line) -> Check {
    killed(line, Verb::Exec)
}
fn kill_killed(line: &Line) -> Check {
    killed(line, Verb::Kill)
}
fn delete_killed(line: &Line) -> Check {
    killed(line, Verb::Delete)
}
fn run_refused(line: &Line) -> Check {
    refused(line, Verb::Run)
}
fn create_refused(line: &Line) -> Check {
    refused(line, Verb::Create)
}
fn start_refused(line: &Line) -> Check {
    refused(line, Verb::Start)
}
fn exec_refused(line: &Line) -> Check {
    refused(line, Verb::Exec)
}
fn kill_refused(line: &Line) -> Check {
    refused(line, Verb::Kill)
}
fn delete_refused(line: &Line) -> Check {
    refused(line, Verb::Delete)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Run,
    Create,
    Start,
    Exec,
    Kill,
    Delete,
}

impl Verb {
    fn steps(self) -> &'static [&'static str] {
        match self {
            Verb::Run => &["run"],
            Verb::Create => &["create"],
            Verb::Start => &["start"],
            Verb::Exec => &["exec"],
            Verb::Kill => &["kill"],
            Verb::Delete => &["delete"],
        }
    }

    fn program(self) -> [&'static str; 3] {
        match self {
            Verb::Exec | Verb::Kill => STAYS,
            Verb::Run | Verb::Create | Verb::Start | Verb::Delete => SPEAKS,
        }
    }

    fn words(self, id: &str, bundle: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Verb::Run => &["run", "--bundle", bundle, id],
            Verb::Create => &["create", "--bundle", bundle, id],
            Verb::Start => &["start", id],
            Verb::Exec => &["exec", id, "/bin/sh", "-c", "echo added; exit 7"],
            Verb::Kill => &["kill", id, "KILL"],
            Verb::Delete => &["delete", id],
        };
        words.iter().map(|w| (*w).to_string()).collect()
    }
}

fn killed(line: &Line, verb: Verb) -> Check {
    let seen = calls_of(line, verb)?;
    points::each(points::kills(&seen), 8, |point| {
        let container = line.container(verb)?;
        let followed = container.follow(verb, Some(*point))?;
        followed.end()?;
        let is_met = followed.is_met();
        container.put_away()?;
        Ok(is_met)
    })
}

fn refused(line: &Line, verb: Verb) -> Check {
    let seen = calls_of(line, verb)?;
    points::each(points::refusals(&seen), 24, |point| {
        let container = line.container(verb)?;
        let followed = container.follow(verb, Some(*point))?;
        let End::Code(code) = followed.end()? else {
            return fail(format!("hangs; it said {}", container.said()));
        };
        // Who gets no memory may end in any way that leaves nothing: Rust's threads don't ask.
        let judged = match calls::is_for_memory(point.nr) {
            true => Ok(()),
            false => container.judge(verb, code),
        };
        let put_away = container.put_away();
        judged?;
        put_away?;
        Ok(followed.is_met())
    })
}

/// The calls of an undisturbed course, which has to go well.
fn calls_of(line: &Line, verb: Verb) -> Check<Vec<Seen>> {
    let container = line.container(verb)?;
    let followed = container.follow(verb, None)?;
    let end = followed.end()?;
    let expected = match verb {
        Verb::Run | Verb::Exec => 7,
        Verb::Create | Verb::Start | Verb::Kill | Verb::Delete => 0,
    };
    if end != End::Code(expected) {
        return fail(format!("undisturbed: {end:?}: {}", container.said()));
    }
    let seen = followed.seen();
    container.judge(verb, expected)?;
    container.put_away()?;
    Ok(seen)
}

struct Container<'l> {
    line: &'l Line,
    id: String,
    dir: PathBuf,
}

impl Line {
    /// One that stands where the verb begins.
    fn container(&self, verb: Verb) -> Check<Container<'_>> {
        let id = format!(
            "{}-{}",
            self.name,
            self.count.fetch_add(1, Ordering::Relaxed)
        );
        let dir = self.dir.join(&id);
        fs::create_dir_all(&dir)?;
        let cgroup = format!("/{}/{id}", self.name);
        let spec = spec::minimal(&self.places.rootfs, &cgroup, &verb.program());
        fs::write(dir.join("config.json"), spec.to_string())?;
        let container = Container {
            line: self,
            id,
            dir,
        };
        if [Verb::Run, Verb::Create].contains(&verb) {
            return Ok(container);
        }
        container.plain(Verb::Create)?.ok()?;
        if verb != Verb::Start {
            container.plain(Verb::Start)?.ok()?;
            container.speaks("out", "ready")?;
        }
        if verb == Verb::Delete {
            container.is_stopped()?;
        }
        Ok(container)
    }

    fn rsrun(&self) -> Command {
        let mut command = Command::new(self.places.bin.join("rsrun"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("--root").arg(self.dir.join("root"));
        command.stdin(Stdio::null());
        command
    }
}

impl Container<'_> {
    fn command(&self, verb: Verb) -> Check<Command> {
        let mut command = self.line.rsrun();
        let bundle = self.dir.display().to_string();
        // An exec's output apart from the container's.
        let out = if verb == Verb::Exec { "added" } else { "out" };
        let append = |name: &str| {
            File::options()
                .append(true)
                .create(true)
                .open(self.dir.join(name))
        };
        command
            .args(verb.words(&self.id, &bundle))
            .stdout(append(out)?)
            .stderr(append("said")?);
        Ok(command)
    }

    fn plain(&self, verb: Verb) -> Check<command::Outcome> {
        command::spawn_with(&mut self.command(verb)?)?.finish(PLAIN)
    }

    fn follow(&self, verb: Verb, point: Option<Point>) -> Check<Followed> {
        Ok(Followed::start(self.command(verb)?, verb.steps(), point))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.join("said")).unwrap_or_default()
    }

    fn speaks(&self, file: &str, word: &str) -> Check {
        eventually(&format!("{word:?} in {file}"), WITHIN, || {
            let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
            text.trim() == word
        })
    }

    fn is_stopped(&self) -> Check {
        eventually("stopped", WITHIN, || {
            let out = self.line.rsrun().args(["state", &self.id]).output();
            let state: Option<Value> = out
                .ok()
                .and_then(|o| serde_json::from_slice(&o.stdout).ok());
            state.is_some_and(|s| s["status"] == "stopped")
        })
    }

    /// What was said is true, or it is an error in words.
    fn judge(&self, verb: Verb, code: i32) -> Check {
        match (verb, code) {
            (Verb::Run, 7) | (Verb::Start, 0) => self.speaks("out", "ready"),
            (Verb::Create, 0) => match self.plain(Verb::Start)?.code {
                0 => self.speaks("out", "ready"),
                // The init came as far as create waits for it, and failed then.
                _ => has_words(&self.said()),
            },
            (Verb::Exec, 7) => self.speaks("added", "added"),
            (Verb::Kill, 0) => self.is_stopped(),
            (Verb::Delete, 0) => match self.remains() {
                remains if remains.is_empty() => Ok(()),
                remains => fail(format!("delete said success, there is {remains:?}")),
            },
            (Verb::Run | Verb::Exec, 0) => fail("said success, and the program did not run"),
            _ => has_words(&self.said()),
        }
    }

    /// `delete --force` leaves nothing.
    fn put_away(&self) -> Check {
        let said = command::run(
            self.line.rsrun().args(["delete", "--force", &self.id]),
            PLAIN,
        )?;
        let said = said.ok();
        let gone = eventually("nothing", WITHIN, || self.remains().is_empty());
        if gone.is_err() {
            return fail(format!("left: {:?}; delete: {said:?}", self.remains()));
        }
        said?;
        fs::remove_dir_all(&self.dir)?;
        Ok(())
    }

    fn remains(&self) -> Vec<String> {
        let groups = proc::cgroups_named(&self.id);
        let mut found: Vec<String> = groups.iter().map(|g| format!("{}", g.display())).collect();
        let of_ours = |pid: &nix::unistd::Pid| {
            proc::is_alive(*pid) && proc::command_line(*pid).contains(&self.id)
        };
        found.extend(
            proc::all()
                .iter()
                .filter(|p| of_ours(p))
                .map(|p| format!("process {p}")),
        );
        let state = self.line.dir.join("root").join(&self.id);
        if state.exists() {
            found.push(format!("{}", state.display()));
        }
        let mounts = proc::mounts_below(&self.line.dir);
        found.extend(mounts.iter().map(|m| format!("mount {}", m.display())));
        found
    }
}
