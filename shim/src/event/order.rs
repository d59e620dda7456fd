//! Does a sequence of events keep the order that consumers rely on? PURE.
//!
//! ```text
//! init:  created ── started ── (exits of execs) ── exited(init) ── deleted
//!            └─────────────────────────────────────────┘ killed before it was started
//! exec:  added ── started ── exited
//! ```
//!
//! 1. create before start before exit before delete;
//! 2. exec-added before exec-started before that exec's exit;
//! 3. one exit for each process that was started, of the same pid, and none for others;
//! 4. the init's exit is the last of its container;
//! 5. out of memory before the exit that it explains;
//! 6. all of it in one queue: the outbox checks an event when it is put there;
//! 7. nothing after the deletion.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use super::{Event, What};

/// What was published for each container so far.
#[derive(Debug, Default)]
pub struct Order(HashMap<String, Seen>);

/// Events of a container that are remembered for the text of a violation.
const REMEMBERED: usize = 32;

#[derive(Debug, Default)]
struct Seen {
    /// Pid of the init, once it was created.
    created: Option<i32>,
    started: bool,
    exited: bool,
    added: HashSet<String>,
    running: HashMap<String, i32>,
    history: VecDeque<String>,
}

/// A rule that an event breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    container: String,
    rule: &'static str,
    /// The last events of the container, the one that breaks the rule at the end.
    history: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            container,
            rule,
            history,
        } = self;
        write!(f, "container {container}: {rule}: {}", history.join(", "))
    }
}

impl Order {
    /// Notes the next event; the rule that it breaks, if it breaks one.
    pub fn check(&mut self, event: &Event) -> Result<(), Violation> {
        let seen = self.0.entry(event.container.clone()).or_default();
        if seen.history.len() == REMEMBERED {
            seen.history.pop_front();
        }
        seen.history.push_back(told(&event.what));
        let broken = seen.take(&event.container, &event.what).err();
        let violation = broken.map(|rule| Violation {
            container: event.container.clone(),
            rule,
            history: seen.history.iter().cloned().collect(),
        });
        // Whatever comes for this name from now on is another container, or a violation.
        if matches!(event.what, What::Deleted(_)) || seen.created.is_none() {
            self.0.remove(&event.container);
        }
        violation.map_or(Ok(()), Err)
    }

    /// An exec was deleted. No event tells of it; one that never ran would be remembered for ever, and its id
    /// may be added again.
    pub fn forget_exec(&mut self, container: &str, exec: &str) {
        if let Some(seen) = self.0.get_mut(container) {
            seen.added.remove(exec);
        }
    }
}

impl Seen {
    fn take(&mut self, container: &str, what: &What) -> Result<(), &'static str> {
        let alive = self.created.is_some() && !self.exited;
        match what {
            What::Created { pid, .. } => {
                let first = self.created.replace(*pid).is_none();
                rule(first, "created twice")
            }
            What::Started { pid } => {
                let fits = alive && !self.started && self.created == Some(*pid);
                self.started = true;
                rule(
                    fits,
                    "started without created, twice, after its exit, or with another pid",
                )
            }
            What::ExecAdded { exec } => {
                let first = self.added.insert(exec.clone()) && !self.running.contains_key(exec);
                rule(
                    self.created.is_some() && first,
                    "exec added without created, twice, or while it runs",
                )
            }
            What::ExecStarted { exec, pid } => {
                let added = self.added.remove(exec);
                let first = self.running.insert(exec.clone(), *pid).is_none();
                rule(
                    added && first && alive,
                    "exec started without added, twice, or after the init's exit",
                )
            }
            What::Exited(ended) if ended.process == container => {
                let fits = alive && self.created == Some(ended.pid) && self.running.is_empty();
                self.exited = true;
                rule(
                    fits,
                    "init's exit without created, twice, before an exec's, or of another pid",
                )
            }
            What::Exited(ended) => {
                let started = self.running.remove(&ended.process);
                rule(
                    started == Some(ended.pid) && !self.exited,
                    "exec's exit without its start, after the init's, or of another pid",
                )
            }
            What::OutOfMemory => rule(alive, "out of memory without created or after the exit"),
            What::Paused | What::Resumed => {
                rule(alive, "paused or resumed without created or after the exit")
            }
            What::Deleted(ended) => rule(
                self.exited && self.created == Some(ended.pid),
                "deleted before the init's exit, without created, or with another pid",
            ),
        }
    }
}

fn told(what: &What) -> String {
    let name = what.name();
    match what {
        What::Created { pid, .. } | What::Started { pid } => format!("{name} {pid}"),
        What::ExecAdded { exec } => format!("{name} {exec}"),
        What::ExecStarted { exec, pid } => format!("{name} {exec} {pid}"),
        What::Exited(ended) | What::Deleted(ended) => {
            format!("{name} {} {} {}", ended.process, ended.pid, ended.status)
        }
        What::OutOfMemory | What::Paused | What::Resumed => name.to_owned(),
    }
}

fn rule(kept: bool, text: &'static str) -> Result<(), &'static str> {
    if kept { Ok(()) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::Ended;
    use super::*;

    fn event(what: What) -> Event {
        Event {
            container: "c".into(),
            what,
        }
    }

    fn created() -> What {
        What::Created {
            bundle: String::new(),
            rootfs: Vec::new(),
            stdin: String::new(),
            stdout: String::new(),
            stderr: String::new(),
            terminal: false,
            pid: 1,
        }
    }

    fn ended(process: &str) -> Ended {
        Ended {
            process: process.into(),
            pid: if process == "c" { 1 } else { 2 },
            status: 0,
            at: UNIX_EPOCH,
        }
    }

    fn broken(events: Vec<What>) -> Vec<Violation> {
        let mut order = Order::default();
        events
            .into_iter()
            .filter_map(|what| order.check(&event(what)).err())
            .collect()
    }

    #[test]
    fn a_whole_life_with_an_exec_breaks_no_rule() {
        let exec = || "e".to_owned();
        assert!(
            broken(vec![
                created(),
                What::Started { pid: 1 },
                What::ExecAdded { exec: exec() },
                What::ExecStarted {
                    exec: exec(),
                    pid: 2
                },
                What::Paused,
                What::Resumed,
                What::OutOfMemory,
                What::Exited(ended("e")),
                What::Exited(ended("c")),
                What::Deleted(ended("c")),
                created(),
            ])
            .is_empty()
        );
    }

    #[test]
    fn the_id_of_an_exec_that_never_ran_may_be_added_again() {
        let mut order = Order::default();
        let added = || event(What::ExecAdded { exec: "e".into() });
        assert_eq!(order.check(&event(created())), Ok(()));
        assert_eq!(order.check(&added()), Ok(()));
        assert!(order.check(&added()).is_err());
        order.forget_exec("c", "e");
        assert_eq!(order.check(&added()), Ok(()));
    }

    #[test]
    fn an_init_that_ends_before_its_exec_is_seen() {
        let exec = || "e".to_owned();
        let events = vec![
            created(),
            What::Started { pid: 1 },
            What::ExecAdded { exec: exec() },
            What::ExecStarted {
                exec: exec(),
                pid: 2,
            },
            What::Exited(ended("c")),
            What::Exited(ended("e")),
        ];
        assert_eq!(broken(events).len(), 2);
    }

    /// What a shim that breaks each rule would send, and how many of its events break one.
    #[test]
    fn every_rule_can_be_seen_broken() {
        let exec = || "e".to_owned();
        let added = || What::ExecAdded { exec: exec() };
        let started = |pid| What::ExecStarted { exec: exec(), pid };
        let exit = || What::Exited(ended("c"));
        let deleted = || What::Deleted(ended("c"));
        for (rule, events) in [
            (1, vec![What::Started { pid: 1 }]),
            (1, vec![created(), created()]),
            (1, vec![created(), exit(), What::Started { pid: 1 }]),
            (1, vec![created(), deleted()]),
            (1, vec![deleted()]),
            (2, vec![created(), started(2)]),
            (2, vec![added()]),
            (2, vec![created(), added(), What::Exited(ended("e"))]),
            (3, vec![exit()]),
            (3, vec![created(), exit(), exit()]),
            (3, vec![created(), What::Started { pid: 7 }]),
            (
                3,
                vec![created(), added(), started(3), What::Exited(ended("e"))],
            ),
            (4, vec![created(), added(), started(2), exit()]),
            (5, vec![created(), exit(), What::OutOfMemory]),
            (5, vec![What::OutOfMemory]),
            (7, vec![created(), exit(), deleted(), exit()]),
            (7, vec![created(), exit(), deleted(), deleted()]),
            (7, vec![created(), exit(), deleted(), What::Paused]),
        ] {
            assert_eq!(broken(events.clone()).len(), 1, "rule {rule}: {events:?}");
        }
    }

    #[test]
    fn a_violation_tells_the_container_the_rule_and_what_came_before() {
        let broken = broken(vec![created(), What::Exited(ended("c")), What::OutOfMemory]);
        assert_eq!(
            broken[0].to_string(),
            "container c: out of memory without created or after the exit: create 1, exit c 1 0, oom"
        );
    }
}
