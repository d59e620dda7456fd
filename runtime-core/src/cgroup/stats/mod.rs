//! What a cgroup and all below it used.
//!
//! Plain values with the fields of `io.containerd.cgroups.v2.Metrics`, so that an edge copies them one
//! to one. What the kernel does not have, for lack of the controller or of age, is absent. It is read
//! often: one buffer, and a handful of system calls for each file.

mod parse;

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use super::Cgroup;
use super::events::{MemoryCounts, gone};
use super::file::Buffer;
use crate::error::Result;

pub use parse::{CpuTimes, IoEntry, MemoryStat, Pressure, Psi, RdmaEntry};

/// A limit that is not set ("max").
pub const UNLIMITED: u64 = u64::MAX;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Controller pids.
    pub pids: Option<Pids>,
    /// Present without the controller too.
    pub cpu: Cpu,
    /// Controller memory.
    pub memory: Option<Memory>,
    /// `memory.events`.
    pub memory_events: Option<MemoryCounts>,
    /// Controller io.
    pub io: Option<Io>,
    /// Controller hugetlb, one for each page size of the host.
    pub hugetlb: Vec<Hugetlb>,
    /// Controller rdma.
    pub rdma: Option<Rdma>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; [`UNLIMITED`].
    pub limit: u64,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// `cpu.stat`.
    pub times: CpuTimes,
    /// `cpu.pressure`.
    pub psi: Option<Psi>,
}

/// Bytes of memory and swap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// In use now.
    pub usage: u64,
    /// The limit; [`UNLIMITED`].
    pub usage_limit: u64,
    /// The most that was in use; 0 before Linux 5.19.
    pub max_usage: u64,
    /// Swap in use now.
    pub swap_usage: u64,
    /// The limit of swap alone; [`UNLIMITED`], 0 without swap accounting.
    pub swap_limit: u64,
    /// The most swap that was in use; 0 before Linux 6.5.
    pub swap_max_usage: u64,
    /// `memory.pressure`.
    pub psi: Option<Psi>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Io {
    /// `io.stat`.
    pub usage: Vec<IoEntry>,
    /// `io.pressure`.
    pub psi: Option<Psi>,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hugetlb {
    /// Such as `2MB`.
    pub pagesize: String,
    /// Bytes in use.
    pub current: u64,
    /// The limit in bytes; [`UNLIMITED`].
    pub max: u64,
    /// Times that the limit was hit.
    pub failcnt: u64,
}

/// RDMA devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rdma {
    /// In use.
    pub current: Vec<RdmaEntry>,
    /// Limits; `u32::MAX` for none.
    pub limit: Vec<RdmaEntry>,
}

impl Cgroup {
    /// Reads all of it. `NotFound` when the cgroup is gone.
    pub fn stats(&self) -> Result<Stats> {
        let mut files = Files {
            dir: self.dir(),
            buffer: Buffer::default(),
        };
        let times = files.parsed("cpu.stat", parse::cpu)?.ok_or_else(gone)?;
        Ok(Stats {
            cpu: Cpu {
                times,
                psi: files.parsed("cpu.pressure", parse::psi)?,
            },
            pids: files.pids()?,
            memory: files.memory()?,
            memory_events: files.parsed("memory.events", MemoryCounts::parse)?,
            io: files.io()?,
            hugetlb: if self.controllers().has("hugetlb") {
                files.hugetlb()?
            } else {
                Vec::new()
            },
            rdma: files.rdma()?,
        })
    }

    /// The counters of `memory.events`: for the last look at an init's exit. `None` without the
    /// memory controller, or when the cgroup is gone.
    pub fn memory_counts(&self) -> Result<Option<MemoryCounts>> {
        let mut buffer = Buffer::default();
        Ok(buffer
            .read(self.dir(), "memory.events")?
            .map(MemoryCounts::parse))
    }
}

struct Files<'d> {
    dir: BorrowedFd<'d>,
    buffer: Buffer,
}

impl Files<'_> {
    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> T) -> Result<Option<T>> {
        Ok(self.buffer.read(self.dir, name)?.map(parse))
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        self.parsed(name, parse::number)
    }

    fn pids(&mut self) -> Result<Option<Pids>> {
        let Some(current) = self.number("pids.current")? else {
            return Ok(None);
        };
        let limit = self.number("pids.max")?.unwrap_or(UNLIMITED);
        Ok(Some(Pids { current, limit }))
    }

    fn memory(&mut self) -> Result<Option<Memory>> {
        let Some(usage) = self.number("memory.current")? else {
            return Ok(None);
        };
        let swap_usage = self.number("memory.swap.current")?;
        let (swap_limit, swap_max_usage) = match swap_usage {
            Some(_) => (
                self.number("memory.swap.max")?.unwrap_or(UNLIMITED),
                self.number("memory.swap.peak")?.unwrap_or(0),
            ),
            None => (0, 0),
        };
        Ok(Some(Memory {
            stat: self
                .parsed("memory.stat", MemoryStat::parse)?
                .unwrap_or_default(),
            usage,
            usage_limit: self.number("memory.max")?.unwrap_or(UNLIMITED),
            max_usage: self.number("memory.peak")?.unwrap_or(0),
            swap_usage: swap_usage.unwrap_or(0),
            swap_limit,
            swap_max_usage,
            psi: self.parsed("memory.pressure", parse::psi)?,
        }))
    }

    fn io(&mut self) -> Result<Option<Io>> {
        let Some(usage) = self.parsed("io.stat", parse::io)? else {
            return Ok(None);
        };
        let psi = self.parsed("io.pressure", parse::psi)?;
        Ok(Some(Io { usage, psi }))
    }

    fn hugetlb(&mut self) -> Result<Vec<Hugetlb>> {
        let mut all = Vec::new();
        for size in page_sizes() {
            let file = |what: &str| format!("hugetlb.{size}.{what}");
            let Some(current) = self.number(&file("current"))? else {
                continue;
            };
            all.push(Hugetlb {
                pagesize: size.clone(),
                current,
                max: self.number(&file("max"))?.unwrap_or(UNLIMITED),
                failcnt: self.parsed(&file("events"), parse::max_event)?.unwrap_or(0),
            });
        }
        Ok(all)
    }

    fn rdma(&mut self) -> Result<Option<Rdma>> {
        let Some(current) = self.parsed("rdma.current", parse::rdma)? else {
            return Ok(None);
        };
        let limit = self.parsed("rdma.max", parse::rdma)?.unwrap_or_default();
        Ok(Some(Rdma { current, limit }))
    }
}

/// Sizes of huge pages that this kernel has, as cgroup files name them. They don't change while it runs.
#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file of the host's kernel"
)]
fn page_sizes() -> &'static [String] {
    static SIZES: OnceLock<Vec<String>> = OnceLock::new();
    SIZES.get_or_init(|| {
        let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
            return Vec::new();
        };
        let mut sizes: Vec<_> = entries
            .filter_map(|entry| parse::page_size(entry.ok()?.file_name().to_str()?))
            .collect();
        sizes.sort();
        sizes
    })
}
