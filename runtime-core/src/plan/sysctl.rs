//! Which sysctls a container may set, and where they lie below `/proc/sys`.
//!
//! Only keys that belong to a namespace of the container: anything else would change the host.

use std::collections::HashMap;

use rsrun_init::step::Step;

use super::PlanStep;
use super::namespaces::{IPC, NET, Namespaces, USER, UTS};
use super::text::{key, text};
use crate::error::{Error, Result};

const OF_IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The steps that write the sysctls, sorted by name so that equal specs make equal plans.
pub(super) fn steps(
    given: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
) -> Result<Vec<PlanStep>> {
    let mut given: Vec<_> = given.into_iter().flatten().collect();
    given.sort();
    let step = |(name, value): (&String, &String)| {
        let place = format!("/linux/sysctl/{}", key(name));
        let path = path_of(name, &place)?;
        check(&path, namespaces, &place)?;
        Ok(Step::Sysctl {
            path: text(&place, path)?,
            value: text(&place, value)?,
        })
    };
    given.into_iter().map(step).collect()
}

/// The path below `/proc/sys`. As sysctl(8) has it: the first separator found is the one that
/// parts the components, the other one stands for itself (`net.ipv4.conf.eth0/100.forwarding`).
fn path_of(name: &str, place: &str) -> Result<String> {
    let dotted = match name.find(['.', '/']) {
        Some(at) => name.as_bytes().get(at) == Some(&b'.'),
        None => false,
    };
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dotted {
        name.chars().map(swap).collect()
    } else {
        name.to_owned()
    };
    let odd = |part: &str| matches!(part, "" | "." | "..");
    let unfit = |c: char| c.is_control() || c.is_whitespace() || c == '=';
    if path.split('/').any(odd) || path.chars().any(unfit) {
        return Err(Error::spec(
            place,
            format!("{name:?} is not the name of a sysctl"),
        ));
    }
    Ok(path)
}

fn check(path: &str, namespaces: &Namespaces, place: &str) -> Result<()> {
    if path == "kernel/hostname" {
        return Err(Error::spec(
            place,
            "the hostname is set by the hostname field of the spec",
        ));
    }
    let (needed, word) = if OF_IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        (IPC, "ipc")
    } else if path.starts_with("net/") {
        (NET, "network")
    } else if path == "kernel/domainname" {
        (UTS, "uts")
    } else if path.starts_with("user/") {
        (USER, "user")
    } else {
        return Err(Error::spec(
            place,
            "the sysctl is not in a namespace of the container: it would change the host",
        ));
    };
    if namespaces.has(needed) {
        return Ok(());
    }
    Err(Error::spec(
        place,
        format!("the sysctl needs a {word} namespace of the container's own"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::namespaces::{CGROUP, PID};
    use super::*;

    fn path(name: &str, has: u64) -> Result<PlanStep> {
        let given = HashMap::from([(name.to_owned(), "1".to_owned())]);
        let namespaces = Namespaces {
            new: has,
            joined: Vec::new(),
        };
        steps(Some(&given), &namespaces).map(|mut steps| steps.remove(0))
    }

    #[test]
    fn sysctls_of_the_containers_namespaces_are_accepted_in_both_spellings() {
        for (name, file) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            (
                "net/ipv4/conf/eth0.100/forwarding",
                "net/ipv4/conf/eth0.100/forwarding",
            ),
            (
                "net.ipv4.conf.eth0/100.forwarding",
                "net/ipv4/conf/eth0.100/forwarding",
            ),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
            ("user.max_user_namespaces", "user/max_user_namespaces"),
        ] {
            let step = path(name, NET | IPC | UTS | USER).unwrap();
            let Step::Sysctl { path, .. } = step else {
                panic!()
            };
            assert_eq!(path.to_str().unwrap(), file);
        }
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        for name in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced=1+kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net.ipv4.x/../..",
            "net",
            "net.",
            "",
            "vm.swappiness",
            "kernel.hostname",
            "net.ipv4.ip_forward\n",
            "fs.mqueue./.core",
        ] {
            assert!(path(name, NET | IPC | UTS | USER).is_err(), "{name:?}");
        }
        assert!(path("net.ipv4.ip_forward", IPC | UTS | PID | CGROUP).is_err());
        assert!(path("kernel.sem", NET).is_err());
    }
}
