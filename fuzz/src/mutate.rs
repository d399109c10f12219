//! A small mutator, seeded: the same mutations on every machine, so that a failure is one everywhere.

use std::path::PathBuf;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `most`, which is not 0.
    fn below(&mut self, most: usize) -> usize {
        let most = u64::try_from(most).expect("a length fits u64");
        usize::try_from(self.next() % most).expect("below a length")
    }
}

/// Where parsers go wrong: lengths and counts at their ends.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// How many times as many mutations as usual: for a long run on stable Rust.
const TIMES: &str = "SPOOL_FUZZ_TIMES";

/// Runs `target` on every seed, on what is left of it when it is cut, and on `count` mutations of them all.
///
/// # Panics
/// When the target does; what it was given is kept in a file, which is named on stderr.
pub fn run(name: &str, seeds: &[Vec<u8>], count: u32, target: impl Fn(&[u8])) {
    let try_one = |bytes: &[u8]| {
        let kept = Kept { name, bytes };
        target(bytes);
        drop(kept);
    };
    for seed in seeds {
        try_one(seed);
        for part in 0..8 {
            try_one(&seed[..seed.len() * part / 8]);
        }
    }
    let times = std::env::var(TIMES).ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let mut random = Random(0x5900);
    for _ in 0..count.saturating_mul(times) {
        let Some(seed) = (!seeds.is_empty()).then(|| &seeds[random.below(seeds.len())]) else { return };
        let mut bytes = seed.clone();
        for _ in 0..=random.below(4) {
            change(&mut bytes, seeds, &mut random);
        }
        try_one(&bytes);
    }
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(0);
    }
    // Half of all changes fall into the first bytes, where headers are.
    let reach = if random.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
    let at = random.below(reach);
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next().to_le_bytes()[0],
        2 => {
            let edge = EDGES[random.below(EDGES.len())];
            let width = 1 << random.below(4);
            let number =
                if random.below(2) == 0 { edge.to_le_bytes() } else { edge.rotate_right(8 * width).to_be_bytes() };
            let end = bytes.len().min(at + usize::try_from(width).expect("at most 8"));
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        3 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(64)))),
        4 => {
            let piece = bytes[at..bytes.len().min(at + 1 + random.below(64))].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len().max(1)).min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Keeps what a target panicked on.
struct Kept<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path: PathBuf = std::env::temp_dir().join(format!("spool-fuzz-{}-{}", self.name, std::process::id()));
            match std::fs::write(&path, self.bytes) {
                Ok(()) => eprintln!("{} failed on the bytes kept in {}", self.name, path.display()),
                Err(error) => eprintln!("{} failed on {:?}; {}: {error}", self.name, self.bytes, path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    #[test]
    fn mutations_are_many_and_the_same_each_time() {
        let seeds = [b"a film of sixteen or more bytes".to_vec(), Vec::new()];
        let all = || {
            let seen = RefCell::new(Vec::new());
            run("test", &seeds, 500, |bytes| seen.borrow_mut().push(bytes.to_vec()));
            seen.into_inner()
        };
        let first = all();
        assert_eq!(first, all());
        assert!(first.iter().collect::<BTreeSet<_>>().len() > 250);
    }
}
