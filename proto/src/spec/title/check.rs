//! Judging a title before its source is looked at.

use std::collections::BTreeSet;

use super::{LadderSpec, Publish, Rendition, TitleSpec, TrackChoice};
use crate::failure::{Class, Failure};
use crate::spec::check::{CHUNK_MAX, conflict, refused};
use crate::spec::parse::time_text;
use crate::spec::{AudioCodec, Container, EncodeSpec};
use crate::time::Span;

const SEGMENT_MIN: Span = Span::from_millis(500);
const SEGMENT_MAX: Span = Span::from_secs(60);
/// Video and audio renditions of one title: a bound, not a wish.
const RENDITIONS_MAX: usize = 64;
/// The lowest picture that still is one.
const HEIGHT_MIN: u32 = 16;
const HEIGHT_MAX: u32 = 8_640;

impl TitleSpec {
    /// Judges all that can be judged without the source. Fields are named by their path in a job file.
    ///
    /// # Errors
    /// The first problem found, class `spec`: `option_refused`, `options_conflict`, `container_refuses`.
    pub fn check(&self) -> Result<(), Failure> {
        if !self.output.ends_with('/') {
            return Err(refused(format!("output {}: a package is a folder; end its name with /", self.output)));
        }
        if self.video.is_empty() && self.ladder.is_none() && self.audio.is_empty() {
            return Err(conflict("nothing to encode: name renditions under video, ladder or audio"));
        }
        if self.packages.is_empty() {
            return Err(refused("packages is empty: name hls, dash or both"));
        }
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&self.segment) {
            return Err(refused(format!("segment {}: segments take 500ms to 1:00", time_text(self.segment))));
        }
        if self.gop == Span::ZERO || self.gop > self.segment {
            return Err(refused(format!(
                "gop {}: from above zero to the segment's {}: every segment begins with a keyframe",
                time_text(self.gop),
                time_text(self.segment)
            )));
        }
        if self.chunk.is_some_and(|chunk| chunk < self.segment || chunk > CHUNK_MAX) {
            return Err(refused("chunk: chunks are whole segments; at least one segment, at most 24:00:00"));
        }
        if self.trim.duration == Some(Span::ZERO) {
            return Err(refused("duration 0: nothing of the film would be left"));
        }
        let renditions = self.video.len() + self.audio.len() + self.text.len();
        if renditions > RENDITIONS_MAX {
            return Err(refused(format!("{renditions} renditions; at most {RENDITIONS_MAX} are taken")));
        }
        self.check_video()?;
        self.check_audio()?;
        self.check_text()?;
        self.check_images()?;
        self.check_live()?;
        self.ladder.as_ref().map_or(Ok(()), LadderSpec::check)
    }

    fn check_video(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (n, rendition) in self.video.iter().enumerate() {
            let place = |failure: Failure| Failure { message: format!("video[{n}]: {}", failure.message), ..failure };
            check_name(&rendition.name, &mut names).map_err(place)?;
            if let Some(height) = rendition.height {
                check_height("height", height).map_err(place)?;
                if rendition.video.size.is_some() {
                    return Err(place(conflict("height with size: name one of them")));
                }
            }
            if rendition.video.gop_frames.is_some() {
                return Err(place(conflict(
                    "gop_frames: keyframes of all renditions stand together; set the title's gop",
                )));
            }
            if rendition.video.crop_bars {
                return Err(place(conflict(
                    "crop_bars: renditions are sized by the source's shape; crop with a filter, as spool probe --crop shows it",
                )));
            }
            if rendition.video.burn_in().is_some() {
                return Err(place(conflict(
                    "subtitles in filters: packages have text of their own, see text; to draw it into the pictures encode a film first",
                )));
            }
            let spec = EncodeSpec { video: Some(rendition.video.clone()), ..self.alone() };
            spec.check().map_err(place)?;
        }
        Ok(())
    }

    fn check_audio(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (n, rendition) in self.audio.iter().enumerate() {
            let place = |failure: Failure| Failure { message: format!("audio[{n}]: {}", failure.message), ..failure };
            check_name(&rendition.name, &mut names).map_err(place)?;
            // FLAC is experimental in FFmpeg 5.1's MP4, and has been standard since 2021.
            if rendition.audio.codec == AudioCodec::Flac {
                continue;
            }
            let spec = EncodeSpec { audio: Some(rendition.audio.clone()), ..self.alone() };
            spec.check().map_err(place)?;
        }
        Ok(())
    }

    fn check_text(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (n, rendition) in self.text.iter().enumerate() {
            let place = |failure: Failure| Failure { message: format!("text[{n}]: {}", failure.message), ..failure };
            check_name(&rendition.name, &mut names).map_err(place)?;
            if rendition.file.is_some() && rendition.tracks != TrackChoice::All {
                return Err(place(conflict("file with tracks: name one of them")));
            }
            if rendition.file.is_none() && rendition.language.is_some() {
                return Err(place(conflict("language without file: the source's tracks have their own")));
            }
        }
        Ok(())
    }

    fn check_images(&self) -> Result<(), Failure> {
        let Some(images) = &self.images else { return Ok(()) };
        if self.video.is_empty() && self.ladder.is_none() {
            return Err(conflict("images of a title without pictures: name renditions under video or ladder"));
        }
        images.check().map_err(|failure| Failure { message: format!("images: {}", failure.message), ..failure })
    }

    /// What is public must be final when its chunk is encoded.
    fn check_live(&self) -> Result<(), Failure> {
        if self.publish == Publish::Whole {
            return Ok(());
        }
        if self.video.is_empty() && self.ladder.is_none() {
            return Err(conflict("publish: live without pictures: sound is made in one piece; publish it whole"));
        }
        for (n, Rendition { video, .. }) in self.video.iter().enumerate() {
            let field = match video.crf {
                _ if video.two_pass => "two_pass",
                None if video.bitrate_bps.is_some() => "bitrate",
                _ => continue,
            };
            return Err(conflict(format!(
                "video[{n}].{field} with publish: live: chunks are made again, by what the whole film needs; give crf, with maxrate and bufsize \
                 as a ceiling, or publish whole"
            )));
        }
        Ok(())
    }

    fn alone(&self) -> EncodeSpec {
        // One of its files stands for the folder.
        let output = format!("{}film.mp4", self.output);
        EncodeSpec { video: None, audio: None, container: Container::Mp4, output, ..self.probed() }
    }
}

impl LadderSpec {
    fn check(&self) -> Result<(), Failure> {
        if self.codecs.is_empty() {
            return Err(refused("ladder.codecs is empty: name libx264, libx265, libsvtav1 or libvpx-vp9"));
        }
        let distinct: BTreeSet<_> = self.codecs.iter().collect();
        if distinct.len() < self.codecs.len() {
            return Err(refused("ladder.codecs names a codec twice"));
        }
        for (name, height) in [("ladder.max_height", self.max_height), ("ladder.min_height", self.min_height)] {
            if let Some(height) = height {
                check_height(name, height)?;
            }
        }
        if self.max_height.zip(self.min_height).is_some_and(|(most, least)| least > most) {
            return Err(conflict("ladder.min_height is above ladder.max_height"));
        }
        if self.preset.is_some() && self.codecs.len() > 1 {
            return Err(conflict(
                "ladder.preset with several codecs: each has its own names; list renditions under video",
            ));
        }
        Ok(())
    }
}

fn check_height(field: &str, height: u32) -> Result<(), Failure> {
    if (HEIGHT_MIN..=HEIGHT_MAX).contains(&height) && height.is_multiple_of(2) {
        return Ok(());
    }
    Err(refused(format!("{field} {height}: heights are even, from {HEIGHT_MIN} to {HEIGHT_MAX}")))
}

/// Names become folders and go into playlists.
fn check_name(name: &str, names: &mut BTreeSet<String>) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.starts_with(['.', '-']) {
        let why =
            format!("name {name:?}: names are 1 to 64 of a-z, A-Z, 0-9, - _ and ., and begin with a letter or number");
        return Err(Failure::new(Class::Spec, "option_refused", why));
    }
    if !names.insert(name.to_owned()) {
        return Err(refused(format!("name {name:?} is given twice: each has its own folder")));
    }
    Ok(())
}
