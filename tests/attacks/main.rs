//! Is every known attack on a container runtime contained?
//!
//! Families A01–A19 (without A11) and B06 of published attacks, as variants, in the guest of `hack/vm/run` only. Each is judged by one
//! oracle over the whole machine ([`rsrun_tests::containment`]) and by a look of its own. A control does the same
//! to something weak ([`naive`]), so that it is known what the oracle sees.
mod devices;
mod exchange;
mod mounts;
mod naive;
mod plant;
mod roots;
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
    all.run()
}
