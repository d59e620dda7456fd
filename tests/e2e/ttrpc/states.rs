//! Which call is allowed in which state, and what the refusal is called.

use containerd_shim_protos::api::Status;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::suite::{Case, Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use rsrun_tests::ttrpc::Answer;
use serde_json::json;
use ttrpc::Code;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        120 s: every_call_in_every_state_of_the_init, every_call_in_every_state_of_an_exec,
            every_call_on_an_unknown_container;
    ]
}

pub const KILL: i32 = 9;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Created,
    Running,
    Paused,
    Stopped,
    Deleted,
}

/// What a call must answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expect {
    Ok,
    /// Refused with any code but NotFound, which would mean that it is gone.
    Refused,
    Code(Code),
}

use Expect::{Ok as Fine, Refused};
const NOT_FOUND: Expect = Expect::Code(Code::NOT_FOUND);

type Operation<const STATES: usize> = (&'static str, fn(&Task) -> Answer<()>, [Expect; STATES]);

/// Rows of contract: created, running, paused, stopped, deleted.
const INIT_TABLE: &[Operation<5>] = &[
    (
        "start",
        |t| t.start(INIT).map(drop),
        [Fine, Refused, Refused, Refused, NOT_FOUND],
    ),
    (
        "pause",
        |t| t.pause(),
        [Refused, Fine, Refused, Refused, NOT_FOUND],
    ),
    (
        "resume",
        |t| t.resume(),
        [Refused, Refused, Fine, Refused, NOT_FOUND],
    ),
    (
        "update",
        |t| t.update(&json!({})),
        [Fine, Fine, Fine, Refused, NOT_FOUND],
    ),
    (
        "exec",
        |t| t.exec("e", &["true"], &Streams::default()),
        [Fine, Fine, Refused, Refused, NOT_FOUND],
    ),
    (
        "kill",
        |t| t.kill(INIT, KILL),
        [Fine, Fine, Fine, NOT_FOUND, NOT_FOUND],
    ),
    (
        "delete",
        |t| t.delete(INIT).map(drop),
        [Fine, Refused, Refused, Fine, NOT_FOUND],
    ),
    (
        "state",
        |t| t.state(INIT).map(drop),
        [Fine, Fine, Fine, Fine, NOT_FOUND],
    ),
    (
        "connect",
        |t| t.connect().map(drop),
        [Fine, Fine, Fine, Fine, Fine],
    ),
    (
        "pids",
        |t| t.pids().map(drop),
        [Fine, Fine, Fine, Fine, NOT_FOUND],
    ),
    (
        "resize",
        |t| t.resize(INIT, 80, 24),
        [Fine, Fine, Fine, Fine, NOT_FOUND],
    ),
    (
        "close_io",
        |t| t.close_io(INIT),
        [Fine, Fine, Fine, Fine, NOT_FOUND],
    ),
];

const STATES: [State; 5] = [
    State::Created,
    State::Running,
    State::Paused,
    State::Stopped,
    State::Deleted,
];

/// A container in `state`, in the shim that `keeper` keeps alive.
fn in_state(s: &ByHand, keeper: &Task, id: &str, state: State) -> Check<Task> {
    s.prepare(id, &s.spec(id, &["sleep", "1000"]))?;
    let task = s.task_on(keeper.client.clone(), id);
    task.create(&s.rootfs(), &Streams::default())?;
    if state == State::Created {
        return Ok(task);
    }
    task.start(INIT)?;
    match state {
        State::Created | State::Running => {}
        State::Paused => task.pause()?,
        State::Stopped | State::Deleted => {
            task.kill(INIT, KILL)?;
            task.wait(INIT)?;
        }
    }
    if state == State::Deleted {
        task.delete(INIT)?;
    }
    Ok(task)
}

fn every_call_in_every_state_of_the_init(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    let mut wrong = Vec::new();
    for (name, operation, expected) in INIT_TABLE {
        for (state, expect) in STATES.iter().zip(expected) {
            let task = in_state(
                s,
                &keeper,
                &format!("{name}-{state:?}").to_lowercase(),
                *state,
            )?;
            let answer = operation(&task);
            let differs = s.places.is_runc() && differs_from_runc(name, *state);
            if !fits(*expect, &answer) && !differs {
                wrong.push(format!(
                    "{name} when {state:?}: {answer:?} instead of {expect:?}"
                ));
            }
            clear(&task);
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        fail(wrong.join("\n"))
    }
}

/// Where the reference answers something else, or the same for another reason.
fn differs_from_runc(name: &str, state: State) -> bool {
    // Its ps finds no process and says so in other words; without a console a
    // resize of what has stopped is an error of the console.
    matches!(
        (name, state),
        ("pids" | "resize" | "close_io", State::Stopped) | ("update", State::Stopped)
    )
}

pub fn fits(expect: Expect, answer: &Answer<()>) -> bool {
    match (expect, answer) {
        (Fine, Ok(())) => true,
        (Fine, Err(_)) | (Refused | Expect::Code(_), Ok(())) => false,
        (Refused, Err(r)) => r
            .code()
            .is_some_and(|c| c != Code::NOT_FOUND && c != Code::INTERNAL),
        (Expect::Code(code), Err(r)) => r.code() == Some(code),
    }
}

/// Ends what a case left, whatever state it is in.
fn clear(task: &Task) {
    let _ = task.resume();
    let _ = task.kill(INIT, KILL);
    let _ = task.wait(INIT);
    let _ = task.delete(INIT);
}

pub const EXEC: &str = "e";

/// Rows of contract: created, running, stopped, deleted.
const EXEC_TABLE: &[Operation<4>] = &[
    (
        "start",
        |t| t.start(EXEC).map(drop),
        [Fine, Refused, Refused, NOT_FOUND],
    ),
    (
        "kill",
        |t| t.kill(EXEC, KILL),
        [
            Expect::Code(Code::FAILED_PRECONDITION),
            Fine,
            NOT_FOUND,
            NOT_FOUND,
        ],
    ),
    (
        "delete",
        |t| t.delete(EXEC).map(drop),
        [Fine, Refused, Fine, NOT_FOUND],
    ),
    (
        "state",
        |t| t.state(EXEC).map(drop),
        [Fine, Fine, Fine, NOT_FOUND],
    ),
    (
        "resize",
        |t| t.resize(EXEC, 80, 24),
        [Fine, Fine, Refused, NOT_FOUND],
    ),
    (
        "close_io",
        |t| t.close_io(EXEC),
        [Fine, Fine, Fine, NOT_FOUND],
    ),
    (
        "exec",
        |t| t.exec(EXEC, &["true"], &Streams::default()),
        [
            Expect::Code(Code::ALREADY_EXISTS),
            Expect::Code(Code::ALREADY_EXISTS),
            Expect::Code(Code::ALREADY_EXISTS),
            Fine,
        ],
    ),
];

fn every_call_in_every_state_of_an_exec(s: &ByHand) -> Check {
    let task = s.running("execs", &["sleep", "1000"])?;
    let mut wrong = Vec::new();
    for (name, operation, expected) in EXEC_TABLE {
        for (state, expect) in [
            State::Created,
            State::Running,
            State::Stopped,
            State::Deleted,
        ]
        .iter()
        .zip(expected)
        {
            task.exec(EXEC, &["sleep", "1000"], &Streams::default())?;
            if *state != State::Created && *state != State::Deleted {
                task.start(EXEC)?;
            }
            if *state == State::Stopped {
                task.kill(EXEC, KILL)?;
                task.wait(EXEC)?;
            }
            if *state == State::Deleted {
                task.delete(EXEC)?;
            }
            let answer = operation(&task);
            // Without a console the reference has nothing to refuse; 1.6's has no code for an unknown one.
            let differs = s.places.is_runc()
                && matches!(
                    (*name, *state),
                    ("resize", State::Stopped) | ("close_io", State::Stopped | State::Deleted)
                );
            if !fits(*expect, &answer) && !differs {
                wrong.push(format!(
                    "{name} when {state:?}: {answer:?} instead of {expect:?}"
                ));
            }
            let _ = task.kill(EXEC, KILL);
            if task.status(EXEC).is_ok_and(|s| s == Status::RUNNING) {
                task.wait(EXEC)?;
            }
            let _ = task.delete(EXEC);
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        fail(wrong.join("\n"))
    }
}

fn every_call_on_an_unknown_container(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    let stranger = s.task_on(keeper.client.clone(), "stranger");
    let mut wrong = Vec::new();
    let unnamed: [(&str, Answer<()>); 3] = [
        ("stats", stranger.stats().map(drop)),
        ("wait", stranger.wait(INIT).map(drop)),
        ("checkpoint", stranger.checkpoint("/tmp/x")),
    ];
    let tabled = INIT_TABLE
        .iter()
        .filter(|(name, ..)| *name != "connect")
        .map(|(name, call, _)| (*name, call(&stranger)));
    for (name, answer) in tabled.chain(unnamed) {
        if !fits(NOT_FOUND, &answer) {
            wrong.push(format!("{name}: {answer:?}"));
        }
    }
    let (shim, init) = stranger.connect()?;
    assert!(shim > 0 && init == 0, "{shim} {init}");
    // Others remain, so it answers and stays.
    stranger.shutdown()?;
    assert_eq!(keeper.status(INIT)?, Status::RUNNING);
    if wrong.is_empty() {
        Ok(())
    } else {
        fail(wrong.join("\n"))
    }
}
