//! Compiled profiles, run in a small interpreter of classic BPF.

use super::*;
use serde_json::json;

const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const NOTIFY: u32 = 0x7fc0_0000;

const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

fn compiled(profile: serde_json::Value) -> Result<SeccompProgram> {
    compile(&serde_json::from_value(profile).unwrap(), None)
}

/// What the program answers for a call.
fn answer(program: &SeccompProgram, architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut bytes = Vec::new();
    bytes.extend(number.to_le_bytes());
    bytes.extend(architecture.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    args.iter().for_each(|arg| bytes.extend(arg.to_le_bytes()));
    let word = |at: u32| {
        let at = at as usize;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let FilterLine { code, jt, jf, k } = program.lines[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => a = word(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn native(program: &SeccompProgram, number: u32, args: [u64; 6]) -> u32 {
    answer(program, X86_64, number, args)
}

const READ: u32 = 0;
const SOCKET: u32 = 41;
const PERSONALITY: u32 = 135;
const CLONE3: u32 = 435;

#[test]
fn every_action_compiles_to_its_return_value() {
    for (action, value) in [
        ("SCMP_ACT_KILL", KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", errno(1)),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", NOTIFY),
    ] {
        let program = compiled(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": action}],
        }))
        .unwrap();
        assert_eq!(native(&program, READ, [0; 6]), value, "{action}");
        assert_eq!(native(&program, SOCKET, [0; 6]), ALLOW);
        assert_eq!(program.listener.is_some(), action == "SCMP_ACT_NOTIFY");
    }
}

#[test]
fn errno_return_values_are_taken_and_refused_where_the_action_has_none() {
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
    }))
    .unwrap();
    assert_eq!(native(&program, READ, [0; 6]), errno(13));
    assert_eq!(native(&program, SOCKET, [0; 6]), errno(38));
    let refused = compiled(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 13}],
    }));
    let error = refused.unwrap_err().to_string();
    assert!(
        error.starts_with("/linux/seccomp/syscalls/0/errnoRet"),
        "{error}"
    );
    assert!(compiled(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000})).is_err());
}

#[test]
fn every_operator_compares_64_bits() {
    let big = 1_u64 << 40;
    for (op, value, two, yes, no) in [
        ("SCMP_CMP_NE", big, 0, 0, big),
        ("SCMP_CMP_LT", big, 0, big - 1, big),
        ("SCMP_CMP_LE", big, 0, big, big + 1),
        ("SCMP_CMP_EQ", big, 0, big, 0),
        ("SCMP_CMP_GE", big, 0, big, big - 1),
        ("SCMP_CMP_GT", big, 0, big + 1, big),
        ("SCMP_CMP_MASKED_EQ", 0xff00, 0x1200, 0x1234, 0x3412),
    ] {
        let arg = json!({"index": 2, "op": op, "value": value, "valueTwo": two});
        let program = compiled(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [arg]}],
        }))
        .unwrap();
        let with = |value| native(&program, READ, [9, 9, value, 9, 9, 9]);
        assert_eq!(with(yes), errno(1), "{op}");
        assert_eq!(with(no), ALLOW, "{op}");
    }
}

#[test]
fn conditions_on_different_arguments_hold_together_and_on_one_argument_alternatively() {
    let program = |args| {
        compiled(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args}],
        }))
        .unwrap()
    };
    let equal = |index, value| json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
    let both = program(json!([equal(0, 1), equal(1, 2)]));
    assert_eq!(native(&both, SOCKET, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(native(&both, SOCKET, [1, 3, 0, 0, 0, 0]), errno(1));
    let any = program(json!([equal(0, 1), equal(0, 16), equal(1, 2)]));
    for args in [[1, 9, 0, 0, 0, 0], [16, 9, 0, 0, 0, 0], [9, 2, 0, 0, 0, 0]] {
        assert_eq!(native(&any, SOCKET, args), ALLOW);
    }
    assert_eq!(native(&any, SOCKET, [9, 9, 0, 0, 0, 0]), errno(1));
}

#[test]
fn calls_newer_than_the_profile_are_unknown_and_older_ones_are_denied() {
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["read", "personality"], "action": "SCMP_ACT_ALLOW"}],
    }))
    .unwrap();
    assert_eq!(native(&program, READ, [0; 6]), ALLOW);
    assert_eq!(native(&program, SOCKET, [0; 6]), errno(1));
    assert_eq!(native(&program, PERSONALITY, [0; 6]), ALLOW);
    assert_eq!(native(&program, PERSONALITY + 1, [0; 6]), errno(38));
    assert_eq!(native(&program, CLONE3, [0; 6]), errno(38));
    // read is 3 and personality 136 for 32 bits; x32 numbers have bit 30.
    assert_eq!(answer(&program, I386, 3, [0; 6]), ALLOW);
    assert_eq!(answer(&program, I386, 4, [0; 6]), errno(1));
    assert_eq!(answer(&program, I386, 137, [0; 6]), errno(38));
    assert_eq!(native(&program, 0x4000_0000, [0; 6]), ALLOW);
    assert_eq!(native(&program, 0x4000_0000 + 1, [0; 6]), errno(1));
    assert_eq!(native(&program, 0x4000_0000 + 136, [0; 6]), errno(38));
    // No section for a foreign architecture: libseccomp's own answer holds.
    assert_eq!(answer(&program, 0xC000_00B7, 63, [0; 6]), KILL_THREAD);
}

#[test]
fn the_stub_stands_only_before_profiles_that_deny_by_default() {
    let lines = |default: &str, errno: Option<u32>| {
        compiled(json!({
            "defaultAction": default, "defaultErrnoRet": errno,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_KILL"}],
        }))
        .unwrap()
    };
    assert_eq!(
        native(&lines("SCMP_ACT_ALLOW", None), CLONE3, [0; 6]),
        ALLOW
    );
    assert_eq!(
        native(&lines("SCMP_ACT_ERRNO", None), CLONE3, [0; 6]),
        errno(38)
    );
    assert_eq!(
        native(&lines("SCMP_ACT_KILL_PROCESS", None), CLONE3, [0; 6]),
        errno(38)
    );
    assert_eq!(
        native(&lines("SCMP_ACT_ERRNO", Some(38)), CLONE3, [0; 6]),
        errno(38)
    );
    assert_eq!(
        lines("SCMP_ACT_ERRNO", Some(38)).lines[0].k,
        4,
        "libseccomp's own first line"
    );
}

#[test]
fn unknown_calls_are_passed_over_and_rules_that_say_the_default_too() {
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["no_such_call", &"x".repeat(100), "read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO"},
        ],
    }))
    .unwrap();
    assert_eq!(native(&program, READ, [0; 6]), ALLOW);
    assert_eq!(native(&program, SOCKET, [0; 6]), errno(1));
}

#[test]
fn flags_are_those_of_the_system_call() {
    let flags = |flags: serde_json::Value, action: &str| {
        compiled(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
            "syscalls": [{"names": ["read"], "action": action}],
        }))
        .unwrap()
        .flags
    };
    assert_eq!(flags(json!(null), "SCMP_ACT_KILL"), FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!([]), "SCMP_ACT_KILL"), 0);
    let all = json!([
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    assert_eq!(
        flags(all.clone(), "SCMP_ACT_KILL"),
        FLAG_LOG | FLAG_SPEC_ALLOW
    );
    assert_eq!(
        flags(all, "SCMP_ACT_NOTIFY"),
        FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_WAIT_KILLABLE_RECV
    );
}

#[test]
fn profiles_that_make_no_sense_are_refused_with_their_place() {
    let notify = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
    let metadata = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"});
    let argument = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
            "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]}],
    });
    for (profile, place) in [
        (notify, "/linux/seccomp/defaultAction"),
        (metadata, "/linux/seccomp/listenerMetadata"),
        (argument, "/linux/seccomp/syscalls/0/args/0/index"),
    ] {
        let error = compiled(profile).unwrap_err().to_string();
        assert!(error.starts_with(place), "{error}");
    }
}

#[test]
fn a_program_survives_being_written_and_read() {
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}],
    }))
    .unwrap();
    let text = serde_json::to_string(&program).unwrap();
    assert_eq!(
        serde_json::from_str::<SeccompProgram>(&text).unwrap(),
        program
    );
}
