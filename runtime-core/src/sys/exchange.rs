//! Can the file that a process runs from be exchanged for the same one on another mount?
//!
//! Before a program has begun its memory is what the kernel has mapped of the file, so that each segment can be mapped
//! over itself. `/proc/self/exe` is a member of the process's memory map, and the kernel lets it be set once nothing
//! of the old file is mapped: PR_SET_MM_MAP of prctl(2), Linux 3.18, for who has CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN
//! where it was built with CONFIG_CHECKPOINT_RESTORE. The map is set as a whole, to what it was; all of it is known here.
//!
//! An execve makes the same of a process in 0.3 ms.

use core::ptr;

use libc::Elf64_Phdr;

use super::early::HERE;
use super::raw::call;

const READING: usize = (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned() as usize;
const OVER: usize = (libc::MAP_PRIVATE | libc::MAP_FIXED).cast_unsigned() as usize;
const SET_MM: usize = libc::PR_SET_MM.cast_unsigned() as usize;
const SET_MM_MAP: usize = libc::PR_SET_MM_MAP.cast_unsigned() as usize;

/// Of a page, which x86-64 has in this size alone.
const PAGE: usize = 4096;

/// `struct prctl_mm_map` of `linux/prctl.h`.
#[repr(C)]
struct Map {
    start_code: usize,
    end_code: usize,
    start_data: usize,
    end_data: usize,
    start_brk: usize,
    brk: usize,
    start_stack: usize,
    arg_start: usize,
    arg_end: usize,
    env_start: usize,
    env_end: usize,
    auxv: usize,
    auxv_size: u32,
    exe_fd: u32,
}

/// Has this program run from the file that the descriptor `tree` stands for. Says whether it does; where not, it goes on
/// as it was.
///
/// # Safety
/// The file of `tree` is that of the program, and nothing that the program has in memory has been changed since the
/// kernel mapped it. `stack` is where it pointed to at the start (System V ABI for x86-64, 3.4.1).
pub(super) unsafe fn exchange(tree: usize, stack: *const usize) -> bool {
    // What is opened with O_PATH can't be mapped: it is opened once more, by its number.
    let mut path = *b"/proc/self/fd/0\0";
    if tree > 9 {
        return false;
    }
    path[14] += tree as u8;
    let opening = [HERE, path.as_ptr().addr(), READING, 0, 0, 0];
    // SAFETY: the path ends with a NUL.
    let file = unsafe { call(libc::SYS_openat, opening) };
    let Ok(file) = usize::try_from(file) else {
        return false;
    };
    // SAFETY: as promised; the map is the one that the process has, and the descriptor is ours.
    unsafe {
        let mut map = of_stack(stack);
        map.exe_fd = file as u32;
        let setting = [
            SET_MM,
            SET_MM_MAP,
            (&raw const map).addr(),
            size_of::<Map>(),
            0,
            0,
        ];
        let is_exchanged =
            map_segments(file, stack, &mut map) && call(libc::SYS_prctl, setting) == 0;
        call(libc::SYS_close, [file, 0, 0, 0, 0, 0]);
        is_exchanged
    }
}

/// The map without its segments: the words, the environment, and a heap that has not begun.
///
/// # Safety
/// As [`exchange`].
unsafe fn of_stack(stack: *const usize) -> Map {
    // SAFETY: the words are there, and behind them and their null the environment; brk(0) only tells.
    unsafe {
        let words = stack.add(1);
        let variables = words.add(stack.read_volatile()).add(1);
        let heap = call(libc::SYS_brk, [0; 6]).cast_unsigned();
        let (arg_start, arg_end) = extent(words, stack.addr());
        let (env_start, env_end) = extent(variables, arg_end);
        Map {
            start_code: usize::MAX,
            end_code: 0,
            start_data: 0,
            end_data: 0,
            start_brk: heap,
            brk: heap,
            start_stack: stack.addr(),
            arg_start,
            arg_end,
            env_start,
            env_end,
            auxv: 0,
            auxv_size: 0,
            exe_fd: 0,
        }
    }
}

/// Where the texts of a list begin and end: the kernel has put them one behind the other. Both are `empty` for one that
/// has none.
///
/// # Safety
/// At `list` are addresses of texts with a NUL at their end, and a null.
unsafe fn extent(list: *const usize, empty: usize) -> (usize, usize) {
    // SAFETY: as promised.
    unsafe {
        if list.read_volatile() == 0 {
            return (empty, empty);
        }
        let mut last = list;
        while last.add(1).read_volatile() != 0 {
            last = last.add(1);
        }
        let mut end = last.cast::<*const u8>().read_volatile();
        while end.read_volatile() != 0 {
            end = end.add(1);
        }
        (list.read_volatile(), end.addr() + 1)
    }
}

/// The value of the auxiliary vector under `key`; 0 where it has none.
///
/// # Safety
/// `stack` is where it pointed to at the start.
pub(super) unsafe fn auxiliary(stack: *const usize, key: u64) -> usize {
    // SAFETY: behind the words, the environment and their nulls are pairs, of which the last has the key 0.
    unsafe {
        let mut at = stack.add(1).add(stack.read_volatile()).add(1);
        while at.read_volatile() != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while at.read_volatile() != 0 && at.read_volatile() as u64 != key {
            at = at.add(2);
        }
        match at.read_volatile() {
            0 => 0,
            _ => at.add(1).read_volatile(),
        }
    }
}

/// Maps each segment from `file` over itself, and tells `map` of them. Says whether it could.
///
/// # Safety
/// As [`exchange`].
unsafe fn map_segments(file: usize, stack: *const usize, map: &mut Map) -> bool {
    // SAFETY: as promised.
    let (headers, count) = unsafe {
        (
            auxiliary(stack, libc::AT_PHDR),
            auxiliary(stack, libc::AT_PHNUM),
        )
    };
    let headers = ptr::with_exposed_provenance::<Elf64_Phdr>(headers);
    (0..count).all(|at| {
        // SAFETY: so many headers are there, and they tell where the kernel has mapped what of the file.
        unsafe {
            let header = headers.add(at);
            (&raw const (*header).p_type).read_volatile() != libc::PT_LOAD
                || map_segment(file, header, map)
        }
    })
}

/// # Safety
/// As [`exchange`]; at `header` is the header of a segment that is loaded.
unsafe fn map_segment(file: usize, header: *const Elf64_Phdr, map: &mut Map) -> bool {
    // SAFETY: the header is there.
    let (flags, offset, start, length) = unsafe {
        (
            (&raw const (*header).p_flags).read_volatile(),
            (&raw const (*header).p_offset).read_volatile() as usize,
            (&raw const (*header).p_vaddr).read_volatile() as usize,
            (&raw const (*header).p_filesz).read_volatile() as usize,
        )
    };
    let has = |flag, protection: i32| if flags & flag == 0 { 0 } else { protection };
    let protection = has(libc::PF_R, libc::PROT_READ)
        | has(libc::PF_W, libc::PROT_WRITE)
        | has(libc::PF_X, libc::PROT_EXEC);
    let (begin, end) = (start & !(PAGE - 1), start + length);
    // As the kernel tells them of a program that it loads.
    if flags & libc::PF_X != 0 {
        map.start_code = map.start_code.min(start);
        map.end_code = map.end_code.max(end);
    }
    map.start_data = map.start_data.max(start);
    map.end_data = map.end_data.max(end);
    // Its pages by one call instead of by thirty faults: 3 % of a run.
    let ready = match flags & libc::PF_X {
        0 => 0,
        _ => libc::MAP_POPULATE.cast_unsigned() as usize,
    };
    let over = [
        begin,
        end - begin,
        protection.cast_unsigned() as usize,
        OVER | ready,
        file,
        offset & !(PAGE - 1),
    ];
    // SAFETY: what comes there is what stands there, byte for byte: nobody has written to it but the kernel, which has
    // cleared the rest of the last page that belongs to the file (of a segment that may be written to).
    unsafe {
        if length > 0 && call(libc::SYS_mmap, over) != begin.cast_signed() {
            return false;
        }
        if flags & libc::PF_W != 0 {
            let mut behind = ptr::with_exposed_provenance_mut::<u8>(end);
            while behind.addr() & (PAGE - 1) != 0 {
                behind.write_volatile(0);
                behind = behind.add(1);
            }
        }
    }
    true
}
