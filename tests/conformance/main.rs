//! Does a container look from inside as its config.json says?
//!
//! The suite drives a runc-compatible command line (`RSRUN_TEST_CLI`, else `rsrun` of `RSRUN_BIN`) and has to pass
//! with runc as well: a case that fails there is a wrong case, or it names the difference. With
//! `RSRUN_SUITE_SCOPE=controllers` only what needs cgroup controllers is run, and the default specs.
mod args;
mod cgroups;
mod chroots;
mod creations;
mod default_fields;
mod default_mounts;
mod default_specs;
mod descriptors;
mod devices;
mod exec_files;
mod execs;
mod foreign_users;
mod formats;
mod hooks;
mod identity;
mod insight;
mod kernel_state;
mod life;
mod limits;
mod mount_options;
mod mounts;
mod namespaces;
mod procfs;
mod records;
mod rootfs;
mod seccomp;
mod sysctls;
mod terminals;
mod user_namespaces;

use rsrun_tests::cli::suite::Suite;

fn main() -> std::process::ExitCode {
    let mut suite = Suite::default();
    // In an emulated machine a case takes seconds; what it alone can show is asked for there.
    let controllers_only =
        std::env::var_os("RSRUN_SUITE_SCOPE").is_some_and(|s| s == "controllers");
    if !controllers_only {
        args::cases(&mut suite);
        identity::cases(&mut suite);
        kernel_state::cases(&mut suite);
        namespaces::cases(&mut suite);
        user_namespaces::cases(&mut suite);
        foreign_users::cases(&mut suite);
        mounts::cases(&mut suite);
        mount_options::cases(&mut suite);
        rootfs::cases(&mut suite);
        chroots::cases(&mut suite);
        creations::cases(&mut suite);
        descriptors::cases(&mut suite);
        procfs::cases(&mut suite);
        devices::cases(&mut suite);
        seccomp::cases(&mut suite);
        sysctls::cases(&mut suite);
        terminals::cases(&mut suite);
        hooks::cases(&mut suite);
        life::cases(&mut suite);
        execs::cases(&mut suite);
        formats::cases(&mut suite);
        insight::cases(&mut suite);
        exec_files::cases(&mut suite);
        records::cases(&mut suite);
    }
    limits::cases(&mut suite);
    cgroups::cases(&mut suite);
    default_specs::cases(&mut suite);
    suite.run()
}
