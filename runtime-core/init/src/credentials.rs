//! Who the program will be: ids, capabilities, session keyring.

use core::ffi::CStr;

use crate::enter::Child;
use crate::procfs;
use crate::raw::{self, Failed, Outcome, PrctlNumber};
use crate::step::CapabilitySets;

/// Drops from the bounding set what is not in `keep`, up to the last capability that the kernel knows.
pub fn bound(keep: u64) -> Outcome<()> {
    for capability in 0..u64::from(u64::BITS) {
        if keep & (1 << capability) != 0 {
            continue;
        }
        let Err(failed) = raw::prctl(PrctlNumber::BoundingDrop, [capability, 0, 0, 0]) else {
            continue;
        };
        // Who may not change the set may have none of it already, and is told so even of what there is not.
        match raw::prctl(PrctlNumber::BoundingRead, [capability, 0, 0, 0]) {
            Ok(0) => {}
            Err(unknown) if unknown.errno == libc::EINVAL && capability > OLDEST_LAST => {
                return Ok(());
            }
            _ => return Err(failed),
        }
    }
    Ok(())
}

/// CAP_CHECKPOINT_RESTORE, of Linux 5.9: every kernel that we run on knows the capabilities up to it.
const OLDEST_LAST: u64 = 40;

/// Groups before ids: without the uid they could not be dropped any more (CVE-2023-25173). The permitted
/// capabilities survive, so that later steps can act; `capabilities` ends that.
pub fn identity(child: &Child<'_>, uid: u32, gid: u32, groups: &[u32]) -> Outcome<()> {
    raw::prctl(PrctlNumber::SetKeepCaps, [1, 0, 0, 0])?;
    match raw::setgroups(groups) {
        Err(failed) if !(groups.is_empty() && setgroups_is_denied(child, failed)) => {
            return Err(failed);
        }
        _ => {}
    }
    raw::setresgid(gid)?;
    raw::setresuid(uid)?;
    hide(child)?;
    raw::prctl(PrctlNumber::SetKeepCaps, [0, 0, 0, 0])?;
    let [_, permitted, inheritable] = raw::capget()?;
    raw::capset([permitted, permitted, inheritable])
}

/// Nobody without CAP_SYS_PTRACE over the host looks into this process, if that was a step.
pub fn hide(child: &Child<'_>) -> Outcome<()> {
    if child.undumpable {
        raw::prctl(PrctlNumber::SetDumpable, [0; 4])?;
    }
    Ok(())
}

/// A user namespace whose maps were written by an unprivileged user has no setgroups; there are no
/// groups to be had in it either. Without a procfs to ask (exec) the capability tells: who holds it
/// and is refused was refused by the namespace.
fn setgroups_is_denied(child: &Child<'_>, failed: Failed) -> bool {
    if failed.errno != libc::EPERM {
        return false;
    }
    let mut word = [0u8; 4];
    match procfs::own(child, c"self/setgroups", libc::O_RDONLY) {
        Ok(file) => raw::read(file.at(), &mut word).is_ok() && &word == b"deny",
        Err(_) => raw::capget().is_ok_and(|[effective, ..]| effective & CAP_SETGID != 0),
    }
}

const CAP_SETGID: u64 = 1 << 6;

/// The sets of the program. Ambient ones last: each must be permitted and inheritable by then.
pub fn capabilities(sets: CapabilitySets) -> Outcome<()> {
    raw::capset([sets.effective, sets.permitted, sets.inheritable])?;
    let clear = u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    raw::prctl(PrctlNumber::Ambient, [clear, 0, 0, 0])?;
    let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    for capability in 0..u64::from(u64::BITS) {
        if sets.ambient & (1 << capability) != 0 {
            raw::prctl(PrctlNumber::Ambient, [raise, capability, 0, 0])?;
        }
    }
    Ok(())
}

/// A session keyring of its own, so that the shim's keys are out of reach, which execs of the same
/// container can join: they may search it. A kernel without keys has nothing to protect.
pub fn session_keyring(child: &Child<'_>, name: &CStr) -> Outcome<()> {
    let ring = match raw::join_session_keyring(name) {
        Err(failed) if failed.errno == libc::ENOSYS => return Ok(()),
        other => other?,
    };
    let mut description = [0u8; 512];
    let len = raw::describe_key(ring, &mut description)?;
    let permissions = description
        .get(..len)
        .and_then(permissions_of)
        .ok_or(Failed::check(libc::EIO))?;
    // In a user namespace the joining process may be another uid.
    let search = if child.foreign_user {
        OTHERS_SEARCH
    } else {
        OWNER_SEARCH
    };
    raw::set_key_permissions(ring, permissions | search)
}

/// `KEY_OTH_SEARCH` and `KEY_USR_SEARCH` of the kernel.
const OTHERS_SEARCH: u32 = 0x0000_0008;
const OWNER_SEARCH: u32 = 0x0008_0000;

/// The fourth field of "type;uid;gid;perm;description", hexadecimal.
fn permissions_of(description: &[u8]) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(3)?;
    field.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((value << 4) | digit)
    })
}
