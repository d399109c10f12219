//! Where to cut, in output frames: see README.md.

use spool_proto::spec::{Rational, VideoCodec, VideoSpec};

/// When an encoder sets keyframes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gop {
    /// Most frames from keyframe to keyframe; after as many there is one.
    pub frames: u64,
    /// The encoder also sets one where the scene changes, this many frames after the last one at the earliest.
    pub scene_after: Option<u64>,
}

impl Gop {
    /// `rate`: the encoder's frame rate.
    pub fn of(spec: &VideoSpec, rate: Rational) -> Gop {
        let asked = spec.gop_frames.map(|frames| u64::from(frames.max(1)));
        match spec.codec {
            _ if spec.fixed_gop => Gop { frames: asked.unwrap_or(1), scene_after: None },
            // keyint 250, min-keyint a tenth of it; x264 keeps min-keyint within one second too.
            VideoCodec::Libx264 | VideoCodec::Libx265 => {
                let frames = asked.unwrap_or(250);
                Gop { frames, scene_after: Some((frames / 10).max(1)) }
            }
            VideoCodec::Libsvtav1 => Gop { frames: asked.unwrap_or_else(|| svt_interval(rate)), scene_after: None },
            // libvpx's kf_max_dist. In one pass it looks for no scene changes.
            VideoCodec::LibvpxVp9 => Gop { frames: asked.unwrap_or(128), scene_after: None },
        }
    }
}

/// SVT-AV1's interval when none is asked for (`compute_default_intra_period` of 1.4): five times the whole seconds' frames rounded
/// to its mini-GOP of 16, and one frame.
fn svt_interval(rate: Rational) -> u64 {
    const MINI_GOP: u64 = 16;
    let fps = u64::try_from(rate.num / rate.den.max(1)).unwrap_or(0);
    let below = fps / MINI_GOP * MINI_GOP;
    let above = below + MINI_GOP;
    let nearest = if above - fps > fps - below { below } else { above };
    5 * nearest + 1
}

/// Lengths of chunks, in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    pub target: u64,
    pub min: u64,
    pub max: u64,
}

impl Lengths {
    /// For chunks near `target` frames, where a second has `second` frames. A chunk may grow to twice the target, and to the
    /// encoder's interval where that is within half a minute; none is shorter than a quarter of the target, or than a second.
    pub fn new(target: u64, second: u64, gop: Gop) -> Lengths {
        let target = target.max(1);
        let interval = gop.frames.min(second.saturating_mul(30));
        Lengths {
            target,
            min: (target / 4).max(second.min(target)).max(1),
            max: (target.saturating_mul(2)).max(interval),
        }
    }

    /// How far a length is from the target: 0 at it, 1000 at twice and at half of it.
    fn distance(self, length: u64) -> u64 {
        let (long, short) = (length.max(self.target), length.min(self.target).max(1));
        long.saturating_mul(1000) / short - 1000
    }
}

/// Why there is a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    Start,
    /// Another clip begins.
    Clip,
    Scene,
    Gop,
    Blind,
}

impl Cut {
    pub fn name(self) -> &'static str {
        match self {
            Cut::Start => "start",
            Cut::Clip => "clip",
            Cut::Scene => "scene",
            Cut::Gop => "gop",
            Cut::Blind => "blind",
        }
    }
}

/// A place where the scene seems to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// First frame after the change.
    pub frame: u64,
    /// There is little doubt.
    pub sure: bool,
}

/// What a doubtful scene change costs, in the measure of [`Lengths::distance`].
const DOUBT: u64 = 1000;

/// Cuts `0..frames`. `scenes` rise. Returns the first frame of each chunk and why it is one; the first is `(0, Start)`.
pub fn cut(frames: u64, scenes: &[Scene], gop: Gop, lengths: Lengths) -> Vec<(u64, Cut)> {
    let mut cuts = vec![(0, Cut::Start)];
    let mut start = 0;
    while let Some((frame, why)) = next_cut(start, frames, scenes, gop, lengths) {
        cuts.push((frame, why));
        start = frame;
    }
    cuts
}

/// Cuts `0..frames` where segments of `segment` frames begin, as many to a chunk as come nearest to `target` frames; half as many more or fewer
/// where a scene changes near such a place. A rest shorter than half a chunk goes to the one before it.
pub fn on_grid(frames: u64, segment: u64, scenes: &[Scene], target: u64) -> Vec<(u64, Cut)> {
    let segment = segment.max(1);
    let usual = (target.saturating_add(segment / 2) / segment).max(1);
    let chunk = usual.saturating_mul(segment);
    let mut cuts = vec![(0, Cut::Start)];
    let mut start = 0u64;
    // A chunk goes on to the film's end where what would be left behind it is too short.
    while frames - start >= chunk.saturating_add(chunk.div_ceil(2)) {
        let most = (frames - start - chunk.div_ceil(2)) / segment;
        let lengths = usual.div_ceil(2)..=usual.saturating_add(usual / 2).min(most);
        // Of two that are as near to the usual length the shorter one.
        let by_scene = lengths.filter(|length| changes_near(scenes, start + length * segment, segment));
        let found = by_scene.min_by_key(|length| length.abs_diff(usual));
        start += found.unwrap_or(usual) * segment;
        cuts.push((start, if found.is_some() { Cut::Scene } else { Cut::Gop }));
    }
    cuts
}

/// A scene surely changes nearer to this place of the grid than to any other.
fn changes_near(scenes: &[Scene], place: u64, segment: u64) -> bool {
    let (from, to) = (place.saturating_sub(segment / 2), place + segment.div_ceil(2));
    let first = scenes.partition_point(|scene| scene.frame < from);
    scenes[first..].iter().take_while(|scene| scene.frame < to).any(|scene| scene.sure)
}

/// Where the chunk that starts at `start` should end; `None`: with the film.
fn next_cut(start: u64, frames: u64, scenes: &[Scene], gop: Gop, lengths: Lengths) -> Option<(u64, Cut)> {
    let left = frames - start;
    let last = start.saturating_add(lengths.max).min(frames.saturating_sub(lengths.min));
    let mut best: Option<(u64, u64, Cut)> = None;
    for (frame, why, cost) in candidates(start, last, scenes, gop) {
        let length = frame - start;
        if length < lengths.min {
            continue;
        }
        let score = lengths.distance(length) + cost;
        if best.is_none_or(|(least, ..)| score < least) {
            best = Some((score, frame, why));
        }
    }
    match best {
        // The rest of the film may be the better chunk.
        Some((score, ..)) if left <= lengths.max && lengths.distance(left) <= score => None,
        Some((_, frame, why)) => Some((frame, why)),
        None if left <= lengths.max => None,
        None => Some((start + lengths.target.min(left - lengths.min), Cut::Blind)),
    }
}

/// Places up to `last` where the encoder, having set a keyframe at `start`, would set one by itself, and where setting one
/// costs little; with what each costs. Rising.
fn candidates(start: u64, last: u64, scenes: &[Scene], gop: Gop) -> Vec<(u64, Cut, u64)> {
    let mut found = Vec::new();
    let mut keyframe = start;
    let first = scenes.partition_point(|scene| scene.frame <= start);
    let mut scenes = scenes[first..].iter().peekable();
    loop {
        let expiry = keyframe.saturating_add(gop.frames);
        match scenes.next_if(|scene| scene.frame <= expiry && scene.frame <= last) {
            Some(scene) => {
                // An encoder that looks for no scene changes pays for each keyframe out of turn; a doubtful one is not worth it.
                if scene.sure || gop.scene_after.is_some() {
                    found.push((scene.frame, Cut::Scene, if scene.sure { 0 } else { DOUBT }));
                }
                let restarts = gop.scene_after.is_some_and(|least| scene.frame - keyframe >= least);
                if (scene.sure && restarts) || scene.frame == expiry {
                    keyframe = scene.frame;
                }
            }
            None if expiry <= last => {
                found.push((expiry, Cut::Gop, 0));
                keyframe = expiry;
            }
            None => return found,
        }
    }
}
