//! The labels that security modules give a process at execve.

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::facts::ProcessDefaults;
use super::text::{literal, text};
use crate::error::{Error, Result};
use crate::host::Host;

/// The profile that AppArmor is to apply at execve.
pub(super) fn apparmor(
    process: &Process,
    defaults: &ProcessDefaults,
    place: &str,
    host: &Host,
) -> Result<Option<(CString, CString)>> {
    let Some(profile) = chosen(process.apparmor_profile(), defaults.apparmor.as_ref()) else {
        return Ok(None);
    };
    let place = format!("{place}/apparmorProfile");
    if !host.apparmor {
        return Err(Error::unsupported(
            &place,
            format!("{place}: profile {profile:?} given, but apparmor is not enabled on this host"),
        ));
    }
    let value = text(&place, format!("exec {profile}"))?;
    let file = if host.apparmor_attributes {
        "apparmor/exec"
    } else {
        "exec"
    };
    Ok(Some((literal(file), value)))
}

/// The label that SELinux is to give the process at execve.
pub(super) fn selinux(
    process: &Process,
    defaults: &ProcessDefaults,
    place: &str,
    host: &Host,
) -> Result<Option<CString>> {
    let Some(label) = chosen(process.selinux_label(), defaults.selinux.as_ref()) else {
        return Ok(None);
    };
    let place = format!("{place}/selinuxLabel");
    if !host.selinux {
        return Err(Error::unsupported(
            &place,
            format!("{place}: label {label:?} given, but selinux is not enabled on this host"),
        ));
    }
    text(&place, label).map(Some)
}

/// A label of the process's own, or the container's; empty is none.
fn chosen<'a>(own: &'a Option<String>, default: Option<&'a String>) -> Option<&'a String> {
    let set = |label: &&String| !label.is_empty();
    own.as_ref().filter(set).or(default.filter(set))
}
