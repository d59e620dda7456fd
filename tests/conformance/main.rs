//! Does a container look from inside as its config.json says?
//!
//! The suite drives a runc-compatible command line (`RSRUN_TEST_CLI`, else `rsrun` of `RSRUN_BIN`) and has to pass
//! with runc as well: a case that fails there is a wrong case, or it names the difference.
mod args;
mod default_fields;
mod default_specs;
mod devices;
mod identity;
mod kernel_state;
mod mount_options;
mod mounts;
mod namespaces;
mod rootfs;
mod user_namespaces;

use rsrun_tests::cli::suite::Suite;

fn main() -> std::process::ExitCode {
    let mut suite = Suite::default();
    args::cases(&mut suite);
    identity::cases(&mut suite);
    kernel_state::cases(&mut suite);
    namespaces::cases(&mut suite);
    user_namespaces::cases(&mut suite);
    mounts::cases(&mut suite);
    mount_options::cases(&mut suite);
    rootfs::cases(&mut suite);
    devices::cases(&mut suite);
    default_specs::cases(&mut suite);
    suite.run()
}
