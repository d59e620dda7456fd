//! The features document of the specification, true to what is supported: nothing is listed that is
//! refused elsewhere, and a test holds each list against the code that reads such words.

use serde_json::{Value, json};

use crate::error::Result;
use crate::host::{self, KernelVersion};
use crate::plan::{CAPABILITY_NAMES, mount_option_words};

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// What libseccomp 2.5 knows.
const ARCHITECTURES: [&str; 19] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const POLICY_MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const POLICY_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

/// The document for the kernel that we run on.
pub fn features() -> Result<Value> {
    let kernel = host::kernel_version()?;
    Ok(document(kernel, libseccomp_version()))
}

fn libseccomp_version() -> Option<String> {
    let version = libseccomp::ScmpVersion::current().ok()?;
    Some(version.to_string())
}

fn document(kernel: KernelVersion, libseccomp: Option<String>) -> Value {
    let supported = |flag: &&str| {
        kernel >= KernelVersion(5, 19) || *flag != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    };
    let flags: Vec<&str> = FLAGS.into_iter().filter(supported).collect();
    let mut capabilities = CAPABILITY_NAMES;
    capabilities.sort_unstable();
    let mut annotations = json!({"io.rsrun.version": env!("CARGO_PKG_VERSION")});
    if let Some(version) = libseccomp {
        annotations["io.github.seccomp.libseccomp.version"] = version.into();
    }
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": HOOKS,
        "mountOptions": mount_option_words(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities.as_slice(),
            "cgroup": {
                "v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": ARCHITECTURES,
                "knownFlags": FLAGS,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "memoryPolicy": {"modes": POLICY_MODES, "flags": POLICY_FLAGS},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Features, LinuxSeccomp, Spec};

    #[test]
    fn the_document_is_read_by_the_types_of_the_specification() {
        let document = features().unwrap();
        let read: Features = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(read.oci_version_max(), "1.3.0");
        assert_eq!(
            document["linux"]["capabilities"].as_array().unwrap().len(),
            41
        );
        assert_eq!(
            document["annotations"]["io.github.seccomp.libseccomp.version"],
            libseccomp_version().unwrap()
        );
    }

    #[test]
    fn every_word_of_a_profile_that_is_listed_compiles() {
        let compiles = |profile: Value| {
            let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
            crate::seccomp::compile(&profile, None).unwrap();
        };
        for action in ACTIONS {
            compiles(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": FLAGS,
                "syscalls": [{"names": ["read"], "action": action}]}));
        }
        for op in OPERATORS {
            compiles(json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
                    "args": [{"index": 0, "value": 1, "op": op}]}]}));
        }
        // Others are of the other byte order and can't be in one filter with the native one.
        for architecture in ARCHITECTURES {
            let profile =
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture]});
            serde_json::from_value::<LinuxSeccomp>(profile).unwrap();
        }
        let little = [
            "AARCH64", "ARM", "MIPSEL", "MIPSEL64", "PPC64LE", "RISCV64", "X32", "X86",
        ];
        for architecture in little {
            compiles(json!({"defaultAction": "SCMP_ACT_ALLOW",
                "architectures": [format!("SCMP_ARCH_{architecture}")]}));
        }
    }

    #[test]
    fn every_namespace_and_memory_policy_that_is_listed_is_read() {
        for kind in NAMESPACES {
            let spec = json!({"ociVersion": "1.0.0", "linux": {"namespaces": [{"type": kind}]}});
            serde_json::from_value::<Spec>(spec).unwrap();
        }
        for mode in POLICY_MODES {
            let policy = json!({"mode": mode, "flags": POLICY_FLAGS});
            let spec = json!({"ociVersion": "1.0.0", "linux": {"memoryPolicy": policy}});
            serde_json::from_value::<Spec>(spec).unwrap();
        }
    }

    #[test]
    fn a_flag_that_the_kernel_lacks_is_known_but_not_supported() {
        let old = document(KernelVersion(5, 14), None);
        let seccomp = &old["linux"]["seccomp"];
        assert_eq!(seccomp["knownFlags"].as_array().unwrap().len(), 4);
        assert_eq!(seccomp["supportedFlags"].as_array().unwrap().len(), 3);
    }
}
