//! Does a device program decide as the rules say, for rules and devices of every kind?

use std::ffi::CStr;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use rsrun_init::step::MountAttributes;

/// Executes a program as the kernel would: registers, 32-bit arithmetic, forward jumps.
fn run(program: &Program, kind: i32, access: i32, major: u32, minor: u32) -> bool {
    let mut registers = [0_u32; 11];
    let context = [(kind | access << 16).cast_unsigned(), major, minor];
    let code = program.instructions();
    let mut at = 0_usize;
    for _ in 0..100_000 {
        let i = code[at];
        at += 1;
        let dst = usize::from(i.dst);
        let src = registers[usize::from(i.src)];
        let imm = i.imm.cast_unsigned();
        match i.code {
            LOAD_WORD => {
                assert_eq!(i.src, CONTEXT);
                registers[dst] = context[usize::try_from(i.off).expect("offset") / 4];
            }
            AND => registers[dst] &= imm,
            SHIFT_RIGHT => registers[dst] >>= imm,
            COPY => registers[dst] = src,
            SET => registers[dst] = imm,
            JUMP_EQUAL if registers[dst] == imm => at += usize::try_from(i.off).expect("forward"),
            JUMP_NOT_EQUAL if registers[dst] != imm => {
                at += usize::try_from(i.off).expect("forward")
            }
            JUMP_EQUAL | JUMP_NOT_EQUAL => {}
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("the program does not end");
}

/// What the specification says, bit by bit: the last rule that names device and access decides.
fn specified(rules: &[LinuxDeviceCgroup], kind: i32, access: i32, major: u32, minor: u32) -> bool {
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            let letter = match bit {
                MKNOD => 'm',
                READ => 'r',
                _ => 'w',
            };
            rules
                .iter()
                .rev()
                .find(|rule| {
                    let any = |field: Option<i64>, value: u32| {
                        field.is_none_or(|field| field == -1 || field == i64::from(value))
                    };
                    let kinds = match rule.typ() {
                        Some(LinuxDeviceType::B) => kind == BLOCK,
                        Some(LinuxDeviceType::C) => kind == CHAR,
                        _ => true,
                    };
                    kinds
                        && any(rule.major(), major)
                        && any(rule.minor(), minor)
                        && rule
                            .access()
                            .as_deref()
                            .unwrap_or_default()
                            .contains(letter)
                })
                .is_some_and(|rule| rule.allow())
        })
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: i64,
    minor: i64,
    access: &str,
) -> LinuxDeviceCgroup {
    LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(typ)
        .major(major)
        .minor(minor)
        .access(access)
        .build()
        .expect("rule")
}

use LinuxDeviceType::{A, B, C};

#[test]
fn without_rules_everything_is_denied() {
    let program = Program::compile(&[]).expect("program");
    assert!(!run(&program, CHAR, READ, 1, 3));
}

#[test]
fn the_usual_list_allows_what_it_names_and_nothing_else() {
    let rules = [
        rule(false, A, -1, -1, "rwm"),
        rule(true, C, 1, 3, "rwm"),
        rule(true, C, -1, -1, "m"),
        rule(true, B, -1, -1, "m"),
        rule(true, C, 136, -1, "rwm"),
    ];
    let program = Program::compile(&rules).expect("program");
    assert!(run(&program, CHAR, READ | WRITE, 1, 3));
    assert!(!run(&program, BLOCK, READ, 1, 3));
    assert!(run(&program, BLOCK, MKNOD, 8, 0));
    assert!(!run(&program, BLOCK, MKNOD | READ, 8, 0));
    assert!(run(&program, CHAR, READ, 136, 77));
    assert!(!run(&program, CHAR, READ, 1, 1));
}

#[test]
fn a_denied_write_is_denied_in_a_request_to_read_and_write() {
    let rules = [rule(true, C, 1, -1, "rwm"), rule(false, C, 1, 3, "w")];
    let program = Program::compile(&rules).expect("program");
    assert!(run(&program, CHAR, READ, 1, 3));
    assert!(!run(&program, CHAR, WRITE, 1, 3));
    assert!(!run(&program, CHAR, READ | WRITE, 1, 3));
    assert!(run(&program, CHAR, READ | WRITE, 1, 5));
}

#[test]
fn a_later_wildcard_wins_and_what_is_before_it_costs_nothing() {
    let rules = [rule(true, C, 1, 3, "rwm"), rule(false, A, -1, -1, "rwm")];
    let program = Program::compile(&rules).expect("program");
    assert!(!run(&program, CHAR, READ, 1, 3));
    assert_eq!(program, Program::compile(&rules[1..]).expect("program"));
    let open =
        Program::compile(&[rules[1].clone(), rule(true, A, -1, -1, "rwm")]).expect("program");
    assert!(run(&open, BLOCK, READ | WRITE | MKNOD, 8, 1));
}

fn node(mode: u32, major: u32, minor: u32) -> PlanStep {
    Step::MakeNode {
        path: c"/dev/x".into(),
        mode: mode | 0o666,
        major,
        minor,
        uid: 0,
        gid: 0,
    }
}

fn mount(fstype: &CStr, copy_up: bool) -> PlanStep {
    Step::MountFilesystem {
        fstype: fstype.into(),
        source: c"x".into(),
        params: Vec::new(),
        flags: 0,
        target: c"/x".into(),
        copy_up,
        after: MountAttributes::default(),
        becomes_proc: false,
    }
}

#[test]
fn steps_pass_that_it_would_not_deny() {
    let program = Program::compile(&crate::plan::default_device_rules()).expect("program");
    let usual = [
        node(libc::S_IFCHR, 1, 3),
        node(libc::S_IFCHR, 10, 229),
        node(libc::S_IFBLK, 8, 0),
        mount(c"tmpfs", false),
        mount(c"proc", false),
        Step::PivotRoot,
    ];
    assert!(program.lets_pass(&usual));
    for step in [
        mount(c"tmpfs", true),
        mount(c"ext4", false),
        mount(c"fuse", false),
        Step::AwaitHooks,
        Step::OpenConsole {
            rows: 0,
            columns: 0,
            uid: 0,
            bind: true,
        },
    ] {
        assert!(!program.lets_pass(std::slice::from_ref(&step)), "{step:?}");
    }
    let nothing = Program::compile(&[]).expect("program");
    assert!(!nothing.lets_pass(&usual[..1]));
    assert!(nothing.lets_pass(&[node(libc::S_IFIFO, 0, 0)]));
    let but_one = [rule(true, A, -1, -1, "rwm"), rule(false, C, 10, 229, "m")];
    let but_one = Program::compile(&but_one).expect("program");
    assert!(but_one.lets_pass(&usual[..1]));
    assert!(!but_one.lets_pass(&usual[..2]));
}

#[test]
fn device_numbers_use_all_32_bits() {
    let rules = [rule(true, C, 4_294_967_295, 2_147_483_648, "r")];
    let program = Program::compile(&rules).expect("program");
    assert!(run(&program, CHAR, READ, u32::MAX, 1 << 31));
    assert!(!run(&program, CHAR, READ, u32::MAX, 0));
}

#[test]
fn rules_that_make_no_sense_name_their_place() {
    for (bad, place) in [
        (rule(true, LinuxDeviceType::P, 1, 1, "r"), "type"),
        (rule(true, LinuxDeviceType::U, 1, 1, "r"), "type"),
        (rule(true, C, -2, 1, "r"), "major"),
        (rule(true, C, 1, 1 << 33, "r"), "minor"),
        (rule(true, C, 1, 1, "x"), "access"),
        (rule(true, C, 1, 1, ""), "access"),
    ] {
        let error = Program::compile(&[rule(false, A, -1, -1, "rwm"), bad]).expect_err(place);
        let wanted = format!("/linux/resources/devices/1/{place}");
        assert!(matches!(error.kind(), ErrorKind::InvalidSpec { pointer } if *pointer == wanted));
    }
}

proptest! {
    #[test]
    fn any_list_of_rules_does_what_the_specification_says(
        rules in prop::collection::vec(
            (any::<bool>(), 0..3_usize, -1..3_i64, -1..3_i64, 1..8_usize), 0..12),
        kind in 1..3_i32, access in 1..8_i32, major in 0..3_u32, minor in 0..3_u32,
    ) {
        const ACCESSES: [&str; 8] = ["", "m", "r", "mr", "w", "mw", "rw", "rwm"];
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(allow, typ, major, minor, access)| {
                rule(allow, [A, B, C][typ], major, minor, ACCESSES[access])
            })
            .collect();
        let program = Program::compile(&rules).expect("program");
        let granted = specified(&rules, kind, access, major, minor);
        prop_assert_eq!(run(&program, kind, access, major, minor), granted);
        prop_assert_eq!(program.grants(kind, access, major, minor), granted);
    }
}
