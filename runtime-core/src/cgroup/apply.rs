//! In which order limits are written, and what happens when the kernel refuses one.

use nix::errno::Errno;

use super::Cgroup;
use super::file::{self, Buffer};
use super::resources::{AboveUsage, Absent, Changes, Value, Write};
use crate::error::{Error, ErrorKind, Result, errno_text};

const MEMORY: &str = "memory.max";
const SWAP: &str = "memory.swap.max";

impl Cgroup {
    /// Writes the limits of a container that is being created. What the kernel refuses is an error with
    /// file, value and place.
    pub fn apply(&self, changes: &Changes) -> Result<()> {
        let mut buffer = Buffer::default();
        self.write_all(&changes.writes, &mut buffer, &mut Vec::new())
    }

    /// Changes the limits of a container: all of them, or after a refusal none (those that were
    /// written already get their old values back).
    pub fn update(&self, changes: &Changes) -> Result<()> {
        let mut buffer = Buffer::default();
        if let Some(limits) = &changes.above_usage {
            self.refuse_below_usage(*limits, &mut buffer)?;
        }
        let writes = self.swap_at_the_right_time(&changes.writes, &mut buffer)?;
        let mut old = Vec::new();
        for write in &writes {
            let instead = match &write.absent {
                Absent::Instead(file, _) => Some(file),
                Absent::Refuse | Absent::Skip => None,
            };
            for file in std::iter::once(&write.file).chain(instead) {
                if let Some(value) = present(&mut buffer, self, file)? {
                    old.push((file.clone(), value));
                }
            }
        }
        let mut written = Vec::new();
        let result = self.write_all(&writes, &mut buffer, &mut written);
        if result.is_err() {
            self.restore(&old, &written);
        }
        result
    }

    /// Writes in order. One that the kernel finds invalid beside another that comes later (a burst above
    /// the old quota) is tried again after all others.
    fn write_all(
        &self,
        writes: &[Write],
        buffer: &mut Buffer,
        written: &mut Vec<Written>,
    ) -> Result<()> {
        let mut again = Vec::new();
        for write in writes {
            match self.write_one(write, buffer) {
                Ok(file) => written.extend(file),
                Err(Refusal {
                    errno: Errno::EINVAL,
                    ..
                }) if write.file.starts_with("cpu.max") => {
                    again.push(write);
                }
                Err(refusal) => return Err(refusal.named(write)),
            }
        }
        for write in again {
            written.extend(
                self.write_one(write, buffer)
                    .map_err(|refusal| refusal.named(write))?,
            );
        }
        Ok(())
    }

    /// Writes one, and says into which file.
    fn write_one(
        &self,
        write: &Write,
        buffer: &mut Buffer,
    ) -> std::result::Result<Option<Written>, Refusal> {
        let value = match &write.value {
            Value::Text(text) => text.clone(),
            Value::AfterFirstWord(rest) => {
                let first = match buffer.read(self.dir(), &write.file) {
                    Ok(Some(content)) => content.split_whitespace().next().unwrap_or("max"),
                    Ok(None) | Err(_) => "max",
                };
                format!("{first} {rest}")
            }
        };
        let refused = |errno, file: &str, value: &str| Refusal {
            errno,
            file: file.to_owned(),
            value: value.to_owned(),
        };
        match file::write(self.dir(), &write.file, &value) {
            Ok(()) => Ok(Some(Written {
                file: write.file.clone(),
                value,
            })),
            Err(Errno::ENOENT) => match &write.absent {
                Absent::Skip => Ok(None),
                Absent::Refuse => Err(refused(Errno::ENOENT, &write.file, &value)),
                Absent::Instead(file, value) => file::write(self.dir(), file, value)
                    .map(|()| {
                        Some(Written {
                            file: file.clone(),
                            value: value.clone(),
                        })
                    })
                    .map_err(|errno| refused(errno, file, value)),
            },
            Err(errno) => Err(refused(errno, &write.file, &value)),
        }
    }

    /// Swap is lowered after memory and raised before it: what memory's new limit pushes out must have
    /// a place to go to, or the OOM killer comes.
    fn swap_at_the_right_time(&self, writes: &[Write], buffer: &mut Buffer) -> Result<Vec<Write>> {
        let mut writes = writes.to_vec();
        let position = |name: &str| writes.iter().position(|write| write.file == name);
        if let (Some(swap), Some(memory)) = (position(SWAP), position(MEMORY)) {
            let now = present(buffer, self, SWAP)?.map_or(u64::MAX, |value| bytes(&value));
            let Value::Text(new) = &writes[swap].value else {
                return Ok(writes);
            };
            if bytes(new) < now && swap < memory {
                let write = writes.remove(swap);
                writes.insert(memory, write);
            }
        }
        Ok(writes)
    }

    fn refuse_below_usage(&self, limits: AboveUsage, buffer: &mut Buffer) -> Result<()> {
        let Some(usage) = present(buffer, self, "memory.current")? else {
            return Ok(());
        };
        let usage = bytes(&usage);
        for (name, field, limit) in [
            ("memory+swap limit", "swap", limits.memory_and_swap),
            ("memory limit", "limit", limits.memory),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit <= usage) {
                return Err(Error::spec(
                    format!("/linux/resources/memory/{field}"),
                    format!("rejecting {name} {limit} <= usage {usage}"),
                ));
            }
        }
        Ok(())
    }

    /// Gives files their old values back, the last written first. It can only be tried: the error that
    /// is returned is the one that stopped the update.
    fn restore(&self, old: &[(String, String)], written: &[Written]) {
        for Written { file, value } in written.iter().rev() {
            let Some((_, before)) = old.iter().find(|(name, _)| name == file) else {
                continue;
            };
            let line = line_before(file, before, value);
            if let Err(errno) = file::write(self.dir(), file, &line) {
                log::debug!(
                    "restore {file} of cgroup {} to {line:?}: {errno}",
                    self.path
                );
            }
        }
    }
}

/// What a write has to be undone with: the file's old content, or of a file with a line for each
/// device (`8:0 rbps=1`) that device's old line. One that had none had no limit.
fn line_before(file: &str, before: &str, value: &str) -> String {
    let key = value.split(' ').next().unwrap_or_default();
    let keyed = matches!(file, "io.max" | "rdma.max") || key.contains(':');
    if !keyed {
        // The weight files have "default 100" and lines for devices.
        let first = before.lines().next().unwrap_or_default();
        return first.strip_prefix("default ").unwrap_or(first).to_owned();
    }
    let lines = before.lines();
    match lines
        .into_iter()
        .find(|line| line.split(' ').next() == Some(key))
    {
        Some(line) => line.to_owned(),
        None => match file {
            "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            "rdma.max" => format!("{key} hca_handle=max hca_object=max"),
            _ => format!("{key} default"),
        },
    }
}

/// What a file holds now.
fn present(buffer: &mut Buffer, cgroup: &Cgroup, file: &str) -> Result<Option<String>> {
    Ok(buffer
        .read(cgroup.dir(), file)?
        .map(|content| content.trim_end().to_owned()))
}

fn bytes(value: &str) -> u64 {
    value.trim().parse().unwrap_or(u64::MAX)
}

/// What a file was given.
struct Written {
    file: String,
    value: String,
}

struct Refusal {
    errno: Errno,
    file: String,
    value: String,
}

impl Refusal {
    fn named(self, write: &Write) -> Error {
        let Self { errno, file, value } = self;
        let text = format!(
            "{}: write {value:?} to {file}: {}",
            write.pointer,
            errno_text(errno)
        );
        match errno {
            Errno::ENOENT => Error::unsupported(format!("cgroup file {file}"), text),
            // The value is at fault, not the host.
            Errno::EINVAL | Errno::ERANGE | Errno::ENODEV => {
                Error::new(ErrorKind::InvalidArgument, text)
            }
            other => Error::new(crate::error::kind_of(other), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_before;

    #[test]
    fn a_write_is_undone_with_what_was_there() {
        for (file, before, value, undone) in [
            ("memory.max", "max", "5", "max"),
            ("cpu.max", "max 100000", "5 100000", "max 100000"),
            (
                "io.max",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
                "8:0 rbps=2",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
            ),
            (
                "io.max",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
                "8:16 rbps=2",
                "8:16 rbps=max wbps=max riops=max wiops=max",
            ),
            ("io.weight", "default 100\n8:0 50", "200", "100"),
            ("io.weight", "default 100\n8:0 50", "8:0 200", "8:0 50"),
            ("io.bfq.weight", "100", "8:0 200", "8:0 default"),
            (
                "rdma.max",
                "",
                "mlx4_0 hca_handle=1",
                "mlx4_0 hca_handle=max hca_object=max",
            ),
        ] {
            assert_eq!(line_before(file, before, value), undone, "{file} {value}");
        }
    }
}
