//! Counters of a cgroup → `io.containerd.cgroups.v2.Metrics`.

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use rsrun_core::cgroup::stats::{self, Pressure, Psi, Stats};

/// The counters as containerd's clients expect them. What the kernel does not count is left out.
pub fn metrics(stats: &Stats) -> Any {
    let message = Metrics {
        pids: stats
            .pids
            .map(|pids| PidsStat {
                current: pids.current,
                limit: pids.limit,
                ..PidsStat::default()
            })
            .into(),
        cpu: MessageField::some(cpu(&stats.cpu)),
        memory: stats.memory.as_ref().map(memory).into(),
        rdma: stats.rdma.as_ref().map(rdma).into(),
        io: stats.io.as_ref().map(io).into(),
        hugetlb: stats.hugetlb.iter().map(hugetlb).collect(),
        memory_events: stats
            .memory_events
            .map(|counts| MemoryEvents {
                low: counts.low,
                high: counts.high,
                max: counts.max,
                oom: counts.oom,
                oom_kill: counts.oom_kill,
                oom_group_kill: counts.oom_group_kill,
                ..MemoryEvents::default()
            })
            .into(),
        ..Metrics::default()
    };
    Any {
        type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
        value: super::bytes(&message),
        ..Any::default()
    }
}

fn cpu(cpu: &stats::Cpu) -> CPUStat {
    CPUStat {
        usage_usec: cpu.times.usage_usec,
        user_usec: cpu.times.user_usec,
        system_usec: cpu.times.system_usec,
        nr_periods: cpu.times.nr_periods,
        nr_throttled: cpu.times.nr_throttled,
        throttled_usec: cpu.times.throttled_usec,
        nr_bursts: cpu.times.nr_bursts,
        burst_usec: cpu.times.burst_usec,
        psi: psi(cpu.psi.as_ref()),
        ..CPUStat::default()
    }
}

fn memory(memory: &stats::Memory) -> MemoryStat {
    let stat = &memory.stat;
    let mut message = MemoryStat {
        anon: stat.anon,
        file: stat.file,
        kernel_stack: stat.kernel_stack,
        slab: stat.slab,
        sock: stat.sock,
        shmem: stat.shmem,
        file_mapped: stat.file_mapped,
        file_dirty: stat.file_dirty,
        file_writeback: stat.file_writeback,
        anon_thp: stat.anon_thp,
        inactive_anon: stat.inactive_anon,
        active_anon: stat.active_anon,
        inactive_file: stat.inactive_file,
        active_file: stat.active_file,
        unevictable: stat.unevictable,
        slab_reclaimable: stat.slab_reclaimable,
        slab_unreclaimable: stat.slab_unreclaimable,
        pgfault: stat.pgfault,
        pgmajfault: stat.pgmajfault,
        // Since 5.9 the kernel counts these two by kind only; the sums are what the old fields meant.
        workingset_refault: stat.workingset_refault.max(
            stat.workingset_refault_anon
                .saturating_add(stat.workingset_refault_file),
        ),
        workingset_activate: stat.workingset_activate.max(
            stat.workingset_activate_anon
                .saturating_add(stat.workingset_activate_file),
        ),
        workingset_nodereclaim: stat.workingset_nodereclaim,
        pgrefill: stat.pgrefill,
        pgscan: stat.pgscan,
        pgsteal: stat.pgsteal,
        pgactivate: stat.pgactivate,
        pgdeactivate: stat.pgdeactivate,
        pglazyfree: stat.pglazyfree,
        pglazyfreed: stat.pglazyfreed,
        thp_fault_alloc: stat.thp_fault_alloc,
        thp_collapse_alloc: stat.thp_collapse_alloc,
        usage: memory.usage,
        usage_limit: memory.usage_limit,
        max_usage: memory.max_usage,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        swap_max_usage: memory.swap_max_usage,
        psi: psi(memory.psi.as_ref()),
        ..MemoryStat::default()
    };
    // Fields that containerd-shim-protos 0.12 lacks.
    let newer = message.special_fields.mut_unknown_fields();
    newer.add_varint(39, stat.workingset_refault_anon);
    newer.add_varint(40, stat.workingset_refault_file);
    newer.add_varint(41, stat.workingset_activate_anon);
    newer.add_varint(42, stat.workingset_activate_file);
    message
}

fn io(io: &stats::Io) -> IOStat {
    let entry = |entry: &stats::IoEntry| IOEntry {
        major: entry.major,
        minor: entry.minor,
        rbytes: entry.rbytes,
        wbytes: entry.wbytes,
        rios: entry.rios,
        wios: entry.wios,
        ..IOEntry::default()
    };
    IOStat {
        usage: io.usage.iter().map(entry).collect(),
        psi: psi(io.psi.as_ref()),
        ..IOStat::default()
    }
}

fn hugetlb(pages: &stats::Hugetlb) -> HugeTlbStat {
    HugeTlbStat {
        current: pages.current,
        max: pages.max,
        pagesize: pages.pagesize.clone(),
        failcnt: pages.failcnt,
        ..HugeTlbStat::default()
    }
}

fn rdma(rdma: &stats::Rdma) -> RdmaStat {
    let entry = |entry: &stats::RdmaEntry| RdmaEntry {
        device: entry.device.clone(),
        hca_handles: entry.hca_handles,
        hca_objects: entry.hca_objects,
        ..RdmaEntry::default()
    };
    RdmaStat {
        current: rdma.current.iter().map(entry).collect(),
        limit: rdma.limit.iter().map(entry).collect(),
        ..RdmaStat::default()
    }
}

fn psi(psi: Option<&Psi>) -> MessageField<PSIStats> {
    let pressure = |pressure: Option<Pressure>| {
        pressure
            .map(|p| PSIData {
                avg10: p.avg10,
                avg60: p.avg60,
                avg300: p.avg300,
                total: p.total,
                ..PSIData::default()
            })
            .into()
    };
    psi.map(|psi| PSIStats {
        some: pressure(psi.some),
        full: pressure(psi.full),
        ..PSIStats::default()
    })
    .into()
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;

    #[test]
    fn fields_that_the_generated_message_lacks_reach_the_reader_beside_the_others() {
        let mut memory = stats::Memory {
            usage: 5,
            ..stats::Memory::default()
        };
        memory.stat.workingset_refault_anon = 7;
        let any = metrics(&Stats {
            memory: Some(memory),
            ..Stats::default()
        });
        let read = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(read.memory.usage, 5);
        assert_eq!(read.memory.workingset_refault, 7);
        let unknown = read.memory.special_fields.unknown_fields().get(39);
        assert_eq!(unknown, Some(protobuf::UnknownValueRef::Varint(7)));
    }
}
