//! One life of a container through a shim, step by step: what each step has to show when it says that it went well,
//! and what it answers when it did not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use crate::by_hand::{ByHand, Started};
use crate::command::eventually;
use crate::containerd::{SOCKETS, socket_name};
use crate::proc;
use crate::suite::{Check, fail};
use crate::task::{INIT, Streams, Task};
use crate::ttrpc::{Answer, Refusal};

/// The steps after `start`, in their order.
pub const STEPS: [&str; 5] = ["Create", "Start", "Exec", "Kill", "Delete"];

const STAYS: [&str; 3] = ["/bin/sh", "-c", "echo ready; exec /bin/sleep 1000"];
const ADDED: [&str; 3] = ["/bin/sh", "-c", "echo added; exit 7"];
/// What comes by itself has to come within this time.
pub const WITHIN: Duration = Duration::from_secs(5);
const AWAITED: Duration = Duration::from_secs(10);

/// How a step went. Silence is no answer and fails the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// As it said: what it does has been seen.
    Well,
    /// An error, in words.
    Refused(String),
    /// The connection ended without an answer.
    Closed,
}

/// A container whose bundle exists.
pub struct Life<'s> {
    /// Who starts its shim.
    pub s: &'s ByHand,
    /// Its id.
    pub id: String,
    /// What its programs print.
    pub out: PathBuf,
    heard: usize,
}

impl<'s> Life<'s> {
    /// Makes the bundle.
    pub fn prepare(s: &'s ByHand, id: String) -> Check<Self> {
        let heard = s.log().len();
        s.prepare(&id, &s.spec(&id, &STAYS))?;
        s.keep_log(&id)?;
        let out = s.directory().join(&id);
        fs::create_dir_all(&out)?;
        Ok(Self { s, id, out, heard })
    }

    /// Connects to its shim and says who that is.
    pub fn connect(&self, started: &Started) -> Check<(Task, Pid)> {
        let started = self.s.adopt(started.clone(), &self.id)?;
        let task = self.s.task(&started, &self.id)?;
        let shim = task.connect()?.0.try_into()?;
        Ok((task, Pid::from_raw(shim)))
    }

    /// Does one of [`STEPS`].
    pub fn step(&self, name: &str, task: &Task) -> Check<Went> {
        let went = match name {
            "Create" => went(task.create(&self.s.rootfs(), &self.streams("out"))),
            "Start" => match went(task.start(INIT))? {
                Went::Well => self.speaks("out", "ready"),
                other => Ok(other),
            },
            "Exec" => self.exec(task),
            "Kill" => match went(task.kill(INIT, libc::SIGKILL))? {
                Went::Well => ended_with(task, INIT, 137),
                other => Ok(other),
            },
            "Delete" => match went(task.delete(INIT))? {
                Went::Well => self.s.nothing_remains(&self.id).map(|()| Went::Well),
                other => Ok(other),
            },
            other => return fail(format!("no step {other}")),
        };
        went.or_else(|e| match e {
            crate::suite::Stop::Fail(words) => fail(format!("{name}: {words}")),
            skipped => Err(skipped),
        })
    }

    fn exec(&self, task: &Task) -> Check<Went> {
        let steps: [&dyn Fn() -> Check<Went>; 5] = [
            &|| went(task.exec("added", &ADDED, &self.streams("added"))),
            &|| went(task.start("added")),
            &|| ended_with(task, "added", 7),
            &|| self.speaks("added", "added"),
            &|| went(task.delete("added")),
        ];
        for step in steps {
            match step()? {
                Went::Well => {}
                other => return Ok(other),
            }
        }
        Ok(Went::Well)
    }

    fn streams(&self, name: &str) -> Streams {
        Streams {
            stdout: format!("file://{}", self.out.join(name).display()),
            ..Streams::default()
        }
    }

    /// What a file could not take is lost, and the log has to say so.
    fn speaks(&self, file: &str, word: &str) -> Check<Went> {
        eventually(&format!("{word:?} in {file}"), WITHIN, || {
            let text = fs::read_to_string(self.out.join(file)).unwrap_or_default();
            text.trim() == word || self.log().contains("output is lost")
        })?;
        Ok(Went::Well)
    }

    /// What the shims have logged since this life began.
    pub fn log(&self) -> String {
        self.s.log().split_off(self.heard)
    }

    /// As a client that gives up: the process dies, its exit arrives, it is deleted, the shim ends. Twice, for what
    /// is wrong may end the first connection.
    pub fn give_up(&self, started: &Started, shim: Pid) -> Check {
        for limit in [Duration::from_millis(500), WITHIN] {
            if !proc::is_alive(shim) {
                break;
            }
            let task = self.s.task(started, &self.id)?;
            let _ = task.kill(INIT, libc::SIGKILL);
            if let Err(Refusal::Silent(time)) = task.wait_within(INIT, AWAITED) {
                return fail(format!("Wait is not answered for {time:?}"));
            }
            let _ = task.delete("added");
            let _ = task.delete(INIT);
            let _ = task.shutdown();
            let _ = eventually("its end", limit, || !proc::is_alive(shim));
        }
        match proc::is_alive(shim) {
            true => fail(format!("the shim {shim} does not end")),
            false => Ok(()),
        }
    }

    /// `delete` leaves nothing of it.
    pub fn over(self) -> Check {
        let deleted = self.s.delete(&self.id);
        self.s.nothing_remains(&self.id)?;
        deleted?;
        let socket =
            Path::new(SOCKETS).join(socket_name(&self.s.address(), self.s.ctr_ns(), &self.id));
        let gone = eventually("nothing", WITHIN, || {
            !socket.exists() && self.shims().is_empty()
        });
        if gone.is_err() {
            let left = self.shims();
            for pid in &left {
                let _ = nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGKILL);
            }
            return fail(format!(
                "left: socket {}, processes {left:?}",
                socket.exists()
            ));
        }
        fs::remove_dir_all(self.s.bundle(&self.id))?;
        fs::remove_dir_all(&self.out)?;
        Ok(())
    }

    fn shims(&self) -> Vec<Pid> {
        let all = proc::all().into_iter();
        let ours = all.filter(|p| proc::is_alive(*p) && proc::command_line(*p).contains(&self.id));
        ours.collect()
    }
}

fn ended_with(task: &Task, exec: &str, status: u32) -> Check<Went> {
    let exit = task.wait_within(exec, AWAITED);
    match &exit {
        Ok(exit) if exit.status != status => fail(format!("{exec:?} ended with {exit:?}")),
        _ => went(exit),
    }
}

fn went<T>(answer: Answer<T>) -> Check<Went> {
    match answer {
        Ok(_) => Ok(Went::Well),
        Err(Refusal::Status(_, words)) => Ok(Went::Refused(words)),
        Err(Refusal::Closed) => Ok(Went::Closed),
        Err(silent) => fail(silent),
    }
}

/// The words of an error have to say more than the errno.
pub fn has_words(text: &str) -> Check {
    let text = text.trim();
    if text.contains("panicked at") {
        return fail(format!("a panic: {text}"));
    }
    if text.split_whitespace().count() < 3 || text.len() < 15 {
        return fail(format!("an error without words: {text:?}"));
    }
    Ok(())
}
