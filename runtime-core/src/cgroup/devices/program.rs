//! What the eBPF program for a list of OCI device rules is.
//!
//! Pure. The rules mean what the specification says: they are applied in order, so for each kind of
//! access (read, write, mknod) the *last* rule that names the device decides, and a request is granted
//! when everything it asks for is. The program therefore goes through the rules from the last to the
//! first and keeps the set of accesses that are still undecided:
//!
//! ```text
//! undecided = requested
//! for rule in rules.reversed():
//!     if rule names the device:
//!         if rule denies  and undecided ∩ rule.access ≠ ∅: return DENY
//!         if rule allows: undecided -= rule.access; if undecided = ∅: return ALLOW
//! return DENY
//! ```
//!
//! So a hole in a wildcard is a hole. (runc refuses such rules because cgroup v1 could not do them; crun
//! takes the first rule whose access covers the whole request, so a denied write is let through as
//! read+write.)

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rsrun_init::step::Step;

use crate::error::{Error, Result};
use crate::plan::PlanStep;

/// `BPF_DEVCG_DEV_*`: the lower half of the context's first word.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_*`: its upper half.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

/// One instruction: what `struct bpf_insn` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// `BPF_*` class, operation and source.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Jump distance in instructions, or offset in the context.
    pub off: i16,
    /// Constant.
    pub imm: i32,
}

impl Instruction {
    /// `struct bpf_insn`: code, the two registers as bit fields, offset, constant.
    fn encode(self) -> u64 {
        let Self {
            code,
            dst,
            src,
            off,
            imm,
        } = self;
        let registers = if cfg!(target_endian = "little") {
            dst | src << 4
        } else {
            src | dst << 4
        };
        let [o0, o1] = off.to_ne_bytes();
        let [i0, i1, i2, i3] = imm.to_ne_bytes();
        u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
    }
}

/// A device filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    /// The rules that count, in the order of their list, and what holds for what they leave undecided.
    rules: Vec<Rule>,
    otherwise: bool,
}

impl Program {
    /// The program for `rules`; without any it denies all. `InvalidSpec` for a rule that makes no sense,
    /// at `/linux/resources/devices/N`.
    pub fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Self> {
        let mut rules = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| Rule::read(index, rule))
            .collect::<Result<Vec<_>>>()?;
        // Nothing is undecided after a rule for all: what is before it is not needed, and the verifier
        // refuses code that can't be reached.
        let all = rules.iter().rposition(Rule::is_all);
        let otherwise = all.is_some_and(|at| rules[at].allow);
        rules.drain(..all.map_or(0, |at| at + 1));
        let mut instructions = PROLOGUE.to_vec();
        for rule in rules.iter().rev() {
            append(&mut instructions, rule);
        }
        instructions.extend(answer(otherwise));
        Ok(Self {
            instructions,
            rules,
            otherwise,
        })
    }

    /// Whether none of these steps is something that the program would deny to a process in its cgroup: they make only nodes that
    /// it lets be made, and open no device. A step that may lead further (hooks, a filesystem on a
    /// device, a copy of a directory) counts as denied.
    #[must_use]
    pub fn lets_pass(&self, steps: &[PlanStep]) -> bool {
        steps.iter().all(|step| match step {
            Step::MakeNode {
                mode, major, minor, ..
            } => match mode & libc::S_IFMT {
                libc::S_IFCHR => self.grants(CHAR, MKNOD, *major, *minor),
                libc::S_IFBLK => self.grants(BLOCK, MKNOD, *major, *minor),
                _ => true,
            },
            Step::MountFilesystem {
                fstype, copy_up, ..
            } => !copy_up && WITHOUT_DEVICE.contains(&fstype.as_bytes()),
            Step::OpenConsole { .. } | Step::AwaitHooks | Step::Reborn => false,
            _ => true,
        })
    }

    /// What the program answers.
    fn grants(&self, kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let mut undecided = access;
        for rule in self.rules.iter().rev() {
            let decided = undecided & rule.access;
            if decided == 0 || !rule.names(kind, major, minor) {
                continue;
            }
            undecided &= !decided;
            if !rule.allow || undecided == 0 {
                return rule.allow;
            }
        }
        self.otherwise
    }

    /// The program as the kernel takes it: one `struct bpf_insn` in each word.
    #[must_use]
    pub fn code(&self) -> Vec<u64> {
        self.instructions
            .iter()
            .map(|instruction| instruction.encode())
            .collect()
    }

    /// Its instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

fn append(instructions: &mut Vec<Instruction>, rule: &Rule) {
    let mut code = Vec::new();
    let tests = [
        (rule.kind, None, KIND),
        (rule.major, Some(MAJOR_AT), NUMBER),
        (rule.minor, Some(MINOR_AT), NUMBER),
    ];
    let mut jumps = Vec::new();
    for (wanted, load_from, register) in tests {
        let Some(wanted) = wanted else { continue };
        // Read anew for each rule: were it kept, the verifier would follow each "equal" branch through
        // all rules that are left, and a thousand of them would be a million steps, its limit.
        code.extend(load_from.map(|offset| load(register, offset)));
        jumps.push(code.len());
        code.push(jump_if_not_equal(register, wanted, 0));
    }
    code.extend(rule.verdict());
    for jump in jumps {
        // At most six instructions: always in range.
        code[jump].off = i16::try_from(code.len() - jump - 1).unwrap_or(i16::MAX);
    }
    instructions.extend(code);
}

/// Filesystems that the kernel mounts without opening a device.
const WITHOUT_DEVICE: [&[u8]; 6] = [
    b"proc", b"tmpfs", b"devpts", b"sysfs", b"mqueue", b"cgroup2",
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

impl Rule {
    fn read(index: usize, rule: &LinuxDeviceCgroup) -> Result<Self> {
        let pointer = |field: &str| format!("/linux/resources/devices/{index}/{field}");
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C) => Some(CHAR),
            Some(other @ (LinuxDeviceType::U | LinuxDeviceType::P)) => {
                return Err(Error::spec(
                    pointer("type"),
                    format!("{:?} is none of a, b and c", other.as_str()),
                ));
            }
        };
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number(rule.major(), &pointer("major"))?,
            minor: number(rule.minor(), &pointer("minor"))?,
            access: access(rule.access().as_deref(), &pointer("access"))?,
        })
    }

    /// What is done when it names the device.
    fn verdict(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        if self.access != ALL {
            if self.allow {
                code.push(and(ACCESS, !self.access));
                code.push(jump_if_not_equal(ACCESS, 0, 2));
            } else {
                code.push(copy(ANSWER, ACCESS));
                code.push(and(ANSWER, self.access));
                code.push(jump_if_equal(ANSWER, 0, 2));
            }
        }
        code.extend(answer(self.allow));
        code
    }

    fn names(&self, kind: i32, major: u32, minor: u32) -> bool {
        let any = |wanted: Option<i32>, found: i32| wanted.is_none_or(|wanted| wanted == found);
        any(self.kind, kind)
            && any(self.major, major.cast_signed())
            && any(self.minor, minor.cast_signed())
    }

    fn is_all(&self) -> bool {
        self.access == ALL && self.kind.is_none() && self.major.is_none() && self.minor.is_none()
    }
}

/// Absent and -1 are any.
fn number(value: Option<i64>, pointer: &str) -> Result<Option<i32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number.cast_signed())),
            Err(_) => Err(Error::spec(
                pointer,
                format!("{number} is no device number"),
            )),
        },
    }
}

fn access(letters: Option<&str>, pointer: &str) -> Result<i32> {
    let letters = letters.unwrap_or_default();
    if letters.is_empty() {
        return Err(Error::spec(pointer, "device access cannot be empty"));
    }
    letters.chars().try_fold(0, |bits, letter| {
        Ok(bits
            | match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => {
                    return Err(Error::spec(
                        pointer,
                        format!("{letter:?} is none of r, w and m"),
                    ));
                }
            })
    })
}

// Registers: the answer (scratch before there is one), the context, and what is taken out of it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const NUMBER: u8 = 4;

// struct bpf_cgroup_dev_ctx
const ACCESS_TYPE_AT: i16 = 0;
const MAJOR_AT: i16 = 4;
const MINOR_AT: i16 = 8;

// Codes of linux/bpf.h and linux/bpf_common.h, put together from class | operation | source.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_W | BPF_MEM
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K: 32 bits wide, as all below
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const COPY: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const JUMP_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Takes the kind of device and the requested accesses apart.
const PROLOGUE: [Instruction; 5] = [
    load(KIND, ACCESS_TYPE_AT),
    load(ACCESS, ACCESS_TYPE_AT),
    and(KIND, 0xffff),
    instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    and(ACCESS, ALL),
];

const fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Instruction {
    Instruction {
        code,
        dst,
        src,
        off,
        imm,
    }
}

const fn load(dst: u8, off: i16) -> Instruction {
    instruction(LOAD_WORD, dst, CONTEXT, off, 0)
}

const fn and(dst: u8, imm: i32) -> Instruction {
    instruction(AND, dst, 0, 0, imm)
}

const fn copy(dst: u8, src: u8) -> Instruction {
    instruction(COPY, dst, src, 0, 0)
}

const fn jump_if_equal(dst: u8, imm: i32, off: i16) -> Instruction {
    instruction(JUMP_EQUAL, dst, 0, off, imm)
}

const fn jump_if_not_equal(dst: u8, imm: i32, off: i16) -> Instruction {
    instruction(JUMP_NOT_EQUAL, dst, 0, off, imm)
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(SET, ANSWER, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
