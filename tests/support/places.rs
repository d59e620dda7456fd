//! Where are the things under test? `hack/env.sh` says it in the environment.

use std::path::PathBuf;

use crate::suite::{Check, fail};

/// What is tested and with what, read from the environment once per use.
#[derive(Clone, Debug)]
pub struct Places {
    /// Runtime name for containerd, `RSRUN_TEST_RUNTIME`.
    pub runtime: String,
    /// Directory of the product's binaries, `RSRUN_BIN`.
    pub bin: PathBuf,
    /// Holds one directory per containerd line, `RSRUN_CONTAINERD_DIR`.
    pub containerd: PathBuf,
    /// Holds one directory per runc line, `RSRUN_RUNC_DIR`.
    pub runc: PathBuf,
    /// An OCI archive with busybox, `RSRUN_IMAGE`.
    pub image: PathBuf,
    /// The same unpacked, `RSRUN_ROOTFS`; shared, so never written to.
    pub rootfs: PathBuf,
}

impl Places {
    /// Reads the environment, with the defaults of `hack/env.sh`.
    pub fn find() -> Self {
        let cache = at("RSRUN_CACHE", || PathBuf::from("/var/cache/rsrun"));
        Self {
            runtime: std::env::var("RSRUN_TEST_RUNTIME")
                .unwrap_or_else(|_| "io.containerd.rsrun.v2".into()),
            bin: at("RSRUN_BIN", beside_the_tests),
            containerd: at("RSRUN_CONTAINERD_DIR", || cache.join("containerd")),
            runc: at("RSRUN_RUNC_DIR", || cache.join("runc")),
            image: at("RSRUN_IMAGE", || cache.join("image/busybox.tar")),
            rootfs: at("RSRUN_ROOTFS", || cache.join("image/rootfs")),
        }
    }

    /// Whether the reference is tested instead of the product.
    pub fn is_runc(&self) -> bool {
        self.runtime == "io.containerd.runc.v2"
    }

    /// The shim's file name: the last two parts of the runtime's name.
    pub fn shim_name(&self) -> String {
        let mut parts: Vec<&str> = self.runtime.rsplit('.').take(2).collect();
        parts.reverse();
        format!("containerd-shim-{}", parts.join("-"))
    }

    /// The shim to start by hand; the reference's comes with a containerd line.
    pub fn shim(&self, line: &str) -> Check<PathBuf> {
        let directory = match self.is_runc() {
            true => self.containerd.join(line).join("bin"),
            false => self.bin.clone(),
        };
        let path = directory.join(self.shim_name());
        match path.exists() {
            true => Ok(path),
            false => fail(format!(
                "no shim at {}: build it, or set RSRUN_BIN",
                path.display()
            )),
        }
    }

    /// The directory of the runc that fits a containerd line: of the same age.
    pub fn runc_for(&self, line: &str) -> PathBuf {
        let newest = self.runc.join("1.6");
        match line.starts_with("1.") || !newest.join("runc").exists() {
            true => self.runc.join("1.1"),
            false => newest,
        }
    }
}

fn at(name: &str, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    std::env::var_os(name).map_or_else(otherwise, PathBuf::from)
}

/// `target/debug/deps/e2e-…` → `target/debug`.
fn beside_the_tests() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .nth(2)
        .map(PathBuf::from)
        .unwrap_or_default()
}
