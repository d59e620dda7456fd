//! Which cgroup file gets which value for `linux.resources`.
//!
//! Pure: what to write is computed from the resources and the controllers of the cgroup; `apply` acts.
//! Nothing is ignored: a value that cgroup v2 can't express is `Unsupported`, one that only states
//! what the kernel does anyway (no limit, the default weight) needs no controller and may give no write,
//! so that a default spec runs on a host whose controllers are elsewhere.
//!
//! Device rules are no limits: see [`devices`](super::devices).

mod cpu;
mod io;
mod memory;
mod others;

use oci_spec::runtime::LinuxResources;

use super::controllers::Controllers;
use crate::error::{Error, Result};

/// What to write, in order, and what to look at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The writes.
    pub writes: Vec<Write>,
    /// `memory.checkBeforeUpdate`.
    pub above_usage: Option<AboveUsage>,
}

/// Limits that must be above what is in use, or nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboveUsage {
    /// `memory.limit`, in bytes.
    pub memory: Option<u64>,
    /// `memory.swap`: memory and swap together, in bytes.
    pub memory_and_swap: Option<u64>,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file in the cgroup.
    pub file: String,
    /// What it gets.
    pub value: Value,
    /// JSON pointer of the place that asks for it.
    pub pointer: String,
    /// When the kernel has no such file.
    pub absent: Absent,
}

/// What a file gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// This text.
    Text(String),
    /// The first word that it has now, then this text: the period of `cpu.max` alone.
    AfterFirstWord(String),
}

/// What to do when the kernel has no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The limit can't be had.
    Refuse,
    /// What was asked for holds without it.
    Skip,
    /// Write this text to this file.
    Instead(String, String),
}

/// The writes that `resources` ask for in a cgroup with these controllers.
///
/// `InvalidSpec` for values that make no sense, `Unsupported` for those that v2 does not have or whose
/// controller is lacking; both name the place.
pub fn writes(resources: &LinuxResources, controllers: &Controllers) -> Result<Changes> {
    let mut plan = Planning {
        controllers,
        changes: Changes::default(),
    };
    if let Some(pids) = resources.pids() {
        others::pids(&mut plan, pids)?;
    }
    if let Some(memory) = resources.memory() {
        memory::memory(&mut plan, memory)?;
    }
    if let Some(io) = resources.block_io() {
        io::block_io(&mut plan, io)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::cpu(&mut plan, cpu)?;
    }
    if let Some(limits) = resources.hugepage_limits() {
        others::hugepages(&mut plan, limits)?;
    }
    if let Some(devices) = resources.rdma() {
        others::rdma(&mut plan, devices)?;
    }
    if let Some(network) = resources.network() {
        others::network(network)?;
    }
    // Last: what is written by name wins over what was derived.
    if let Some(unified) = resources.unified() {
        others::unified(&mut plan, unified)?;
    }
    whole(&plan.changes.writes)?;
    Ok(plan.changes)
}

/// The kernel reads what is written up to a NUL: the limit would be another one than the spec has.
fn whole(writes: &[Write]) -> Result<()> {
    let cut = writes.iter().find(|write| match &write.value {
        Value::Text(text) | Value::AfterFirstWord(text) => text.contains('\0'),
    });
    match cut {
        Some(write) => Err(Error::spec(write.pointer.clone(), "the value holds a NUL")),
        None => Ok(()),
    }
}

struct Planning<'c> {
    controllers: &'c Controllers,
    changes: Changes,
}

impl Planning<'_> {
    /// Adds a write that needs `controller`.
    fn limit(&mut self, controller: &str, pointer: &str, file: &str, value: String) -> Result<()> {
        self.limit_or(controller, pointer, file, value, Absent::Refuse)
    }

    fn limit_or(
        &mut self,
        controller: &str,
        pointer: &str,
        file: &str,
        value: String,
        absent: Absent,
    ) -> Result<()> {
        if !self.controllers.has(controller) {
            return Err(lacking(pointer, controller, self.controllers));
        }
        self.push(pointer, file, Value::Text(value), absent);
        Ok(())
    }

    /// Adds a write of the kernel's default: nothing to do where there is no controller.
    fn default(&mut self, controller: &str, pointer: &str, file: &str, value: &str) {
        if self.controllers.has(controller) {
            self.push(pointer, file, Value::Text(value.to_owned()), Absent::Skip);
        }
    }

    fn push(&mut self, pointer: &str, file: &str, value: Value, absent: Absent) {
        self.changes.writes.push(Write {
            file: file.to_owned(),
            value,
            pointer: pointer.to_owned(),
            absent,
        });
    }
}

fn lacking(pointer: &str, controller: &str, controllers: &Controllers) -> Error {
    Error::unsupported(
        format!("cgroup controller {controller}"),
        format!(
            "{pointer} needs the cgroup controller {controller}: {}",
            controllers.reason(controller)
        ),
    )
}

/// A setting that cgroup v2 does not have.
fn not_in_v2(pointer: &str, what: &str) -> Error {
    Error::unsupported(what, format!("{pointer}: cgroup v2 has no {what}"))
}

/// One part of a JSON pointer (RFC 6901).
fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
