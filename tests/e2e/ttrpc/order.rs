//! Do the events of one container come in an order that consumers can rely on? PURE.
//!
//! The rules are those that Docker's and CRI's state machines are built on:
//!
//! 1. create before start before exit before delete of a container;
//! 2. exec-added before exec-started before that exec's exit;
//! 3. every started process exits exactly once, and none exits that was not
//!    started, but for an init that was created and then killed;
//! 4. the init's exit is the last exit of its container;
//! 5. an OOM comes before the exit that it explains;
//! 6. all of it in the order in which it came;
//! 7. no second exit after a deletion.

use std::collections::HashMap;

use libtest_mimic::Trial;
use rsrun_tests::events::What;
use rsrun_tests::suite::order_broken;

/// What the driver did, against which the events are held.
#[derive(Clone, Debug, Default)]
pub struct Did {
    /// Pid of the init, as Create answered.
    pub pid: u32,
    /// Whether Start succeeded.
    pub started: bool,
    /// Status of the init, as Wait answered.
    pub status: u32,
    /// Execs added; those that started with their pid and status.
    pub execs: HashMap<String, Option<(u32, u32)>>,
}

/// All that is wrong with the events of one container that was deleted.
pub fn violations(id: &str, events: &[What], did: &Did) -> Vec<String> {
    let mut checker = Checker {
        id,
        did,
        seen: Seen::default(),
        wrong: Vec::new(),
    };
    for (at, event) in events.iter().enumerate() {
        checker.take(at, event);
    }
    checker.conclude();
    checker.wrong
}

#[derive(Default)]
struct Seen {
    created: bool,
    started: bool,
    exited: bool,
    deleted: bool,
    /// Exec → how far it is: added, started, exited.
    execs: HashMap<String, u8>,
}

struct Checker<'a> {
    id: &'a str,
    did: &'a Did,
    seen: Seen,
    wrong: Vec<String>,
}

impl Checker<'_> {
    fn must(&mut self, holds: bool, rule: u8, what: impl std::fmt::Display) {
        if !holds {
            self.wrong.push(format!("rule {rule}: {}: {what}", self.id));
        }
    }

    fn take(&mut self, at: usize, event: &What) {
        self.must(!self.seen.deleted, 7, format!("{event:?} after delete"));
        match event {
            What::Create { pid, .. } => {
                self.must(
                    at == 0 && !self.seen.created,
                    1,
                    format!("create is event {at}"),
                );
                self.must(
                    *pid == self.did.pid,
                    1,
                    format!("create with pid {pid}, not {}", self.did.pid),
                );
                self.seen.created = true;
            }
            What::Start { pid, .. } => {
                let seen = &self.seen;
                let fits = seen.created && !seen.started && !seen.exited && *pid == self.did.pid;
                self.must(fits, 1, format!("start of {pid} out of turn"));
                self.seen.started = true;
            }
            What::ExecAdded { exec, .. } => {
                self.must(self.seen.created, 2, format!("{exec} added before create"));
                let before = self.seen.execs.insert(exec.clone(), 1);
                self.must(
                    before.is_none_or(|step| step == 3),
                    2,
                    format!("{exec} added twice"),
                );
            }
            What::ExecStarted { exec, pid, .. } => {
                let before = self.seen.execs.insert(exec.clone(), 2);
                self.must(before == Some(1), 2, format!("{exec} started out of turn"));
                let known = self.did.execs.get(exec).copied().flatten().map(|(p, _)| p);
                self.must(
                    known.is_none_or(|k| k == *pid),
                    2,
                    format!("{exec} started with pid {pid}, not {known:?}"),
                );
            }
            What::Exit {
                process,
                pid,
                status,
                at,
                ..
            } if process == self.id => {
                self.must(!self.seen.exited, 3, "the init exits twice");
                self.must(self.seen.created, 1, "exit before create");
                self.must(
                    *pid == self.did.pid && *status == self.did.status,
                    3,
                    format!("{event:?}, but {:?}", self.did),
                );
                self.must(at.is_some(), 3, "an exit without time");
                self.seen.exited = true;
            }
            What::Exit {
                process,
                pid,
                status,
                ..
            } => {
                self.must(
                    !self.seen.exited,
                    4,
                    format!("exit of {process} after the init's"),
                );
                let before = self.seen.execs.insert(process.clone(), 3);
                self.must(
                    before == Some(2),
                    3,
                    format!("exit of {process}, which did not run ({before:?})"),
                );
                let known = self.did.execs.get(process).copied().flatten();
                let fits = known.is_none_or(|k| k == (*pid, *status));
                self.must(fits, 3, format!("{event:?}, but {known:?}"));
            }
            What::Oom { .. } => self.must(!self.seen.exited, 5, "oom after the exit"),
            What::Paused { .. } | What::Resumed { .. } => {
                self.must(
                    self.seen.started && !self.seen.exited,
                    1,
                    format!("{event:?} out of turn"),
                );
            }
            What::Delete {
                exec, pid, status, ..
            } => {
                self.must(exec.is_empty(), 1, "a deletion is told of an exec");
                self.must(
                    self.seen.exited || !self.seen.started,
                    1,
                    "delete before exit",
                );
                self.must(*pid == self.did.pid, 1, format!("delete with pid {pid}"));
                let fits = !self.seen.exited || *status == self.did.status;
                self.must(fits, 1, format!("delete with status {status}"));
                self.seen.deleted = true;
            }
            What::Other(kind) => self.must(false, 6, format!("unknown event {kind}")),
        }
    }

    fn conclude(&mut self) {
        let running: Vec<String> = self
            .seen
            .execs
            .iter()
            .filter(|(_, step)| **step == 2)
            .map(|(exec, _)| exec.clone())
            .collect();
        self.must(running.is_empty(), 3, format!("no exit of {running:?}"));
        for (exec, did) in &self.did.execs {
            let step = self.seen.execs.get(exec).copied();
            let expected = if did.is_some() { 3 } else { 1 };
            self.must(
                step == Some(expected),
                2,
                format!("{exec} came to {step:?}, not {expected}"),
            );
        }
        let did = self.did;
        self.must(
            self.seen.started == did.started,
            1,
            format!("start told: {}", self.seen.started),
        );
        self.must(self.seen.exited || !did.started, 3, "no exit of the init");
        self.must(self.seen.deleted, 1, "no delete");
    }
}

/// Breaks a sound life in one way.
type Damage = fn(&mut Vec<What>);

/// Each rule broken once, so that the checker is known to see it.
pub fn cases() -> Vec<Trial> {
    let broken: [(&str, u8, Damage); 8] = [
        ("start_before_create", 1, |e| e.swap(0, 1)),
        ("delete_before_exit", 1, |e| e.swap(5, 6)),
        ("exec_started_before_added", 2, |e| e.swap(2, 3)),
        ("exit_of_an_exec_is_missing", 3, |e| drop(e.remove(4))),
        ("exit_of_the_init_is_missing", 3, |e| drop(e.remove(5))),
        ("exit_of_the_init_is_not_the_last", 4, |e| e.swap(4, 5)),
        ("oom_after_the_exit", 5, |e| {
            e.insert(6, What::Oom { id: "c".into() })
        }),
        ("exit_after_the_deletion", 7, |e| e.push(e[5].clone())),
    ];
    let sound = Trial::test("order::a_sound_life_breaks_no_rule", || {
        let found = violations("c", &sound_life(), &sound_did());
        if found.is_empty() {
            Ok(())
        } else {
            Err(found.join("; ").into())
        }
    });
    let each = broken.into_iter().map(|(name, rule, damage)| {
        Trial::test(format!("order::{name}_is_seen"), move || {
            let mut events = sound_life();
            damage(&mut events);
            let found = violations("c", &events, &sound_did());
            let seen = found
                .iter()
                .any(|f| f.starts_with(&format!("rule {rule}:")));
            if seen {
                Ok(())
            } else {
                Err(format!("rule {rule} is not among {found:?}").into())
            }
        })
    });
    let logged = Trial::test("order::a_violation_that_a_shim_has_logged_is_seen", || {
        let quiet = "level=info msg=\"serving on /run/s\"\n";
        let broken =
            format!("{quiet}level=error msg=\"event out of order: container c: started twice\"\n");
        match (order_broken(quiet), order_broken(&broken)) {
            (None, Some(_)) => Ok(()),
            seen => Err(format!("{seen:?}").into()),
        }
    });
    each.chain([sound, logged]).collect()
}

fn sound_did() -> Did {
    let execs = HashMap::from([("e".to_string(), Some((8, 0)))]);
    Did {
        pid: 7,
        started: true,
        status: 137,
        execs,
    }
}

fn sound_life() -> Vec<What> {
    let id = || "c".to_string();
    let exit = |process: &str, pid, status| What::Exit {
        id: id(),
        process: process.into(),
        pid,
        status,
        at: Some(1),
    };
    vec![
        What::Create {
            id: id(),
            pid: 7,
            bundle: String::new(),
            stdout: String::new(),
        },
        What::Start { id: id(), pid: 7 },
        What::ExecAdded {
            id: id(),
            exec: "e".into(),
        },
        What::ExecStarted {
            id: id(),
            exec: "e".into(),
            pid: 8,
        },
        exit("e", 8, 0),
        exit("c", 7, 137),
        What::Delete {
            id: id(),
            exec: String::new(),
            pid: 7,
            status: 137,
        },
    ]
}
