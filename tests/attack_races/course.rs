//! How is one container made, or one process added, with every call stopped that takes a path?
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rsrun_tests::pace::patient;
use rsrun_tests::stepping::{Course, End, LOOK_AT_ME, Stop, Verdict, WaitFor};

use crate::scenes::Verb;
use crate::stage::Stage;

/// A command that takes longer hangs; not disturbed it takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of a course.
#[derive(Debug)]
pub struct Outcome {
    /// How the first command that failed ended, or the last one.
    pub end: End,
    /// What was said on stderr.
    pub said: String,
}

/// Follows the verb's commands; `at_stop` sees every stop, those of [`LOOK_AT_ME`] too.
pub fn follow(
    stage: &Stage<'_>,
    verb: Verb,
    at_stop: &mut dyn FnMut(&Stop),
) -> io::Result<Outcome> {
    let said = stage.at("said");
    let file = File::create(&said)?;
    let mut course = Course::default();
    let limit = patient(LIMIT);
    let mut end = End::Code(0);
    for (command, wait_for) in commands(stage, verb) {
        let (command, _terminal) = with_streams(command, verb, &file)?;
        let ended = course.run(command, limit, wait_for, &mut |stop| {
            at_stop(stop);
            Verdict::LetGo
        })?;
        if end == End::Code(0) {
            end = ended;
        }
        if ended == End::Hangs {
            break;
        }
    }
    drop(file);
    let outcome = Outcome {
        end,
        said: fs::read_to_string(&said)?,
    };
    fs::remove_file(said)?;
    Ok(outcome)
}

fn commands(stage: &Stage<'_>, verb: Verb) -> Vec<(Command, WaitFor)> {
    let bundle = &stage.bundle;
    let (dir, id) = (bundle.dir.display().to_string(), bundle.id.as_str());
    let command = |words: &[&str]| bundle.runtime().command(words);
    let program = ["/bin/probe", "call", "34"];
    match verb {
        Verb::Run | Verb::RunOnTerminal => {
            vec![(command(&["run", "--bundle", &dir, id]), WaitFor::Everything)]
        }
        Verb::CreateStartDelete => vec![
            (command(&["create", "--bundle", &dir, id]), WaitFor::Command),
            (command(&["start", id]), WaitFor::Everything),
            (command(&["delete", "--force", id]), WaitFor::Everything),
        ],
        Verb::Exec => {
            let words = ["exec", "--user", "1000:1000", "--cwd", "/work/deep", id];
            vec![(
                command(&[&words[..], &program].concat()),
                WaitFor::Everything,
            )]
        }
        Verb::ExecOnTerminal => {
            let words = ["exec", "--tty", "--cwd", "/work/deep", id];
            vec![(
                command(&[&words[..], &program].concat()),
                WaitFor::Everything,
            )]
        }
    }
}

/// Its stdin and stdout; the master side of a terminal, which has to stay.
fn with_streams(
    mut command: Command,
    verb: Verb,
    said: &File,
) -> io::Result<(Command, Option<OwnedFd>)> {
    command
        .stderr(said.try_clone()?)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !verb.on_terminal() {
        return Ok((command, None));
    }
    let pty = nix::pty::openpty(None, None)?;
    command.stdin(pty.slave.try_clone()?).stdout(pty.slave);
    Ok((command, Some(pty.master)))
}

/// Whether a stop is the program's own, which runs and may be looked at.
pub fn is_program(stop: &Stop) -> bool {
    stop.nr == LOOK_AT_ME
}
