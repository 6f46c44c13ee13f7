//! The checks of the fuzz targets on their seeds and a bounded number of mutations of them, the same ones every time: what
//! runs where libFuzzer does not. See `fuzz/README.md`.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::panic::catch_unwind;
use std::path::Path;

use fastrand::Rng;

/// Mutations of all seeds together; a few seconds without optimization.
const ROUNDS: usize = 4_000;

#[test]
fn log_frames_are_read_without_harm() {
    bombard("log_frame", checks::log_frame);
}

#[test]
fn filters_are_read_without_harm() {
    bombard("filter", checks::filter);
}

#[test]
fn page_tokens_are_read_without_harm() {
    bombard("page_token", checks::page_token);
}

/// Runs a check on every seed, all of which it must understand, and on mutations, some of which it must understand.
fn bombard(target: &str, check: fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    for seed in &seeds {
        assert!(check(seed), "a seed of {target} is not understood: {}", seed.escape_ascii());
    }
    let mut random = Rng::with_seed(0xcc);
    let mut understood = 0;
    for round in 0..ROUNDS {
        let input = mutated(&seeds, &mut random);
        match catch_unwind(|| check(&input)) {
            Ok(is_understood) => understood += usize::from(is_understood),
            Err(_) => panic!("{target} fails in round {round} on b\"{}\"", input.escape_ascii()),
        }
    }
    assert!((1..ROUNDS).contains(&understood), "{understood} of {ROUNDS} mutations of {target} are understood");
}

/// The files in the target's folder of seeds, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(folder).expect("the seeds are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed is readable")).collect()
}

/// A seed with one to four small injuries.
fn mutated(seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 => bytes.insert(at, random.u8(..)),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(..at, [])),
            3 => {
                let other = &seeds[random.usize(..seeds.len())];
                bytes.splice(at.., other[random.usize(..=other.len())..].iter().copied());
            }
            4 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            _ if at < bytes.len() => bytes[at] = *random.choice(b"\0\x01\xff\"()=: 9aZ").expect("it is not empty"),
            _ => {}
        }
    }
    bytes
}
