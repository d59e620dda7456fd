//! What does a process see from inside a container?
//!
//! A static program without dependencies (tests/build.rs builds it by calling rustc), put at /bin/probe of every
//! test rootfs. It prints one JSON value and exits 0; what it could not find out is `null`.
//!
//!     probe facts                     everything of the process itself
//!     probe call NR[:ARG...] ...      system calls by number, each answered by its result or -errno;
//!                                     an argument is a number or @text; `i386/NR` goes through int 0x80
//!     probe open MODE:PATH ...        r, w or rw: 0 or -errno
//!     probe stat PATH ...             type, mode, owner, device number, link target
//!     probe read PATH ...             text of files, or -errno
//!     probe hunt SECONDS              goes for every process that appears, until /enough does: what could be had
//!     probe hold                      prints "holding" and waits for a signal
//!     probe naive ROOTFS              what a runtime must not do: makes and mounts in ROOTFS by path
//!
//! There is no `fn main` of Rust: its runtime would ignore SIGPIPE before the first look.
#![no_main]

mod hunt;

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

unsafe extern "C" {
    fn syscall(nr: c_long, ...) -> c_long;
    fn __errno_location() -> *mut c_int;
}

const RLIMITS: [&str; 16] = [
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
    "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
];

/// One raw system call: its result, or minus the errno.
fn call(nr: c_long, a: [c_long; 6]) -> c_long {
    // SAFETY: glibc's `syscall` takes any number and six words; the pointers among the words come from
    //         buffers that live in the caller's frame for the whole call.
    let result = unsafe { syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 {
        // SAFETY: glibc's errno of this thread is always mapped.
        return -c_long::from(unsafe { *__errno_location() });
    }
    result
}

fn call1(nr: c_long, a: c_long) -> c_long {
    call(nr, [a, 0, 0, 0, 0, 0])
}

fn prctl(option: c_long) -> c_long {
    call1(157, option)
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let args: Vec<String> = (1..argc as usize)
        // SAFETY: the kernel passes `argc` pointers to NUL-terminated strings that stay for the process's life.
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy().into_owned())
        .collect();
    let Some((verb, rest)) = args.split_first() else {
        eprintln!("probe: facts, call, open, stat, read, hold or naive");
        return 2;
    };
    let out = match verb.as_str() {
        "facts" => facts(),
        "call" => array(rest.iter().map(|c| named_call(c).to_string())),
        "open" => array(rest.iter().map(|p| open(p).to_string())),
        "stat" => array(rest.iter().map(|p| stat(p))),
        "read" => array(rest.iter().map(|p| read(p))),
        "hunt" => hunt::newcomers(rest.first().and_then(|s| s.parse().ok()).unwrap_or(1)),
        "naive" => array(naive(rest.first().map_or("", String::as_str)).into_iter().map(|r| r.to_string())),
        "hold" => {
            println!("holding");
            loop {
                call1(34, 0);
            }
        }
        other => {
            eprintln!("probe: unknown verb {other}");
            return 2;
        }
    };
    let mut stdout = std::io::stdout();
    let written = writeln!(stdout, "{out}").and_then(|()| stdout.flush());
    i32::from(written.is_err())
}

fn facts() -> String {
    // First, before anything of ours opens files or changes the process.
    let fds = entries("/proc/self/fd");
    object(vec![
        ("fds", fds),
        ("status", status()),
        ("args", array(std::env::args().map(|a| text(&a)))),
        ("env", array(std::env::vars_os().map(|(k, v)| text(&format!("{}={}", k.display(), v.display()))))),
        ("cwd", cwd()),
        ("pid", call1(39, 0).to_string()),
        ("ppid", call1(110, 0).to_string()),
        ("sid", call1(124, 0).to_string()),
        ("pgid", call1(121, 0).to_string()),
        ("umask", umask().to_string()),
        ("rlimits", rlimits()),
        ("personality", call1(135, 0xffff_ffff).to_string()),
        ("keyring", keyring()),
        ("no_new_privs", prctl(39).to_string()),
        ("dumpable", prctl(3).to_string()),
        ("keepcaps", prctl(7).to_string()),
        ("securebits", prctl(27).to_string()),
        ("timerslack", prctl(30).to_string()),
        ("thp_disable", prctl(42).to_string()),
        ("parent_death_signal", parent_death_signal().to_string()),
        ("scheduler", scheduler()),
        ("ioprio", call(252, [1, 0, 0, 0, 0, 0]).to_string()),
        ("affinity", affinity()),
        ("mempolicy", mempolicy()),
        ("uname", uname()),
        ("tty", tty()),
        ("ns", entries("/proc/self/ns")),
        ("mountinfo", file("/proc/self/mountinfo")),
        ("cgroup", file("/proc/self/cgroup")),
        ("uid_map", file("/proc/self/uid_map")),
        ("gid_map", file("/proc/self/gid_map")),
        ("setgroups", file("/proc/self/setgroups")),
        ("timens_offsets", file("/proc/self/timens_offsets")),
        ("oom_score_adj", file("/proc/self/oom_score_adj")),
        ("apparmor", file("/proc/self/attr/current")),
        ("stat", file("/proc/self/stat")),
        ("root", names("/")),
        ("dev", names("/dev")),
        ("processes", processes()),
        ("monotonic", clock(1).to_string()),
        ("boottime", clock(7).to_string()),
    ])
}

/// Looks at each place first, and then goes by its path all the same (CVE-2021-30465, CVE-2024-45310,
/// CVE-2026-41579): a directory, a tmpfs on it that goes again, a node, and the owner of what is there.
fn naive(rootfs: &str) -> Vec<c_long> {
    let path = |below: &str| CString::new(format!("{rootfs}/{below}")).unwrap_or_default();
    let (dev, null, point, file) = (path("dev"), path("dev/null"), path("dev/pts"), path("etc/passwd"));
    let is_link = |p: &CString| std::fs::symlink_metadata(p.to_string_lossy().as_ref()).is_ok_and(|m| m.is_symlink());
    if [&dev, &point, &null, &file].into_iter().any(is_link) {
        return vec![-40];
    }
    let tmpfs = c"tmpfs".as_ptr() as c_long;
    let mut results = vec![
        call(83, [point.as_ptr() as c_long, 0o755, 0, 0, 0, 0]),
        call(165, [tmpfs, point.as_ptr() as c_long, tmpfs, 0, 0, 0]),
    ];
    if results[1] == 0 {
        results.push(call(34, [0; 6]));
        results.push(call(166, [point.as_ptr() as c_long, 2, 0, 0, 0, 0]));
    }
    results.push(call(133, [null.as_ptr() as c_long, 0o20666, 0x103, 0, 0, 0]));
    results.push(call(92, [file.as_ptr() as c_long, 0, 0, 0, 0, 0]));
    results
}

/// Lines of /proc/self/status as a map.
fn status() -> String {
    let Ok(text_of) = std::fs::read_to_string("/proc/self/status") else { return "null".into() };
    let pairs = text_of.lines().filter_map(|l| l.split_once(':'));
    map(pairs.map(|(k, v)| (k.to_string(), text(v.trim()))))
}

fn cwd() -> String {
    let mut buffer = [0u8; 4096];
    let n = call(79, [buffer.as_mut_ptr() as c_long, 4096, 0, 0, 0, 0]);
    if n < 0 { n.to_string() } else { text(&String::from_utf8_lossy(&buffer[..n as usize - 1])) }
}

fn umask() -> c_long {
    let old = call1(95, 0o77);
    call1(95, old);
    old
}

fn rlimits() -> String {
    map(RLIMITS.iter().enumerate().map(|(i, name)| {
        let mut pair = [0u64; 2];
        let r = call(302, [0, i as c_long, 0, pair.as_mut_ptr() as c_long, 0, 0]);
        let value = if r < 0 { r.to_string() } else { format!("[{},{}]", pair[0], pair[1]) };
        ((*name).to_string(), value)
    }))
}

/// The session keyring: `type;uid;gid;permissions;name`, and its serial number.
fn keyring() -> String {
    let mut buffer = [0u8; 512];
    let serial = call(250, [0, -3, 0, 0, 0, 0]);
    let n = call(250, [6, -3, buffer.as_mut_ptr() as c_long, 512, 0, 0]);
    let description =
        if n < 1 { n.to_string() } else { text(&String::from_utf8_lossy(&buffer[..n as usize - 1])) };
    object(vec![("serial", serial.to_string()), ("description", description)])
}

fn parent_death_signal() -> c_int {
    let mut signal: c_int = -1;
    call(157, [2, &raw mut signal as c_long, 0, 0, 0, 0]);
    signal
}

fn scheduler() -> String {
    // struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
    let mut attr = [0u8; 56];
    let r = call(315, [0, attr.as_mut_ptr() as c_long, 56, 0, 0, 0]);
    if r < 0 {
        return r.to_string();
    }
    let u32_at = |i: usize| u32::from_ne_bytes([attr[i], attr[i + 1], attr[i + 2], attr[i + 3]]);
    let u64_at = |i: usize| u64::from(u32_at(i)) | (u64::from(u32_at(i + 4)) << 32);
    object(vec![
        ("policy", u32_at(4).to_string()),
        ("flags", u64_at(8).to_string()),
        ("nice", (u32_at(16) as i32).to_string()),
        ("priority", u32_at(20).to_string()),
        ("runtime", u64_at(24).to_string()),
        ("deadline", u64_at(32).to_string()),
        ("period", u64_at(40).to_string()),
    ])
}

fn affinity() -> String {
    let mut mask = [0u8; 1024];
    let n = call(204, [0, 1024, mask.as_mut_ptr() as c_long, 0, 0, 0]);
    if n < 0 {
        return n.to_string();
    }
    array((0..n as usize * 8).filter(|cpu| mask[cpu / 8] & (1 << (cpu % 8)) != 0).map(|cpu| cpu.to_string()))
}

fn mempolicy() -> String {
    let mut mode: c_int = -1;
    let mut nodes = [0u64; 16];
    let r = call(239, [&raw mut mode as c_long, nodes.as_mut_ptr() as c_long, 1024, 0, 0, 0]);
    if r < 0 {
        return r.to_string();
    }
    object(vec![("mode", mode.to_string()), ("nodes", nodes[0].to_string())])
}

fn uname() -> String {
    let mut buffer = [0u8; 65 * 6];
    call1(63, buffer.as_mut_ptr() as c_long);
    let field = |i: usize| {
        let part = &buffer[i * 65..(i + 1) * 65];
        let end = part.iter().position(|b| *b == 0).unwrap_or(65);
        text(&String::from_utf8_lossy(&part[..end]))
    };
    object(vec![("nodename", field(1)), ("release", field(2)), ("machine", field(4)), ("domainname", field(5))])
}

/// Window size of stdin, and whether it is the controlling terminal.
fn tty() -> String {
    let mut size = [0u16; 4];
    if call(16, [0, 0x5413, size.as_mut_ptr() as c_long, 0, 0, 0]) < 0 {
        return "null".into();
    }
    let mut group: c_int = -1;
    let controlling = call(16, [0, 0x540f, &raw mut group as c_long, 0, 0, 0]) == 0;
    object(vec![
        ("rows", size[0].to_string()),
        ("columns", size[1].to_string()),
        ("controlling", controlling.to_string()),
        ("name", link("/proc/self/fd/0")),
    ])
}

fn clock(id: c_long) -> i64 {
    let mut time = [0i64; 2];
    call(228, [id, time.as_mut_ptr() as c_long, 0, 0, 0, 0]);
    time[0]
}

fn processes() -> String {
    let Ok(dir) = std::fs::read_dir("/proc") else { return "null".into() };
    let pids = dir.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    array(pids.map(|p| p.to_string()))
}

fn named_call(word: &str) -> c_long {
    let mut parts = word.split(':');
    let number = parts.next().unwrap_or_default();
    let mut strings = Vec::new();
    let mut args = [0 as c_long; 6];
    for (slot, part) in args.iter_mut().zip(parts) {
        *slot = match part.strip_prefix('@') {
            Some(text_of) => {
                strings.push(CString::new(text_of).unwrap_or_default());
                strings.last().map_or(0, |s| s.as_ptr() as c_long)
            }
            None => integer(part),
        };
    }
    match number.strip_prefix("i386/") {
        Some(nr) => i386(integer(nr), args),
        None => call(integer(number), args),
    }
}

fn integer(word: &str) -> c_long {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap_or(0) as c_long,
        None => word.parse().unwrap_or(0),
    }
}

/// A system call by the 32-bit entry, whose filter is another one.
fn i386(nr: c_long, a: [c_long; 6]) -> c_long {
    let result: c_long;
    // SAFETY: int 0x80 is the i386 entry of the kernel; it clobbers rax only and r8–r11. rbx is reserved by
    //         LLVM, so it is exchanged by hand before and after. No pointer is passed.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) a[0] => _,
            inlateout("rax") nr => result,
            in("rcx") a[1], in("rdx") a[2], in("rsi") a[3], in("rdi") a[4],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    c_long::from(result as i32)
}

fn open(word: &str) -> c_long {
    let (mode, path) = word.split_once(':').unwrap_or(("r", word));
    let access = match mode {
        "w" => 1,
        "rw" => 2,
        _ => 0,
    };
    let Ok(path) = CString::new(path) else { return -22 };
    // O_NONBLOCK and O_NOCTTY: neither wait for a peer nor take a terminal.
    let fd = call(257, [-100, path.as_ptr() as c_long, access | 0o4000 | 0o400, 0, 0, 0]);
    if fd >= 0 {
        call1(3, fd);
        return 0;
    }
    fd
}

fn stat(path: &str) -> String {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) => return (-e.raw_os_error().unwrap_or(5)).to_string(),
    };
    let kind = meta.file_type();
    let letter = match () {
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "dir",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let device = meta.rdev();
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    object(vec![
        ("type", text(letter)),
        ("mode", (meta.mode() & 0o7777).to_string()),
        ("uid", meta.uid().to_string()),
        ("gid", meta.gid().to_string()),
        ("device", text(&format!("{major}:{minor}"))),
        ("size", meta.size().to_string()),
        ("link", link(path)),
    ])
}

fn read(path: &str) -> String {
    match std::fs::read(path) {
        Ok(bytes) => text(&String::from_utf8_lossy(&bytes)),
        Err(e) => (-e.raw_os_error().unwrap_or(5)).to_string(),
    }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).map_or("null".into(), |t| text(t.trim_end()))
}

fn link(path: &str) -> String {
    std::fs::read_link(path).map_or("null".into(), |p| text(&p.display().to_string()))
}

/// The links of a directory, by name.
fn entries(dir: &str) -> String {
    let Ok(list) = std::fs::read_dir(dir) else { return "null".into() };
    let names: Vec<String> = list.flatten().map(|e| e.file_name().display().to_string()).collect();
    map(names.into_iter().map(|name| {
        let target = link(&format!("{dir}/{name}"));
        (name, target)
    }))
}

fn names(dir: &str) -> String {
    let Ok(list) = std::fs::read_dir(dir) else { return "null".into() };
    array(list.flatten().map(|e| text(&e.file_name().display().to_string())))
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn map(pairs: impl Iterator<Item = (String, String)>) -> String {
    let items: Vec<String> = pairs.map(|(k, v)| format!("{}:{v}", text(&k))).collect();
    format!("{{{}}}", items.join(","))
}

fn object(pairs: Vec<(&str, String)>) -> String {
    map(pairs.into_iter().map(|(k, v)| (k.to_string(), v)))
}
