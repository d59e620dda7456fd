//! Which cgroup `linux.cgroupsPath` names.
//!
//! Pure. The rules are runc's for its "fs" driver on v2: an absolute path is below the mount, a
//! relative one below the *parent* of the caller's own cgroup (the caller's own has processes in it,
//! so no controllers could be enabled there), and without a path the container's id is a relative one.
//! Other than in runc, `..` is refused and not resolved away: a path that has it is a mistake or an
//! attack, and both want to be seen.

use crate::error::{Error, Result};

/// Who makes the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// We do, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd does, as a scope.
    Systemd,
}

/// Where config.json says it.
const POINTER: &str = "/linux/cgroupsPath";

/// Says what is wrong with a path wherever it begins.
pub fn check(driver: Driver, cgroups_path: Option<&str>) -> Result<()> {
    let asked = cgroups_path.unwrap_or_default();
    if driver == Driver::Systemd {
        return Err(Error::unsupported(
            "systemd cgroup driver",
            "the systemd cgroup driver is not supported",
        ));
    }
    if is_systemd(asked) {
        return Err(Error::unsupported(
            "systemd cgroup driver",
            format!("{POINTER}: {asked:?} is a path of the systemd cgroup driver"),
        ));
    }
    components(asked).map(drop)
}

/// The path of the container's cgroup below the mount, clean and with its leading slash.
///
/// `own` is the caller's cgroup below the mount, `None` when it lies outside of it.
pub fn resolve(
    driver: Driver,
    cgroups_path: Option<&str>,
    id: &str,
    own: Option<&str>,
) -> Result<String> {
    check(driver, cgroups_path)?;
    let asked = cgroups_path.unwrap_or_default();
    let named = if asked.is_empty() { id } else { asked };
    let own = own.unwrap_or("/");
    let parent = match own.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) if !named.starts_with('/') => parent,
        _ => "",
    };
    let path = format!("{parent}/{}", components(named)?.join("/"));
    if path.trim_end_matches('/').len() <= parent.len() {
        return Err(Error::spec(
            POINTER,
            format!("{asked:?} is the root of the hierarchy, which can't be a container's"),
        ));
    }
    Ok(path)
}

/// The parts of a path below a cgroup, without empty ones and `.`; `..` and NUL are refused.
pub fn components(path: &str) -> Result<Vec<&str>> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| {
            if part == ".." {
                Err(Error::spec(POINTER, format!("{path:?} has \"..\" in it")))
            } else if part.contains(['\0', '\n']) {
                Err(Error::spec(
                    POINTER,
                    format!("{path:?} has a control character in it"),
                ))
            } else {
                Ok(part)
            }
        })
        .collect()
}

/// Whether a path has the form `slice:prefix:name`.
#[must_use]
pub fn is_systemd(cgroups_path: &str) -> bool {
    !cgroups_path.contains('/') && cgroups_path.matches(':').count() == 2
}

#[cfg(test)]
mod tests {
    use super::Driver::{Cgroupfs, Systemd};
    use super::resolve;
    use crate::error::ErrorKind;

    fn path(asked: &str, own: &str) -> String {
        resolve(Cgroupfs, Some(asked), "c1", Some(own)).expect(asked)
    }

    #[test]
    fn an_absolute_path_is_below_the_mount() {
        assert_eq!(
            path("/k8s/pod/c1", "/system.slice/x.service"),
            "/k8s/pod/c1"
        );
        assert_eq!(path("//a/./b/", "/"), "/a/b");
    }

    #[test]
    fn a_relative_path_is_beside_the_callers_own_cgroup() {
        assert_eq!(path("a/b", "/system.slice/x.service"), "/system.slice/a/b");
        assert_eq!(path("a", "/"), "/a");
        assert_eq!(path("a", "/own"), "/a");
    }

    #[test]
    fn without_a_path_the_id_is_one() {
        let own = Some("/system.slice/x.service");
        assert_eq!(
            resolve(Cgroupfs, None, "c1", own).expect("path"),
            "/system.slice/c1"
        );
        assert_eq!(
            resolve(Cgroupfs, Some(""), "c1", own).expect("path"),
            "/system.slice/c1"
        );
        assert_eq!(resolve(Cgroupfs, None, "c1", None).expect("path"), "/c1");
    }

    #[test]
    fn dot_dot_is_refused_wherever_it_stands() {
        for asked in ["/../../x", "a/../../b", "..", "/a/..", "a/..b/../c"] {
            let error = resolve(Cgroupfs, Some(asked), "c1", Some("/own")).expect_err(asked);
            assert!(
                matches!(error.kind(), ErrorKind::InvalidSpec { pointer } if pointer == "/linux/cgroupsPath"),
                "{asked}: {error}"
            );
        }
        assert_eq!(path("/a/..b", "/"), "/a/..b");
    }

    #[test]
    fn the_root_is_no_containers_cgroup() {
        for asked in ["/", "//", "/.", "."] {
            resolve(Cgroupfs, Some(asked), "c1", Some("/system.slice/x")).expect_err(asked);
        }
    }

    #[test]
    fn the_form_of_the_systemd_driver_is_recognised() {
        for asked in ["system.slice:cri-containerd:abc", ":..:", "a:b:"] {
            let error = resolve(Cgroupfs, Some(asked), "c1", Some("/")).expect_err(asked);
            assert!(
                matches!(error.kind(), ErrorKind::Unsupported { feature } if feature == "systemd cgroup driver")
            );
        }
        assert_eq!(path("/a:b:c", "/"), "/a:b:c");
        resolve(Systemd, Some("/a"), "c1", Some("/")).expect_err("systemd was asked for");
    }
}
