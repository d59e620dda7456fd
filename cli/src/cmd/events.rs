//! `events`: statistics in runc's form, once or again and again.

use std::time::Duration;

use rsrun_core::cgroup::Stats;
use rsrun_core::cgroup::stats::IoEntry;
use rsrun_core::{Error, ErrorKind, Result, Status};
use serde_json::{Value, json};

use super::{container, print};
use crate::args::{Events, Global};

/// `events`
pub fn run(global: &Global, events: &Events) -> Result<()> {
    let interval = duration(&events.interval)?;
    loop {
        let container = container(global, &events.id)?;
        match container.status()? {
            Status::Stopped if events.stats => {
                let kind = ErrorKind::WrongStatus {
                    found: "stopped".into(),
                    allowed: "created or running",
                };
                return Err(Error::new(
                    kind,
                    format!("container with id {} is not running", events.id),
                ));
            }
            Status::Stopped => return Ok(()),
            _ => {}
        }
        let stats = container.stats()?;
        let line = json!({ "type": "stats", "id": events.id, "data": data(&stats) });
        print(&format!("{line}\n"))?;
        if events.stats {
            return Ok(());
        }
        std::thread::sleep(interval);
    }
}

/// runc's document: nanoseconds of CPU, bytes of memory, and the words of version 1 for both.
fn data(stats: &Stats) -> Value {
    let times = &stats.cpu.times;
    let mut data = json!({
        "cpu": {
            "usage": {
                "total": nanoseconds(times.usage_usec),
                "kernel": nanoseconds(times.system_usec),
                "user": nanoseconds(times.user_usec),
            },
            "throttling": {
                "periods": times.nr_periods,
                "throttledPeriods": times.nr_throttled,
                "throttledTime": nanoseconds(times.throttled_usec),
            },
        },
        "memory": {},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
    });
    if let Some(memory) = &stats.memory {
        let failcnt = stats.memory_events.as_ref().map_or(0, |events| events.max);
        data["memory"] = json!({
            "cache": memory.stat.file,
            "usage": {
                "limit": memory.usage_limit, "usage": memory.usage, "max": memory.max_usage, "failcnt": failcnt
            },
            "swap": {
                "limit": memory.swap_limit, "usage": memory.swap_usage, "max": memory.swap_max_usage, "failcnt": 0
            },
        });
    }
    if let Some(pids) = &stats.pids {
        data["pids"] = json!({ "current": pids.current, "limit": pids.limit });
    }
    if let Some(io) = &stats.io {
        data["blkio"] = json!({
            "ioServiceBytesRecursive": entries(&io.usage, |e| [("Read", e.rbytes), ("Write", e.wbytes)]),
            "ioServicedRecursive": entries(&io.usage, |e| [("Read", e.rios), ("Write", e.wios)]),
        });
    }
    for huge in &stats.hugetlb {
        data["hugetlb"][&huge.pagesize] =
            json!({ "usage": huge.current, "max": huge.max, "failcnt": huge.failcnt });
    }
    data
}

fn entries(usage: &[IoEntry], values: impl Fn(&IoEntry) -> [(&'static str, u64); 2]) -> Vec<Value> {
    let of = |entry: &IoEntry| {
        values(entry).map(|(op, value)| json!({ "major": entry.major, "minor": entry.minor, "op": op, "value": value }))
    };
    usage.iter().flat_map(of).collect()
}

fn nanoseconds(microseconds: u64) -> u64 {
    microseconds.saturating_mul(1000)
}

/// Go's notation with one unit: `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::invalid(format!(
            "--interval {text:?}: a number with ms, s, m or h is needed"
        ))
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}
