//! Scene changes, guessed from what a packet index tells: where the source's encoder set keyframes, and how large its packets are.

use super::cuts::Scene;
use crate::packets::PacketIndex;

/// One source frame as its encoder left it, in display order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded {
    pub key: bool,
    pub bytes: u32,
}

/// Frames before and after a keyframe whose sizes are compared.
const AROUND: usize = 12;
/// Sum of the changes in size (as natural logarithms) that makes a keyframe out of the usual rhythm a sure scene change, and one
/// at the longest distance a doubtful one. From films whose cuts are known: README.md.
const SURE: f64 = 0.5;
const DOUBTFUL: f64 = 1.0;

/// Whether keyframes may follow scenes. Not where most pictures are keyframes.
pub fn tells(index: &PacketIndex) -> bool {
    let keys = index.packets.iter().filter(|packet| packet.flags.key).count();
    !is_intra(keys, index.packets.len())
}

fn is_intra(keys: usize, frames: usize) -> bool {
    keys * 3 > frames
}

/// Keyframes that look like scene changes, as frames of the source. An intra-only source tells nothing.
pub fn scenes(frames: &[Coded]) -> Vec<Scene> {
    let keys: Vec<usize> = (0..frames.len()).filter(|&at| frames[at].key).collect();
    if is_intra(keys.len(), frames.len()) {
        return Vec::new();
    }
    let distances: Vec<usize> = keys.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rhythm = Rhythm::of(&distances);
    let mut scenes = Vec::new();
    for pair in keys.windows(2) {
        let [before, at] = [pair[0], pair[1]];
        let change = change(frames, before, at);
        let distance = at - before;
        let sure = match rhythm.is_up(distance) {
            false => change >= SURE,
            true if change >= DOUBTFUL && rhythm.usual != Some(distance) => false,
            true => continue,
        };
        scenes.push(Scene { frame: u64::try_from(at).expect("memory is smaller than 2^64"), sure });
    }
    scenes
}

/// Distances at which keyframes stand because time was up.
struct Rhythm {
    longest: usize,
    /// A distance that a third of all have.
    usual: Option<usize>,
}

impl Rhythm {
    fn of(distances: &[usize]) -> Rhythm {
        let mut sorted = distances.to_vec();
        sorted.sort_unstable();
        let usual = sorted.chunk_by(|a, b| a == b).max_by_key(|run| run.len());
        Rhythm {
            longest: sorted.last().copied().unwrap_or(0),
            usual: usual.filter(|run| run.len() * 3 >= sorted.len()).map(|run| run[0]),
        }
    }

    fn is_up(&self, distance: usize) -> bool {
        distance * 20 >= self.longest * 19 || self.usual == Some(distance)
    }
}

/// How much the picture's cost changes at the keyframe `at`: against the keyframe before, and around it.
fn change(frames: &[Coded], before: usize, at: usize) -> f64 {
    let mean = |range: &[Coded]| {
        let bytes: f64 = range.iter().map(|frame| f64::from(frame.bytes)).sum();
        #[expect(clippy::cast_precision_loss, reason = "at most a few frames")]
        let count = range.len().max(1) as f64;
        (bytes / count).max(1.0)
    };
    let ratio = |new: f64, old: f64| (new / old).ln().abs();
    let ahead = &frames[at.saturating_sub(AROUND).max(before + 1).min(at)..at];
    let behind = &frames[(at + 1).min(frames.len())..(at + 1 + AROUND).min(frames.len())];
    let keys = ratio(f64::from(frames[at].bytes.max(1)), f64::from(frames[before].bytes.max(1)));
    if ahead.is_empty() || behind.is_empty() { keys } else { keys + ratio(mean(behind), mean(ahead)) }
}
