//! Does a sequence of events keep the order that consumers rely on? PURE.
//!
//! ```text
//! init:  created ── started ── (exits of execs) ── exited(init) ── deleted
//!            └─────────────────────────────────────────┘ killed before it was started
//! exec:  added ── started ── exited
//! ```

use std::collections::{HashMap, HashSet};

use super::{Event, What};

/// What was published for each container so far.
#[derive(Debug, Default)]
pub struct Order(HashMap<String, Seen>);

#[derive(Debug, Default)]
struct Seen {
    created: bool,
    started: bool,
    exited: bool,
    added: HashSet<String>,
    running: HashSet<String>,
}

impl Order {
    /// Notes the next event; the rule that it breaks, if it breaks one.
    pub fn check(&mut self, event: &Event) -> Result<(), &'static str> {
        if let What::Deleted(_) = event.what {
            let seen = self
                .0
                .remove(&event.container)
                .ok_or("deleted without created")?;
            return rule(
                seen.exited || !seen.created,
                "deleted before the init's exit",
            );
        }
        let seen = self.0.entry(event.container.clone()).or_default();
        match &event.what {
            What::Created { .. } => {
                let first = !seen.created;
                seen.created = true;
                rule(first, "created twice")
            }
            What::Started { .. } => {
                let fits = seen.created && !seen.started && !seen.exited;
                seen.started = true;
                rule(fits, "started without created, twice, or after its exit")
            }
            What::ExecAdded { exec } => rule(seen.added.insert(exec.clone()), "exec added twice"),
            What::ExecStarted { exec, .. } => {
                let fits =
                    seen.added.contains(exec) && !seen.exited && seen.running.insert(exec.clone());
                rule(
                    fits,
                    "exec started without added, twice, or after the init's exit",
                )
            }
            What::Exited(ended) if ended.process == event.container => {
                let fits = seen.created && !seen.exited && seen.running.is_empty();
                seen.exited = true;
                rule(
                    fits,
                    "init's exit without created, twice, or before an exec's",
                )
            }
            What::Exited(ended) => {
                seen.added.remove(&ended.process);
                rule(
                    seen.running.remove(&ended.process) && !seen.exited,
                    "exec's exit without its start, or after the init's",
                )
            }
            What::OutOfMemory => rule(
                seen.created && !seen.exited,
                "out of memory after the init's exit",
            ),
            What::Paused | What::Resumed => rule(
                seen.created && !seen.exited,
                "paused or resumed after the init's exit",
            ),
            What::Deleted(_) => Ok(()),
        }
    }

    /// An exec was deleted. No event tells of it; one that never ran would be remembered for ever, and its id
    /// may be added again.
    pub fn forget_exec(&mut self, container: &str, exec: &str) {
        if let Some(seen) = self.0.get_mut(container) {
            seen.added.remove(exec);
        }
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
            pid: 1,
            status: 0,
            at: UNIX_EPOCH,
        }
    }

    fn broken(events: Vec<What>) -> Vec<&'static str> {
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

    #[test]
    fn late_and_doubled_events_are_seen() {
        assert_eq!(broken(vec![What::Exited(ended("c"))]).len(), 1);
        assert_eq!(
            broken(vec![created(), What::Exited(ended("c")), What::OutOfMemory]).len(),
            1
        );
        assert_eq!(
            broken(vec![
                created(),
                What::Exited(ended("c")),
                What::Exited(ended("c"))
            ])
            .len(),
            1
        );
        assert_eq!(broken(vec![What::Deleted(ended("c"))]).len(), 1);
    }
}
