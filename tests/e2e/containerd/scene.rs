//! The world of one case: a daemon, fresh ids, and the end of all that was started.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rsrun_tests::command::{Outcome, Running, eventually, run, spawn};
use rsrun_tests::containerd::{Containerd, IMAGE};
use rsrun_tests::proc;
use rsrun_tests::suite::{Check, World, fail, order_broken};

static NEXT: AtomicUsize = AtomicUsize::new(1);
const PATIENCE: Duration = Duration::from_secs(40);

/// One case's view of a containerd that others may use at the same time.
pub struct Scene {
    /// The daemon; shared, or this case's own.
    pub containerd: std::sync::Arc<Containerd>,
    ids: Mutex<Vec<String>>,
}

impl Scene {
    pub fn new(containerd: std::sync::Arc<Containerd>) -> Self {
        Self {
            containerd,
            ids: Mutex::new(Vec::new()),
        }
    }

    /// A container id that no other case uses; its container ends with the case.
    pub fn id(&self, word: &str) -> String {
        let id = format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.ids
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(id.clone());
        id
    }

    pub fn is_runc(&self) -> bool {
        self.containerd.places.is_runc()
    }

    /// `ctr run <flags> IMAGE <id> <args>`, not started yet.
    pub fn run_command(&self, flags: &[&str], id: &str, args: &[&str]) -> Command {
        let mut command = self.containerd.ctr_command();
        command
            .arg("run")
            .args(self.containerd.run_flags())
            .args(flags)
            .arg(IMAGE)
            .arg(id)
            .args(args);
        command
    }

    /// `ctr run` to its end.
    pub fn run(&self, flags: &[&str], id: &str, args: &[&str]) -> Check<Outcome> {
        run(&mut self.run_command(flags, id, args), PATIENCE)
    }

    /// `ctr run` in the foreground beside the test, with a stdin that stays open.
    pub fn run_beside(&self, flags: &[&str], id: &str, args: &[&str]) -> Check<Running> {
        spawn(self.run_command(flags, id, args).stdin(Stdio::piped()))
    }

    /// `ctr run -d` without output, returned when the container runs.
    pub fn detached(&self, id: &str, args: &[&str]) -> Check {
        self.run(&["-d", "--null-io"], id, args)?.ok()?;
        Ok(())
    }

    /// `ctr tasks <args>`.
    pub fn task(&self, args: &[&str]) -> Check<Outcome> {
        run(&mut self.task_command(args), PATIENCE)
    }

    /// `ctr tasks <args>`, not started yet.
    pub fn task_command(&self, args: &[&str]) -> Command {
        let mut command = self.containerd.ctr_command();
        command.arg("tasks").args(args);
        command
    }

    /// `ctr tasks exec` to its end.
    pub fn exec(&self, id: &str, exec_id: &str, args: &[&str]) -> Check<Outcome> {
        self.task(&[&["exec", "--exec-id", exec_id, id], args].concat())
    }

    /// The third column of `ctr tasks ls`, if the task is listed.
    pub fn status(&self, id: &str) -> Check<Option<String>> {
        Ok(self.listed(id)?.map(|row| row[2].clone()))
    }

    /// The init's pid on the host as `ctr tasks ls` shows it.
    pub fn pid(&self, id: &str) -> Check<nix::unistd::Pid> {
        match self.listed(id)? {
            Some(row) => Ok(nix::unistd::Pid::from_raw(row[1].parse()?)),
            None => fail(format!("{id} is not listed")),
        }
    }

    fn listed(&self, id: &str) -> Check<Option<Vec<String>>> {
        let table = self.task(&["ls"])?.ok()?.stdout;
        let rows = table
            .lines()
            .map(|l| l.split_whitespace().map(String::from).collect::<Vec<_>>());
        Ok(rows.into_iter().find(|r| r.len() >= 3 && r[0] == id))
    }

    /// Waits until `ctr tasks ls` shows `status`.
    pub fn await_status(&self, id: &str, status: &str) -> Check {
        let found = eventually(
            status,
            Duration::from_secs(15),
            || matches!(self.status(id), Ok(Some(s)) if s == status),
        );
        found.or_else(|_| fail(format!("{id} is {:?}, not {status}", self.status(id))))
    }

    /// Kills the container, waits for its end and deletes the task.
    pub fn remove(&self, id: &str) -> Check {
        self.task(&["kill", "-s", "SIGKILL", id])?.ok()?;
        self.await_status(id, "STOPPED")?;
        self.delete(id)?;
        Ok(())
    }

    /// Deletes the stopped task; ctr says the exit code only in its log.
    pub fn delete(&self, id: &str) -> Check<Outcome> {
        self.task(&["delete", id])?.ok()
    }

    /// What of the container can still be seen on the host, in words.
    pub fn remains(&self, id: &str) -> Vec<String> {
        let bundle = self.containerd.bundle(id);
        let mut found: Vec<String> = Vec::new();
        let groups = proc::cgroups_named(id);
        let inside = groups
            .iter()
            .flat_map(|g| proc::pids_in(g))
            .map(|p| format!("process {p} {:?}", proc::command_line(p)));
        found.extend(inside);
        found.extend(groups.iter().map(|g| format!("cgroup {}", g.display())));
        found.extend(
            proc::mounts_below(&bundle)
                .iter()
                .map(|m| format!("mount {}", m.display())),
        );
        found.extend(
            proc::state_of(id)
                .iter()
                .map(|s| format!("state {}", s.display())),
        );
        if bundle.exists() {
            found.push(format!("bundle {}", bundle.display()));
        }
        let socket = self.containerd.socket(id);
        // differs from runc: after a crash its socket stays until the id is used again.
        if socket.exists() && !self.is_runc() {
            found.push(format!("socket {}", socket.display()));
        }
        found.extend(
            self.containerd
                .shims_of(id)
                .iter()
                .map(|p| format!("shim {p}")),
        );
        found
    }

    /// Checks that within `limit` nothing of the container is left on the host.
    pub fn nothing_remains(&self, id: &str, limit: Duration) -> Check {
        match eventually("nothing remains", limit, || self.remains(id).is_empty()) {
            Ok(()) => Ok(()),
            Err(_) => fail(format!(
                "after {limit:?} there is still {:?}",
                self.remains(id)
            )),
        }
    }
}

impl World for Scene {
    fn testimony(&self) -> String {
        let ids = self.ids.lock().unwrap_or_else(|e| e.into_inner()).clone();
        self.containerd.testimony(&ids)
    }

    fn complaint(&self) -> Option<String> {
        order_broken(&self.containerd.log())
    }

    fn close(&self) {
        let ids = self.ids.lock().unwrap_or_else(|e| e.into_inner()).clone();
        for id in ids.iter().filter(|id| self.containerd.bundle(id).exists()) {
            let _ = self.task(&["delete", "-f", id]);
        }
    }
}
