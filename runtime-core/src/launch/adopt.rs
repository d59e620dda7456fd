//! What the parent writes for a child that was just cloned: id maps, oom_score_adj, raised limits.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{Adoption, IdRange};
use crate::sys;
use crate::sys::procfs;

/// Does all of it. The child is ours and not reaped, so its pid is its own.
pub fn adopt(pid: i32, adoption: &Adoption) -> Result<()> {
    if !adoption.maps.uid.is_empty() || !adoption.maps.gid.is_empty() {
        write_map(pid, "uid_map", &adoption.maps.uid)?;
        write_map(pid, "gid_map", &adoption.maps.gid)?;
    }
    if let Some(score) = adoption.oom_score_adj {
        procfs::write(&format!("{pid}/oom_score_adj"), &score.to_string())
            .with(|| format!("write({score}, /proc/{pid}/oom_score_adj)"))?;
    }
    for (resource, hard) in &adoption.raise {
        raise(pid, *resource, *hard).with(|| format!("raise hard limit {resource} to {hard}"))?;
    }
    Ok(())
}

fn write_map(pid: i32, file: &str, ranges: &[IdRange]) -> Result<()> {
    let lines: Vec<_> = ranges
        .iter()
        .map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count))
        .collect();
    procfs::write(&format!("{pid}/{file}"), &lines.concat()).map_err(|errno| {
        let text = format!(
            "write({:?}, /proc/{pid}/{file}): {}",
            lines.concat(),
            crate::error::errno_text(errno)
        );
        // The kernel refuses maps that overlap, overflow or are too many.
        let kind = match errno {
            nix::errno::Errno::EINVAL => ErrorKind::InvalidSpec {
                pointer: format!("/linux/{}Mappings", &file[..3]),
            },
            other => crate::error::kind_of(other),
        };
        Error::new(kind, text)
    })
}

/// Only the hard limit: the child sets both exactly when it no longer needs what it inherited.
fn raise(pid: i32, resource: u32, hard: u64) -> Result<()> {
    let (soft, present) =
        sys::rlimit_of(pid, resource).with(|| format!("prlimit({pid}, {resource})"))?;
    if present >= hard {
        return Ok(());
    }
    sys::set_rlimit_of(pid, resource, soft, hard)
        .with(|| format!("prlimit({pid}, {resource}, {soft}, {hard})"))
}
