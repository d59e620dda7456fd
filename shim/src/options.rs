//! The runtime options of a container, in every form in which a client sends them.

use std::path::{Path, PathBuf};

use containerd_shim_protos::shim::oci::Options as RuncOptions;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use serde::Deserialize;

use crate::wire::{self, Value};

/// What of the options means something to us; absent ones are defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Do not use pivot_root (the host's root is an initramfs).
    pub no_pivot: bool,
    /// Stay in the session keyring of the shim.
    pub no_new_keyring: bool,
    /// cgroup of the serving process.
    pub shim_cgroup: String,
    /// Owner of the pipes handed to the container.
    pub io_uid: Option<u32>,
    /// Group of the pipes handed to the container.
    pub io_gid: Option<u32>,
    /// State root; containerd's namespace is joined below it.
    pub root: Option<PathBuf>,
    /// Use the systemd cgroup driver whatever the form of cgroupsPath.
    pub systemd_cgroup: bool,
}

/// State root when the options name none. Not the command line's: `rsrun list` would take the directories of
/// containerd's namespaces for damaged containers, and a container could not be called `default`.
const DEFAULT_ROOT: &str = "/run/containerd/rsrun";

/// Largest file of options that is read.
const LARGEST_CONFIG: u64 = 1 << 20;

impl Options {
    /// The directory below which the containers of this namespace have their records.
    pub fn state_root(&self, ctr_ns: &str) -> PathBuf {
        self.root
            .as_deref()
            .unwrap_or(Path::new(DEFAULT_ROOT))
            .join(ctr_ns)
    }

    /// From the options object of a request or of stdin. Never fails for an object that it does not know:
    /// containerd's helpers send the options of other runtimes to every runtime.
    pub fn decode(any: &Any) -> Result<Self, String> {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        match name {
            "" => Ok(Self::default()),
            "containerd.runc.v1.Options" => Self::runc(&any.value),
            "runtimeoptions.v1.Options" | "cri.runtimeoptions.v1.Options" => {
                Self::generic(&any.value)
            }
            "containerd.linux.runc.CreateOptions" => Self::ancient(&any.value),
            other => {
                log::warn!("runtime options of type {other} are not known and ignored");
                Ok(Self::default())
            }
        }
        .map_err(|e| format!("runtime options {name}: {e}"))
    }

    fn runc(bytes: &[u8]) -> Result<Self, String> {
        let options = RuncOptions::parse_from_bytes(bytes).map_err(|e| e.to_string())?;
        if !options.binary_name.is_empty() {
            log::info!(
                "option binary_name {:?} is ignored: containers run in process",
                options.binary_name
            );
        }
        Ok(Self {
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            shim_cgroup: options.shim_cgroup,
            io_uid: Some(options.io_uid).filter(|id| *id != 0),
            io_gid: Some(options.io_gid).filter(|id| *id != 0),
            root: absolute(&options.root)?,
            systemd_cgroup: options.systemd_cgroup,
        })
    }

    /// `runtimeoptions.v1.Options{1 type_url, 2 config_path, 3 config_body}`: TOML of our own.
    fn generic(bytes: &[u8]) -> Result<Self, String> {
        let mut path = String::new();
        let mut body = Vec::new();
        for (number, value) in wire::fields(bytes).map_err(|e| e.to_string())? {
            match (number, value) {
                (2, Value::Bytes(bytes)) => {
                    path = String::from_utf8(bytes).map_err(|e| e.to_string())?
                }
                (3, Value::Bytes(bytes)) => body = bytes,
                _ => {}
            }
        }
        if body.is_empty() && !path.is_empty() {
            body = read_config(Path::new(&path)).map_err(|e| format!("config_path {path}: {e}"))?;
        }
        let text = String::from_utf8(body).map_err(|e| e.to_string())?;
        Self::toml(&text)
    }

    fn toml(text: &str) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        for key in table.keys() {
            if !KNOWN_KEYS.contains(&key.as_str()) {
                log::warn!("option {key} is not known and ignored");
            }
        }
        let keys: Keys = table.try_into().map_err(|e| e.to_string())?;
        Ok(Self {
            no_pivot: keys.no_pivot_root,
            no_new_keyring: keys.no_new_keyring,
            shim_cgroup: keys.shim_cgroup,
            io_uid: keys.io_uid,
            io_gid: keys.io_gid,
            root: absolute(&keys.root)?,
            systemd_cgroup: keys.systemd_cgroup,
        })
    }

    /// `containerd.linux.runc.CreateOptions`, which the helpers of containerd 1.6 and 1.7 still produce for
    /// runtimes that are not named after runc.
    fn ancient(bytes: &[u8]) -> Result<Self, String> {
        let mut options = Self::default();
        for (number, value) in wire::fields(bytes).map_err(|e| e.to_string())? {
            match number {
                1 => options.no_pivot = value.flag().unwrap_or_default(),
                8 => options.no_new_keyring = value.flag().unwrap_or_default(),
                9 => options.shim_cgroup = value.text().unwrap_or_default(),
                10 => options.io_uid = value.number().and_then(|n| u32::try_from(n).ok()),
                11 => options.io_gid = value.number().and_then(|n| u32::try_from(n).ok()),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// A file of options. Whatever a request names is opened here: what is no regular file could hang us, or never end.
fn read_config(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, Read};
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut body = Vec::new();
    file.take(LARGEST_CONFIG + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST_CONFIG {
        return Err(Error::other("it is larger than 1 MiB"));
    }
    Ok(body)
}

/// Keys of the TOML table: those of the runc handler's `options` table in containerd's CRI configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Keys {
    no_pivot_root: bool,
    no_new_keyring: bool,
    shim_cgroup: String,
    io_uid: Option<u32>,
    io_gid: Option<u32>,
    root: String,
    systemd_cgroup: bool,
}

/// `BinaryName` and `Criu*` belong to the same table and mean nothing here: no warning for them.
const KNOWN_KEYS: [&str; 11] = [
    "NoPivotRoot",
    "NoNewKeyring",
    "ShimCgroup",
    "IoUid",
    "IoGid",
    "Root",
    "SystemdCgroup",
    "BinaryName",
    "CriuPath",
    "CriuImagePath",
    "CriuWorkPath",
];

fn absolute(root: &str) -> Result<Option<PathBuf>, String> {
    match root {
        "" => Ok(None),
        path if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
            Ok(Some(PathBuf::from(path)))
        }
        path => Err(format!("root {path:?} is not an absolute, plain path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    fn any(name: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: format!("types.example/{name}"),
            value,
            ..Any::default()
        }
    }

    #[test]
    fn runc_options_are_taken_field_by_field() {
        let runc = RuncOptions {
            root: "/run/runtimes".into(),
            systemd_cgroup: true,
            io_uid: 1000,
            binary_name: "runc".into(),
            ..RuncOptions::default()
        };
        let options = Options::decode(&any(
            "containerd.runc.v1.Options",
            runc.write_to_bytes().unwrap(),
        ))
        .unwrap();
        assert!(options.systemd_cgroup);
        assert_eq!(options.io_uid, Some(1000));
        assert_eq!(
            options.state_root("k8s.io"),
            Path::new("/run/runtimes/k8s.io")
        );
    }

    #[test]
    fn a_toml_table_in_config_body_says_the_same() {
        let mut message = Writer::new();
        message.text(
            3,
            "SystemdCgroup = true\nRoot = \"/r\"\nIoUid = 5\nNewFancy = 1\n",
        );
        let options =
            Options::decode(&any("runtimeoptions.v1.Options", message.into_bytes())).unwrap();
        assert!(options.systemd_cgroup);
        assert_eq!(options.io_uid, Some(5));
        assert_eq!(options.root.as_deref(), Some(Path::new("/r")));
    }

    #[test]
    fn the_ancient_create_options_are_understood() {
        let mut message = Writer::new();
        message.number(1, 1);
        message.text(9, "/shims");
        message.number(10, 7);
        let options = Options::decode(&any(
            "containerd.linux.runc.CreateOptions",
            message.into_bytes(),
        ))
        .unwrap();
        assert!(options.no_pivot);
        assert_eq!(
            (options.shim_cgroup.as_str(), options.io_uid),
            ("/shims", Some(7))
        );
    }

    #[test]
    fn nothing_and_strangers_mean_defaults() {
        assert_eq!(
            Options::decode(&Any::default()).unwrap(),
            Options::default()
        );
        assert_eq!(
            Options::decode(&any("x.y.Options", vec![0xff])).unwrap(),
            Options::default()
        );
        assert_eq!(
            Options::default().state_root("default"),
            Path::new("/run/containerd/rsrun/default")
        );
    }

    #[test]
    fn a_config_path_is_read_only_if_it_is_a_file_of_some_size() {
        let given = |path: &str| {
            let mut message = Writer::new();
            message.text(2, path);
            Options::decode(&any("runtimeoptions.v1.Options", message.into_bytes()))
        };
        for device in ["/dev/zero", "/dev/tty", "/proc"] {
            assert!(given(device).unwrap_err().contains(device));
        }
        let place = std::env::temp_dir().join(format!("rsrun-options-{}", std::process::id()));
        std::fs::write(&place, "SystemdCgroup = true\n").unwrap();
        let options = given(place.to_str().unwrap());
        std::fs::write(&place, vec![b'#'; 2 << 20]).unwrap();
        let long = given(place.to_str().unwrap());
        std::fs::remove_file(&place).unwrap();
        assert!(options.unwrap().systemd_cgroup);
        assert!(long.unwrap_err().contains("larger than 1 MiB"));
    }

    #[test]
    fn a_root_that_climbs_is_refused() {
        let runc = RuncOptions {
            root: "/run/../etc".into(),
            ..RuncOptions::default()
        };
        let decoded = Options::decode(&any(
            "containerd.runc.v1.Options",
            runc.write_to_bytes().unwrap(),
        ));
        assert!(decoded.unwrap_err().contains("/run/../etc"));
    }
}
