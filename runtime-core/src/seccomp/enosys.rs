//! The stub in front of a profile that says ENOSYS for system calls newer than the profile.
//!
//! A profile that denies by default says EPERM for calls that its author had not heard of; C
//! libraries then don't fall back to the older call. runc solves that with a stub in front, and
//! images rely on it. A call counts as newer when its number is above all that the profile names.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use rsrun_init::step::FilterLine;

use super::architecture_of;

const ENOSYS: u32 = 38;
/// `SECCOMP_RET_ERRNO | ENOSYS`
const RET_ENOSYS: u32 = 0x0005_0000 | ENOSYS;
const X32_BIT: u32 = 0x4000_0000;
const AUDIT_X86_64: u32 = 0xC000_003E;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | … | BPF_K`, `BPF_RET | BPF_K`
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The highest number named for each ABI of one `AUDIT_ARCH_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Highest {
    plain: Option<u32>,
    x32: Option<u32>,
}

/// The lines of the stub; empty where the profile allows what it does not name, or says ENOSYS
/// itself.
pub(super) fn stub(profile: &LinuxSeccomp) -> Vec<FilterLine> {
    // A tracer is expected to answer for calls that it does not know.
    let permissive = matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            | LinuxSeccompAction::ScmpActTrace
    );
    if permissive || profile.default_errno_ret() == Some(ENOSYS) {
        return Vec::new();
    }
    assemble(&highest_of(profile))
}

fn highest_of(profile: &LinuxSeccomp) -> Vec<(u32, Highest)> {
    let mut found: Vec<(u32, Highest)> = Vec::new();
    for architecture in profile.architectures().iter().flatten() {
        let architecture = match architecture_of(*architecture) {
            ScmpArch::Native => ScmpArch::native(),
            other => other,
        };
        let Some(audit) = audit_of(architecture) else {
            continue;
        };
        let Some(highest) = highest_number(profile, architecture) else {
            continue;
        };
        let at = found.iter().position(|(known, _)| *known == audit);
        let at = at.unwrap_or_else(|| {
            found.push((audit, Highest::default()));
            found.len() - 1
        });
        if let Some((_, entry)) = found.get_mut(at) {
            match architecture {
                ScmpArch::X32 => entry.x32 = Some(highest),
                _ => entry.plain = Some(highest),
            }
        }
    }
    found
}

fn highest_number(profile: &LinuxSeccomp, architecture: ScmpArch) -> Option<u32> {
    let names = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.names());
    names
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, architecture).ok())
        // Negative ones stand for calls that this architecture does not have.
        .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
        .filter(|number| *number > 0)
        .max()
}

/// Every section jumps over itself for other architectures, and over what follows for its own.
fn assemble(sections: &[(u32, Highest)]) -> Vec<FilterLine> {
    if sections.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<FilterLine> = Vec::new();
    for (audit, highest) in sections.iter().rev() {
        let behind = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let body = section(*highest, behind);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        let head = line(JUMP_EQUAL, 0, skip, *audit);
        lines.splice(0..0, std::iter::once(head).chain(body));
    }
    lines.insert(0, line(LOAD, 0, 0, ARCHITECTURE));
    lines
}

/// Loads the number, returns ENOSYS if it is too high, else jumps over the `behind` lines.
fn section(highest: Highest, behind: u32) -> Vec<FilterLine> {
    let load = line(LOAD, 0, 0, NUMBER);
    let enosys = line(RETURN, 0, 0, RET_ENOSYS);
    let leave = line(JUMP, 0, 0, behind);
    match (highest.plain, highest.x32) {
        (Some(plain), Some(x32)) => vec![
            load,
            line(JUMP_NOT_LESS, 1, 0, X32_BIT),
            line(JUMP_GREATER, 1, 2, plain),
            line(JUMP_GREATER, 0, 1, x32),
            enosys,
            leave,
        ],
        (Some(only), None) | (None, Some(only)) => {
            vec![load, line(JUMP_GREATER, 0, 1, only), enosys, leave]
        }
        (None, None) => vec![leave],
    }
}

fn line(code: u16, jt: u8, jf: u8, k: u32) -> FilterLine {
    FilterLine { code, jt, jf, k }
}

/// `AUDIT_ARCH_*` of an architecture, of which x32 has none of its own.
fn audit_of(architecture: ScmpArch) -> Option<u32> {
    Some(match architecture {
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::X8664 | ScmpArch::X32 => AUDIT_X86_64,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xC000_00B7,
        ScmpArch::Loongarch64 => 0xC000_0102,
        ScmpArch::M68k => 0x0000_0004,
        ScmpArch::Mips => 0x0000_0008,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xA000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xC000_0008,
        ScmpArch::Mipsel64N32 => 0xE000_0008,
        ScmpArch::Ppc => 0x0000_0014,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xC000_0015,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Parisc => 0x0000_000F,
        ScmpArch::Parisc64 => 0x8000_000F,
        ScmpArch::Riscv64 => 0xC000_00F3,
        ScmpArch::Sheb => 0x0000_002A,
        ScmpArch::Sh => 0x4000_002A,
        _ => return None,
    })
}
