//! What the files of statistics say. Pure.
//!
//! Keys that are not known are left out, fields whose key is lacking stay 0: kernels differ in both.

use super::super::events::counters;
use super::UNLIMITED;

/// Declares a struct of counters and how its keys are found.
macro_rules! counter_struct {
    ($(#[$doc:meta])* $name:ident from $file:literal { $($field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($field), "` of `", $file, "`")] pub $field: u64,)+
        }

        impl $name {
            fn set(&mut self, key: &str, value: u64) {
                match key {
                    $(stringify!($field) => self.$field = value,)+
                    _ => {}
                }
            }
        }
    };
}

counter_struct! {
    /// Time and bandwidth.
    CpuTimes from "cpu.stat" {
        usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts,
        burst_usec,
    }
}

counter_struct! {
    /// Where the memory is (bytes) and what was done to it (counts).
    MemoryStat from "memory.stat" {
        anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback,
        anon_thp, inactive_anon, active_anon, inactive_file, active_file, unevictable,
        slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault, workingset_refault,
        workingset_activate, workingset_nodereclaim, pgrefill, pgscan, pgsteal, pgactivate,
        pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc,
        workingset_refault_anon, workingset_refault_file, workingset_activate_anon,
        workingset_activate_file,
    }
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Psi {
    /// At least one task waited.
    pub some: Option<Pressure>,
    /// All of them did.
    pub full: Option<Pressure>,
}

/// One line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last 60 s.
    pub avg60: f64,
    /// Percent of the last 300 s.
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// One block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
}

/// One RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// HCA handles; `u32::MAX` for no limit.
    pub hca_handles: u32,
    /// HCA objects; `u32::MAX` for no limit.
    pub hca_objects: u32,
}

impl MemoryStat {
    pub(super) fn parse(content: &str) -> Self {
        let mut stat = Self::default();
        for (key, value) in counters(content) {
            stat.set(key, value);
        }
        // Split by sort of page since Linux 5.9; the sum is what it was before.
        if stat.workingset_refault == 0 {
            stat.workingset_refault = stat.workingset_refault_anon + stat.workingset_refault_file;
        }
        if stat.workingset_activate == 0 {
            stat.workingset_activate =
                stat.workingset_activate_anon + stat.workingset_activate_file;
        }
        stat
    }
}

pub(super) fn cpu(content: &str) -> CpuTimes {
    let mut times = CpuTimes::default();
    for (key, value) in counters(content) {
        times.set(key, value);
    }
    times
}

/// A file of one number, or "max".
pub(super) fn number(content: &str) -> u64 {
    content.trim().parse().unwrap_or(UNLIMITED)
}

pub(super) fn psi(content: &str) -> Psi {
    let mut psi = Psi::default();
    for line in content.lines() {
        let mut words = line.split(' ');
        let slot = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        let mut pressure = Pressure::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => pressure.avg10 = value.parse().unwrap_or_default(),
                "avg60" => pressure.avg60 = value.parse().unwrap_or_default(),
                "avg300" => pressure.avg300 = value.parse().unwrap_or_default(),
                "total" => pressure.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        *slot = Some(pressure);
    }
    psi
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`. Several devices may share a
/// line of which only the last has counters (`253:2 253:1 253:0 rbytes=…`, seen on 5.x).
pub(super) fn io(content: &str) -> Vec<IoEntry> {
    content.lines().filter_map(io_line).collect()
}

fn io_line(line: &str) -> Option<IoEntry> {
    let mut entry = None;
    for word in line.split_whitespace() {
        if let Some((key, value)) = word.split_once('=') {
            let entry: &mut IoEntry = entry.as_mut()?;
            let value = value.parse().unwrap_or_default();
            match key {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        } else if let Some((major, minor)) = word.split_once(':') {
            entry = Some(IoEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                ..IoEntry::default()
            });
        }
    }
    entry
}

/// `max N` of a `hugetlb.SIZE.events`.
pub(super) fn max_event(content: &str) -> u64 {
    counters(content)
        .find(|(key, _)| *key == "max")
        .map_or(0, |(_, value)| value)
}

/// Lines such as `mlx4_0 hca_handle=2 hca_object=max`.
pub(super) fn rdma(content: &str) -> Vec<RdmaEntry> {
    content
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let mut entry = RdmaEntry {
                device: words.next()?.to_owned(),
                ..RdmaEntry::default()
            };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = value.parse().unwrap_or(u32::MAX);
                match key {
                    "hca_handle" => entry.hca_handles = value,
                    "hca_object" => entry.hca_objects = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

/// `hugepages-2048kB` of sysfs to `2MB` of cgroup files.
pub(super) fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stat_gives_every_key_and_sums_what_was_split() {
        let stat = MemoryStat::parse(
            "anon 4096\nfile 8192\nkernel 77\nthp_collapse_alloc 3\nworkingset_refault_anon 2\n\
             workingset_refault_file 5\n",
        );
        assert_eq!(
            (stat.anon, stat.file, stat.thp_collapse_alloc),
            (4096, 8192, 3)
        );
        assert_eq!(stat.workingset_refault, 7);
        assert_eq!(stat.pgfault, 0);
    }

    #[test]
    fn pressure_may_lack_its_second_line() {
        let psi = psi("some avg10=1.50 avg60=0.00 avg300=0.25 total=123\n\
             full avg10=0.00 avg60=0.00 avg300=0.00 total=45\n");
        let some = psi.some.expect("some");
        assert!((some.avg10 - 1.5).abs() < 1e-9 && (some.avg300 - 0.25).abs() < 1e-9);
        assert_eq!((some.total, psi.full.expect("full").total), (123, 45));
        let one = super::psi("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
        assert_eq!(one.full, None);
    }

    #[test]
    fn io_stat_survives_lines_without_counters() {
        let entries =
            io("253:2 253:1 253:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0\nx\n");
        assert_eq!(
            entries[0],
            IoEntry {
                major: 253,
                minor: 0,
                rbytes: 1,
                wbytes: 2,
                rios: 3,
                wios: 4
            }
        );
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn max_is_the_longest_number() {
        assert_eq!(number("max\n"), u64::MAX);
        assert_eq!(number("17\n"), 17);
    }

    #[test]
    fn page_sizes_are_named_as_in_cgroup_files() {
        assert_eq!(page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(page_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(page_size("other"), None);
    }

    #[test]
    fn rdma_limits_may_be_max() {
        let entries = rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!(
            (entries[0].hca_handles, entries[0].hca_objects),
            (2, u32::MAX)
        );
    }
}
