//! How a seccomp profile of the spec becomes a classic BPF program.
//!
//! libseccomp compiles; in front stands a stub that answers ENOSYS for system calls newer than the
//! profile (`enosys`). Where the specification is silent the result is runc's.

use std::io::{Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use rsrun_init::step::FilterLine;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{Listener, SeccompProgram};
use crate::sys;

pub use cache::Cache;

mod cache;
mod enosys;
#[cfg(test)]
mod tests;

const PLACE: &str = "/linux/seccomp";

const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

const EPERM: u32 = 1;

/// BPF_MAXINSNS, of which the kernel says no more than EINVAL.
const LONGEST: usize = 4096;

/// Compiles the profile, or takes the program that was kept for an equal one.
pub fn compile(profile: &LinuxSeccomp, cache: Option<&Cache>) -> Result<SeccompProgram> {
    let listener = listener_of(profile)?;
    let lines = match cache {
        Some(cache) => cache.lines(profile, || assemble(profile))?,
        None => assemble(profile)?,
    };
    Ok(SeccompProgram {
        lines,
        flags: flags_of(profile, listener.is_some()),
        listener,
    })
}

/// Names of system calls that libseccomp does not know are passed over: a profile serves many
/// architectures and versions.
fn assemble(profile: &LinuxSeccomp) -> Result<Vec<FilterLine>> {
    let default = default_action(profile)?;
    let mut filter = ScmpFilterContext::new(default).map_err(|e| failed(PLACE, &e))?;
    add_architectures(&mut filter, profile)?;
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        add_rule(
            &mut filter,
            rule,
            default,
            &format!("{PLACE}/syscalls/{index}"),
        )?;
    }
    let mut lines = enosys::stub(profile);
    lines.extend(exported(&filter)?);
    if lines.len() > LONGEST {
        return Err(Error::spec(
            PLACE,
            format!(
                "the profile compiles to {} instructions, the kernel takes {LONGEST}",
                lines.len()
            ),
        ));
    }
    Ok(lines)
}

fn default_action(profile: &LinuxSeccomp) -> Result<ScmpAction> {
    let place = format!("{PLACE}/defaultAction");
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::spec(
            place,
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    let errno_place = format!("{PLACE}/defaultErrnoRet");
    action(
        profile.default_action(),
        profile.default_errno_ret(),
        &errno_place,
    )
}

/// `errno` only goes with the two actions that return one; the specification wants an error else.
fn action(kind: LinuxSeccompAction, errno: Option<u32>, place: &str) -> Result<ScmpAction> {
    let returns_errno = matches!(
        kind,
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
    );
    if errno.is_some() && !returns_errno {
        return Err(Error::spec(place, format!("{kind} returns no errno")));
    }
    let errno = errno.unwrap_or(EPERM);
    Ok(match kind {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        // MAX_ERRNO: the kernel would cut a larger one to it.
        LinuxSeccompAction::ScmpActErrno => match i32::try_from(errno) {
            Ok(number) if number <= 4095 => ScmpAction::Errno(number),
            _ => return Err(Error::spec(place, format!("{errno} is no errno"))),
        },
        LinuxSeccompAction::ScmpActTrace => match u16::try_from(errno) {
            Ok(number) => ScmpAction::Trace(number),
            Err(_) => return Err(Error::spec(place, format!("{errno} does not fit 16 bits"))),
        },
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    })
}

fn add_architectures(filter: &mut ScmpFilterContext, profile: &LinuxSeccomp) -> Result<()> {
    let given = profile.architectures().as_deref().unwrap_or_default();
    for (index, architecture) in given.iter().enumerate() {
        let place = format!("{PLACE}/architectures/{index}");
        filter
            .add_arch(architecture_of(*architecture))
            .map_err(|e| failed(&format!("{place}: {architecture}"), &e))?;
    }
    Ok(())
}

fn architecture_of(architecture: Arch) -> ScmpArch {
    match architecture {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
    place: &str,
) -> Result<()> {
    let action = action(
        rule.action(),
        rule.errno_ret(),
        &format!("{place}/errnoRet"),
    )?;
    if rule.names().is_empty() {
        return Err(Error::spec(format!("{place}/names"), "there is no name"));
    }
    let alternatives = alternatives(rule.args().as_deref().unwrap_or_default(), place)?;
    // libseccomp refuses a rule that says what holds anyway.
    if action == default {
        return Ok(());
    }
    for name in rule.names() {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let failed = |e| failed(&format!("{place}: {name}"), &e);
        if alternatives.is_empty() {
            filter.add_rule(action, call).map_err(failed)?;
        }
        for conditions in &alternatives {
            filter
                .add_rule_conditional(action, call, conditions)
                .map_err(failed)?;
        }
    }
    Ok(())
}

/// The conditions of a rule: all of them at once; but where two are about the same argument, any of
/// them (no filter could ask both of one comparison, and profiles rely on what runc makes of it).
fn alternatives(args: &[LinuxSeccompArg], place: &str) -> Result<Vec<Vec<ScmpArgCompare>>> {
    let mut conditions = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        conditions.push(condition(arg, &format!("{place}/args/{index}"))?);
    }
    let is_repeated =
        |(at, arg): (usize, &LinuxSeccompArg)| args[..at].iter().any(|a| a.index() == arg.index());
    Ok(if args.iter().enumerate().any(is_repeated) {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else if conditions.is_empty() {
        Vec::new()
    } else {
        vec![conditions]
    })
}

fn condition(arg: &LinuxSeccompArg, place: &str) -> Result<ScmpArgCompare> {
    let index = match u32::try_from(arg.index()) {
        Ok(index) if index <= 5 => index,
        _ => {
            return Err(Error::spec(
                format!("{place}/index"),
                format!("a system call has no argument {}", arg.index()),
            ));
        }
    };
    let operator = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let operator = ScmpCompareOp::MaskedEqual(arg.value());
            return Ok(ScmpArgCompare::new(
                index,
                operator,
                arg.value_two().unwrap_or(0),
            ));
        }
    };
    Ok(ScmpArgCompare::new(index, operator, arg.value()))
}

fn listener_of(profile: &LinuxSeccomp) -> Result<Option<Listener>> {
    let path = profile
        .listener_path()
        .clone()
        .filter(|p| !p.as_os_str().is_empty());
    let metadata = profile
        .listener_metadata()
        .clone()
        .filter(|m| !m.is_empty());
    if path.is_none() && metadata.is_some() {
        return Err(Error::spec(
            format!("{PLACE}/listenerMetadata"),
            "there is no listenerPath that it could be sent to",
        ));
    }
    let notifies = |rule: &LinuxSyscall| rule.action() == LinuxSeccompAction::ScmpActNotify;
    let any = profile.syscalls().iter().flatten().any(notifies);
    Ok(any.then_some(Listener { path, metadata }))
}

/// Flags of seccomp(2). TSYNC has nothing to do: the process has one thread.
fn flags_of(profile: &LinuxSeccomp, has_listener: bool) -> u32 {
    let Some(given) = profile.flags() else {
        // As runc: without a word on flags the mitigation that costs most is not switched on.
        return FLAG_SPEC_ALLOW;
    };
    given.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                // Without a listener there is nobody to wait for, and the kernel refuses the flag.
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if has_listener => {
                    FLAG_WAIT_KILLABLE_RECV
                }
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            }
    })
}

/// libseccomp 2.5 writes programs to descriptors only.
fn exported(filter: &ScmpFilterContext) -> Result<Vec<FilterLine>> {
    let file = sys::fds::memfd(c"seccomp").with(|| "memfd_create(\"seccomp\")")?;
    filter.export_bpf(&file).map_err(|e| failed(PLACE, &e))?;
    let mut file = std::fs::File::from(file);
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|cause| Error::new(ErrorKind::Internal, "read the filter").caused_by(cause))?;
    from_bytes(&bytes)
}

/// `struct sock_filter` as it lies in memory on this machine.
fn from_bytes(bytes: &[u8]) -> Result<Vec<FilterLine>> {
    let line = |line: &[u8; 8]| FilterLine {
        code: u16::from_ne_bytes([line[0], line[1]]),
        jt: line[2],
        jf: line[3],
        k: u32::from_ne_bytes([line[4], line[5], line[6], line[7]]),
    };
    let (lines, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("a filter of {} bytes is not whole", bytes.len()),
        ));
    }
    Ok(lines.iter().map(line).collect())
}

fn to_bytes(lines: &[FilterLine]) -> Vec<u8> {
    let line = |line: &FilterLine| {
        let [c0, c1] = line.code.to_ne_bytes();
        let [k0, k1, k2, k3] = line.k.to_ne_bytes();
        [c0, c1, line.jt, line.jf, k0, k1, k2, k3]
    };
    lines.iter().flat_map(line).collect()
}

fn failed(what: &str, error: &libseccomp::error::SeccompError) -> Error {
    Error::spec(PLACE, format!("{what}: libseccomp: {error}"))
}
