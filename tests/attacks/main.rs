//! Is every known attack on a container runtime contained?
//!
//! The 46 families of published attacks (A: paths and mounts, B: binaries, descriptors, identity, C: sockets, cgroups,
//! filters, input), as variants, in the guest of `hack/vm/run` only. Each is judged by one oracle over the whole
//! machine ([`rsrun_tests::containment`]) and by a look of its own. A control does the same to something weak
//! ([`naive`]), so that it is known what the oracle sees.
//!
//! | file | families |
//! |---|---|
//! | `devices` | A01 default devices, A02 streams, A03 console, A04 masks, A05 terminals |
//! | `mounts` | A06 settings and labels, A07 destinations, A08 missing ones, A09 and A10 procfs, A12 covers |
//! | `roots` | A13 roots, A14 own files, A18 propagation, A19 flags |
//! | `words` | A15 cgroup paths, A16 ids, A17 settings, B06 users |
//! | `shims` | A16 ids of requests, A20 checkpoints, A21 root mounts, B03 descriptors of a busy shim, C01 sockets |
//! | `newcomers` | B01 own binary, B04 newcomers |
//! | `descriptors` | B02 working directories, B03 descriptors |
//! | `identity` | B05 inheritable sets, B08 groups, B12 keyrings and terminals, B13 set-user-ID |
//! | `image` | A11 labels, B07 passwd and group, B10 hooks, B11 libraries |
//! | `input` | B09 sizes, C06 annotations, C08 filters, C11 malformed |
//! | `cgroups` | C02 rights, C03 mounts, C04 places, C09 devices, C10 dying |
//! | `peers` | C05 log URIs, C07 output, C12 frames |
//!
//! What of them is elsewhere or not at all: a swap before each single call is `attack_races`; restoring a checkpoint is
//! refused, so its archive has no attack (A20); labels are AppArmor's, the guest's kernel has no SELinux (A06, A11); the
//! systemd driver is refused, so no property reaches it (A15, C06).
mod cgroups;
mod descriptors;
mod devices;
mod exchange;
mod identity;
mod image;
mod input;
mod mounts;
mod naive;
mod newcomers;
mod peers;
mod plant;
mod roots;
mod shims;
mod words;

use rsrun_tests::containment::suite::Attacks;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = args.split_first()
        && first == naive::WORD
    {
        return naive::act(rest);
    }
    let mut all = Attacks::default();
    devices::families(&mut all);
    mounts::families(&mut all);
    roots::families(&mut all);
    words::families(&mut all);
    newcomers::families(&mut all);
    descriptors::families(&mut all);
    identity::families(&mut all);
    image::families(&mut all);
    input::families(&mut all);
    cgroups::families(&mut all);
    shims::families(&mut all);
    peers::families(&mut all);
    nothing_is_lost(&all);
    all.run()
}

/// All that was promised has to be there: a family that is lost is a failure before any case.
fn nothing_is_lost(all: &Attacks) {
    let found = all.count();
    for (letter, last) in [('a', 21), ('b', 13), ('c', 12)] {
        for number in 1..=last {
            let name = format!("{letter}{number:02}");
            let attacks = found.get(&name).map_or(0, |(attacks, _)| *attacks);
            assert!(attacks > 0, "no attack of family {name}");
        }
    }
    let controls: usize = found.values().map(|(_, controls)| controls).sum();
    assert!(controls >= 12, "{controls} controls");
}
