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
            if let Some(value) = present(&mut buffer, self, &write.file)? {
                old.push((write.file.clone(), value));
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
        written: &mut Vec<String>,
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
    ) -> std::result::Result<Option<String>, Refusal> {
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
            Ok(()) => Ok(Some(write.file.clone())),
            Err(Errno::ENOENT) => match &write.absent {
                Absent::Skip => Ok(None),
                Absent::Refuse => Err(refused(Errno::ENOENT, &write.file, &value)),
                Absent::Instead(file, value) => file::write(self.dir(), file, value)
                    .map(|()| Some(file.clone()))
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
    fn restore(&self, old: &[(String, String)], written: &[String]) {
        for file in written.iter().rev() {
            let Some((_, value)) = old.iter().find(|(name, _)| name == file) else {
                continue;
            };
            for line in value.lines() {
                if let Err(errno) = file::write(self.dir(), file, line) {
                    log::debug!(
                        "restore {file} of cgroup {} to {line:?}: {errno}",
                        self.path
                    );
                }
            }
        }
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
