//! Every fuzz target over its committed seeds, and over some mutations of each: what a fuzzer found stays found.

#[path = "../../fuzz/bodies/mod.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it as a library")]
mod bodies;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use bodies::{TARGETS, Target};

/// A small generator with a fixed seed for each input (xorshift, Marsaglia 2003): a failure repeats.
struct Dice(u64);

impl Dice {
    fn of(name: &str, bytes: &[u8]) -> Self {
        let mix = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.as_bytes().iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, mix) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }
}

/// Bytes at which parsers turn.
const TURNS: &[u8] = b"\0\n\r\t \"'\\/.,:;-+=%{}[]()*#@$&?!<>0129azAZ\x1b\x7f\x80\xc3\xff";

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let (at, turn) = (dice.below(bytes.len() + 1), TURNS[dice.below(TURNS.len())]);
        let to = (at + dice.below(16)).min(bytes.len());
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = turn,
            2 => drop(bytes.drain(at..to)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            5 => {
                let from = dice.below(other.len() + 1);
                let part = &other[from..(from + dice.below(32)).min(other.len())];
                drop(bytes.splice(at..to, part.iter().copied()));
            }
            _ => bytes.insert(at, turn),
        }
    }
}

fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new("fuzz/corpus").join(target.name);
    let mut seeds: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    seeds
}

fn holds(target: &Target, seed: &str, bytes: &[u8]) {
    let held = catch_unwind(|| (target.run)(bytes));
    assert!(held.is_ok(), "`{}` breaks on this, from the seed `{seed}`:\n{}", target.name, bytes.escape_ascii());
}

fn replay(target: &Target) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        holds(target, name, seed);
        let mut dice = Dice::of(target.name, seed);
        for _ in 0..target.mutations {
            let mut bytes = seed.clone();
            let other = &seeds[dice.below(seeds.len())].1;
            mutate(&mut bytes, other, &mut dice);
            holds(target, name, &bytes);
        }
    }
}

fn broken<'a>(targets: impl Iterator<Item = &'a Target>) -> Vec<&'static str> {
    targets.filter(|target| catch_unwind(|| replay(target)).is_err()).map(|target| target.name).collect()
}

#[test]
fn every_target_holds_over_its_corpus() {
    let found: Vec<_> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| scope.spawn(move || broken(TARGETS.iter().skip(half).step_by(2))));
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "broken: {found:?}; the inputs stand above");
}

#[test]
#[should_panic(expected = "`names` breaks on this")]
fn a_broken_property_is_found() {
    replay(&Target { name: "names", run: |bytes| assert!(!bytes.ends_with(b"\xff"), "planted"), mutations: 2_000 });
}

#[test]
fn the_list_of_targets_is_whole() {
    let listed: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap();
    let built: BTreeSet<_> =
        manifest.split("[[bin]]\nname = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap())).collect()
    };
    assert_eq!((&built, &names("fuzz/fuzz_targets"), &names("fuzz/corpus")), (&listed, &listed, &listed));
}
