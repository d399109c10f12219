//! Which of the changes from picture to picture are changes of scene. Pure, and local: what is said of a frame follows from the pictures up to
//! [`MARGIN`] before and behind it, so that a film may be looked at in parts.

use std::collections::VecDeque;

use spool_proto::call::SceneChange;

use super::small::Small;

/// Frames before and behind that a change is held against: how much changes there anyway, by motion or a fade.
const AROUND: usize = 8;
/// A change that is taken back within so many frames is a flash, and whatever flashes is no scene. Of two changes within so many frames the
/// greater is one.
const FLASH: usize = 5;
/// Pictures that have a say, on either side of a frame: those that have a say in whether a change within a flash of it lasts.
pub const MARGIN: u64 = 2 * FLASH as u64 + 1;
const _: () = assert!(AROUND <= 2 * FLASH, "what is around a frame is within its margin");

/// Of 255: what differs less is never another scene.
const LEAST: f32 = 5.0;
/// Added to what changes around a frame, so that next to a picture that stands still not everything is a change of scene.
const FLOOR: f32 = 2.0;
/// How many times more than around it the picture must change. README.md of the plan has the films that this is from.
const SURE: f32 = 5.0;
const DOUBTFUL: f32 = 3.0;

/// Takes the pictures of a range one by one.
#[derive(Debug, Default)]
pub struct Detector {
    /// The last ones: a flash on either side of the two pictures of a step.
    recent: VecDeque<Small>,
    /// How much each frame differs from the one before it. The first is 0.
    steps: Vec<f32>,
    /// How much of that lasts. 0 where the step is too small to matter.
    lasting: Vec<f32>,
}

impl Detector {
    pub fn push(&mut self, picture: Small) {
        self.steps.push(self.recent.back().map_or(0.0, |before| before.difference(&picture)));
        self.recent.push_back(picture);
        if self.recent.len() > 2 * FLASH + 2 {
            self.recent.pop_front();
        }
        if self.steps.len() > FLASH {
            self.settle();
        }
    }

    /// Frames count from the first picture.
    pub fn finish(mut self) -> Vec<SceneChange> {
        while self.lasting.len() < self.steps.len() {
            self.settle();
        }
        (0..self.steps.len()).filter_map(|at| self.change(at)).collect()
    }

    /// Looks how much of the next frame's step lasts, over the pictures that are there.
    fn settle(&mut self) {
        let frame = self.lasting.len();
        let step = self.steps[frame];
        let first = self.steps.len() - self.recent.len();
        let lasting = if step < LEAST || frame <= first {
            0.0
        } else {
            let at = frame - first;
            let pictures = self.recent.make_contiguous();
            let (old, new) = (&pictures[at - 1], &pictures[at]);
            let later = pictures[at + 1..].iter().take(FLASH).map(|later| old.difference(later));
            let earlier = pictures[..at - 1].iter().rev().take(FLASH).map(|earlier| new.difference(earlier));
            later.chain(earlier).fold(step, f32::min)
        };
        self.lasting.push(lasting);
    }

    fn change(&self, frame: usize) -> Option<SceneChange> {
        let lasting = self.lasting[frame];
        let near = frame.saturating_sub(FLASH)..(frame + FLASH + 1).min(self.lasting.len());
        let greatest = near.clone().all(|other| match self.lasting[other] {
            more if other < frame => more < lasting,
            more => more <= lasting,
        });
        if lasting < LEAST || !greatest {
            return None;
        }
        let score = lasting / (self.around(frame) + FLOOR);
        let frame = u64::try_from(frame).expect("memory is smaller than 2^64");
        (score >= DOUBTFUL).then_some(SceneChange { frame, score, sure: score >= SURE })
    }

    /// The mean step around a frame, without the greatest: another change of scene near by does not hide this one.
    fn around(&self, frame: usize) -> f32 {
        // The first picture has no step.
        let before = self.steps.get(frame.saturating_sub(AROUND).max(1)..frame).unwrap_or_default();
        let behind = &self.steps[frame + 1..(frame + 1 + AROUND).min(self.steps.len())];
        let all = || before.iter().chain(behind).copied();
        let count = before.len() + behind.len();
        if count < 2 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a few frames")]
        let others = (count - 1) as f32;
        (all().sum::<f32>() - all().fold(0.0, f32::max)) / others
    }
}
