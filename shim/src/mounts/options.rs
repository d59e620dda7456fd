//! What do the words of an option list mean? PURE.

use nix::mount::MsFlags;
use rsrun_core::sys::mount::MountAttr;
use rsrun_core::{Error, Result};

/// Parsed options.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Flags of mount(2) but those of propagation.
    pub flags: MsFlags,
    /// Flags of propagation, for a call of their own.
    pub propagation: MsFlags,
    /// What is for the filesystem.
    pub data: Vec<String>,
    /// The source is a file that needs a loop device.
    pub is_loop: bool,
    /// The loop device bypasses the page cache.
    pub direct_io: bool,
    /// Owners in the mount and on disk.
    pub id_map: Option<IdMap>,
}

/// Lines for `/proc/PID/uid_map` and `gid_map`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Users.
    pub uids: Vec<[u32; 3]>,
    /// Groups.
    pub gids: Vec<[u32; 3]>,
}

/// What a word does.
enum Word {
    Set(MsFlags),
    Clear(MsFlags),
    Propagation(MsFlags),
    Nothing,
}

fn word(option: &str) -> Option<Word> {
    use Word::{Clear, Nothing, Propagation, Set};
    let private = MsFlags::MS_PRIVATE;
    Some(match option {
        "defaults" => Nothing,
        "rw" => Clear(MsFlags::MS_RDONLY),
        "ro" => Set(MsFlags::MS_RDONLY),
        "bind" => Set(MsFlags::MS_BIND),
        "rbind" => Set(MsFlags::MS_BIND | MsFlags::MS_REC),
        "suid" => Clear(MsFlags::MS_NOSUID),
        "nosuid" => Set(MsFlags::MS_NOSUID),
        "dev" => Clear(MsFlags::MS_NODEV),
        "nodev" => Set(MsFlags::MS_NODEV),
        "exec" => Clear(MsFlags::MS_NOEXEC),
        "noexec" => Set(MsFlags::MS_NOEXEC),
        "atime" => Clear(MsFlags::MS_NOATIME),
        "noatime" => Set(MsFlags::MS_NOATIME),
        "diratime" => Clear(MsFlags::MS_NODIRATIME),
        "nodiratime" => Set(MsFlags::MS_NODIRATIME),
        "relatime" => Set(MsFlags::MS_RELATIME),
        "norelatime" => Clear(MsFlags::MS_RELATIME),
        "strictatime" => Set(MsFlags::MS_STRICTATIME),
        "nostrictatime" => Clear(MsFlags::MS_STRICTATIME),
        "sync" => Set(MsFlags::MS_SYNCHRONOUS),
        "async" => Clear(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => Set(MsFlags::MS_DIRSYNC),
        "mand" => Set(MsFlags::MS_MANDLOCK),
        "nomand" => Clear(MsFlags::MS_MANDLOCK),
        "remount" => Set(MsFlags::MS_REMOUNT),
        "silent" => Set(MsFlags::MS_SILENT),
        "loud" => Clear(MsFlags::MS_SILENT),
        "private" => Propagation(private),
        "rprivate" => Propagation(private | MsFlags::MS_REC),
        "shared" => Propagation(MsFlags::MS_SHARED),
        "rshared" => Propagation(MsFlags::MS_SHARED | MsFlags::MS_REC),
        "slave" => Propagation(MsFlags::MS_SLAVE),
        "rslave" => Propagation(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        "unbindable" => Propagation(MsFlags::MS_UNBINDABLE),
        "runbindable" => Propagation(MsFlags::MS_UNBINDABLE | MsFlags::MS_REC),
        _ => return None,
    })
}

impl Options {
    /// Parses a list. An error for what only containerd itself can do.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self {
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            data: Vec::new(),
            is_loop: false,
            direct_io: false,
            id_map: None,
        };
        for option in options {
            match word(option) {
                Some(Word::Set(flags)) => parsed.flags |= flags,
                Some(Word::Clear(flags)) => parsed.flags &= !flags,
                Some(Word::Propagation(flags)) => parsed.propagation |= flags,
                Some(Word::Nothing) => {}
                None => parsed.other(option)?,
            }
        }
        if let Some(map) = &parsed.id_map
            && (map.uids.is_empty() || map.gids.is_empty())
        {
            return Err(Error::invalid(
                "mount options uidmap and gidmap must come together",
            ));
        }
        Ok(parsed)
    }

    fn other(&mut self, option: &str) -> Result<()> {
        match option.split_once('=').map_or((option, ""), |parts| parts) {
            ("loop", "") => self.is_loop = true,
            ("direct-io", "") => self.direct_io = true,
            ("uidmap", lines) => self.id_map.get_or_insert_default().uids = id_map(option, lines)?,
            ("gidmap", lines) => self.id_map.get_or_insert_default().gids = id_map(option, lines)?,
            (name, _) if name.starts_with("X-containerd.") => {
                return Err(Error::unsupported(
                    name,
                    format!("mount option {option} is for containerd's mount manager"),
                ));
            }
            _ => self.data.push(option.to_owned()),
        }
        Ok(())
    }

    /// The flags as attributes of a mount, for a bind mount: only what was named changes.
    pub fn attributes(&self) -> Option<MountAttr> {
        const ATIME: u64 = 0x70;
        let mut attr = MountAttr::default();
        for (flag, bit) in [
            (MsFlags::MS_RDONLY, 0x1),
            (MsFlags::MS_NOSUID, 0x2),
            (MsFlags::MS_NODEV, 0x4),
            (MsFlags::MS_NOEXEC, 0x8),
            (MsFlags::MS_NODIRATIME, 0x80),
        ] {
            if self.flags.contains(flag) {
                attr.attr_set |= bit;
            }
        }
        // One of three, so the whole field is written.
        for (flag, value) in [
            (MsFlags::MS_RELATIME, 0x0),
            (MsFlags::MS_NOATIME, 0x10),
            (MsFlags::MS_STRICTATIME, 0x20),
        ] {
            if self.flags.contains(flag) {
                attr.attr_clr = ATIME;
                attr.attr_set = attr.attr_set & !ATIME | value;
            }
        }
        (attr.attr_set != 0 || attr.attr_clr != 0).then_some(attr)
    }
}

/// `container:host:size`, several separated by commas.
fn id_map(option: &str, lines: &str) -> Result<Vec<[u32; 3]>> {
    let bad = || Error::invalid(format!("mount option {option}: not container:host:size"));
    lines
        .split(',')
        .map(|line| {
            let mut numbers = line.split(':').map(|n| n.parse::<u32>().map_err(|_| bad()));
            let mut next = || numbers.next().unwrap_or_else(|| Err(bad()));
            let range = [next()?, next()?, next()?];
            if numbers.next().is_some() || range[2] == 0 {
                Err(bad())
            } else {
                Ok(range)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_propagation_and_data_are_told_apart() {
        let options =
            parsed(&["rbind", "ro", "nosuid", "rslave", "index=off", "volatile"]).unwrap();
        assert_eq!(
            options.flags,
            MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID
        );
        assert_eq!(options.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(options.data, ["index=off", "volatile"]);
        assert_eq!(options.attributes().unwrap().attr_set, 0x3);
    }

    #[test]
    fn the_last_of_two_opposite_words_holds() {
        assert!(parsed(&["ro", "rw", "defaults"]).unwrap().flags.is_empty());
        let atime = parsed(&["noatime"]).unwrap().attributes().unwrap();
        assert_eq!((atime.attr_set, atime.attr_clr), (0x10, 0x70));
    }

    #[test]
    fn maps_of_ids_have_several_ranges_and_come_in_pairs() {
        let options = parsed(&["uidmap=0:1000:5,5:9000:1", "gidmap=0:7:1"]).unwrap();
        let map = options.id_map.unwrap();
        assert_eq!(map.uids, [[0, 1000, 5], [5, 9000, 1]]);
        assert_eq!(map.gids, [[0, 7, 1]]);
        assert!(parsed(&["uidmap=0:1000:5"]).is_err());
        assert!(parsed(&["uidmap=0:1000", "gidmap=0:0:1"]).is_err());
    }

    #[test]
    fn options_of_the_mount_manager_are_refused_by_name() {
        let text = parsed(&["X-containerd.mkdir.path=/x"])
            .unwrap_err()
            .to_string();
        assert!(text.contains("X-containerd.mkdir.path"), "{text}");
    }
}
