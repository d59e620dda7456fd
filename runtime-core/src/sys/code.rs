//! Giving back the pages of this program's own code: they are the file's, and come back by themselves.
//!
//! The kernel maps sixteen pages for each that is touched, so after its first container a process has mapped nearly
//! all of its code, whatever of it the next days will need.

use super::checked;

/// Unmaps the pages of the code and of the constants before it, which nobody ever wrote to. What is needed again is
/// mapped again from the page cache, sixteen pages at a time, without any reading of the disk.
#[allow(clippy::disallowed_methods, reason = "I11: a file of this process")]
pub fn release() -> nix::Result<()> {
    let table = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = release as fn() -> nix::Result<()> as usize;
    let maps: Vec<Map> = table.lines().filter_map(Map::parse).collect();
    let Some(code) = maps
        .iter()
        .position(|map| (map.start..map.end).contains(&here))
    else {
        return Ok(());
    };
    let constants = code.checked_sub(1);
    for map in [constants, Some(code)]
        .into_iter()
        .flatten()
        .filter_map(|index| maps.get(index))
    {
        let is_file = map.inode != 0 && !map.access.contains('w');
        let is_ours = map.inode == maps.get(code).map_or(0, |code| code.inode);
        // Relocated constants lie behind the code, in pages that are ours alone: those must stay.
        if is_file && is_ours && map.end <= maps.get(code).map_or(0, |code| code.end) {
            let length = map.end - map.start;
            let start = map.start as *mut libc::c_void;
            // SAFETY: the range is a whole private mapping of this program's file that is not writable and lies
            //         at or before the code, where the linker puts nothing that is relocated: the pages equal
            //         those of the file, from which the kernel maps them again when they are touched.
            let done = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
            checked(done.into())?;
        }
    }
    Ok(())
}

/// A line of /proc/PID/maps.
struct Map<'t> {
    start: usize,
    end: usize,
    access: &'t str,
    inode: u64,
}

impl<'t> Map<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let access = words.next()?;
        let (_offset, _device) = (words.next()?, words.next()?);
        Some(Self {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            access,
            inode: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_its_pages() {
        for _ in 0..10 {
            release().unwrap();
            let text: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
            assert_eq!(text.join(",").len(), 289);
        }
    }
}
