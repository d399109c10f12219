//! What a title's source makes of its spec: every track of the package with the encode that makes it. Pure, so that whoever asks
//! gets the same answer.

use std::collections::BTreeSet;

use super::{LadderSpec, Rendition, Rung, TitleSpec, TrackChoice, ladder};
use crate::call::{MediaFacts, SourceFacts, StreamFacts, VideoFacts};
use crate::failure::{Class, Failure};
use crate::spec::{Container, EncodeSpec, Rational, Size, StreamKind, StreamMap, Subtitles, VideoSpec};
use crate::time::Span;

/// Segments and keyframes on a grid of frames that all renditions share in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub rate: Rational,
    pub segment_frames: u32,
    pub gop_frames: u32,
}

/// A track of the package: its folder's name, the source's stream, and how it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    pub name: String,
    /// Source stream index.
    pub stream: u32,
    /// How this track is encoded, and which streams are used beside it: those count for where the film begins.
    pub spec: EncodeSpec,
}

/// The title, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracks {
    pub video: Vec<Track>,
    pub audio: Vec<Track>,
    pub text: Vec<TextTrack>,
    /// Subtitles that were asked for and are pictures: no text can be made of them.
    pub pictures: Vec<u32>,
}

/// Subtitles of the package.
#[derive(Debug, Clone, PartialEq)]
pub struct TextTrack {
    pub name: String,
    pub from: TextSource,
    pub language: Option<String>,
    /// Names the streams that count for where the film begins.
    pub spec: EncodeSpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextSource {
    /// Source stream index.
    Stream(u32),
    /// URI.
    File(String),
}

/// Subtitle codecs that are text, by libav's names.
const TEXT_CODECS: [&str; 9] = ["ass", "mov_text", "sami", "srt", "ssa", "subrip", "subviewer", "text", "webvtt"];

/// Highest rate a title is encoded with where its source does not say a sensible one.
const RATE_MAX: i32 = 120;

impl TitleSpec {
    /// The encode that chooses the title's pictures, for the probe that reads their packets.
    pub fn probed(&self) -> EncodeSpec {
        let video = self.video.first().map(|rendition| rendition.video.clone());
        let codec = self.ladder.as_ref().and_then(|ladder| ladder.codecs.first().copied());
        let kind = |kind| StreamMap { negative: false, optional: true, kind: Some(kind), index: None };
        EncodeSpec {
            video: video.or(codec.map(VideoSpec::new)),
            audio: self.audio.first().map(|rendition| rendition.audio.clone()),
            maps: vec![kind(StreamKind::Video), kind(StreamKind::Audio)],
            ..self.encode()
        }
    }

    /// An encode of nothing yet.
    fn encode(&self) -> EncodeSpec {
        EncodeSpec {
            overwrite: self.overwrite,
            subtitles: Subtitles::None,
            trim: self.trim,
            chunk: self.chunk,
            cuts: self.cuts,
            verify: self.verify,
            ..EncodeSpec::new(&self.source, &self.output, Container::Mp4)
        }
    }

    /// What is to be made of a source.
    ///
    /// # Errors
    /// Class `input`: `no_video_stream`, `no_audio_stream`; class `spec`: `no_such_stream` (a track that is not there), `size_refused`.
    pub fn tracks(&self, source: &SourceFacts) -> Result<Tracks, Failure> {
        let mut tracks = Tracks {
            video: self.video_tracks(source)?,
            audio: self.audio_tracks(source)?,
            text: Vec::new(),
            pictures: Vec::new(),
        };
        self.add_text(source, &mut tracks)?;
        if tracks.video.is_empty() && tracks.audio.is_empty() {
            let why = "the title has neither pictures nor sound: name renditions under video, ladder or audio";
            return Err(Failure::new(Class::Spec, "nothing_to_encode", why));
        }
        tracks.share();
        Ok(tracks)
    }

    fn video_tracks(&self, source: &SourceFacts) -> Result<Vec<Track>, Failure> {
        if self.video.is_empty() && self.ladder.is_none() {
            return Ok(Vec::new());
        }
        let (stream, facts) = pictures(source)?;
        let shown = Shown::of(facts);
        let mut renditions = self.video.clone();
        if let Some(ladder) = &self.ladder {
            renditions.extend(ladder::rungs(ladder, ladder::Source::of(facts)));
        }
        let mut names = BTreeSet::new();
        let mut tracks = Vec::with_capacity(renditions.len());
        for rendition in renditions {
            if !names.insert(rendition.name.clone()) {
                let why = format!("two renditions have the name {:?}: each has its own folder", rendition.name);
                return Err(Failure::new(Class::Spec, "options_conflict", why));
            }
            let mut video = rendition.video;
            if let Some(height) = rendition.height {
                video.size = Some(shown.at(height));
            }
            let grid = self.grid(video.frame_rate.unwrap_or_else(|| rate(facts)));
            video.frame_rate = Some(grid.rate);
            video.gop_frames = Some(grid.gop_frames);
            video.fixed_gop = true;
            let spec = EncodeSpec { video: Some(video), segment_frames: Some(grid.segment_frames), ..self.encode() };
            tracks.push(Track { name: rendition.name, stream, spec });
        }
        Ok(tracks)
    }

    /// Whole frames: as many to a segment as are nearest to its length, and as many to a group of pictures as divide that.
    pub fn grid(&self, rate: Rational) -> Grid {
        let frames = |span: Span| {
            let exact = u128::from(span.0) * u128::from(rate.num.unsigned_abs());
            let second = 1_000_000 * u128::from(rate.den.unsigned_abs().max(1));
            u32::try_from((exact + second / 2) / second).unwrap_or(u32::MAX).max(1)
        };
        let segment_frames = frames(self.segment);
        let wanted = frames(self.gop).min(segment_frames);
        let divides = |gop: &u32| segment_frames.is_multiple_of(*gop);
        let gop_frames = (1..=segment_frames).filter(divides).min_by_key(|gop| (gop.abs_diff(wanted), *gop));
        Grid { rate, segment_frames, gop_frames: gop_frames.unwrap_or(segment_frames) }
    }

    fn audio_tracks(&self, source: &SourceFacts) -> Result<Vec<Track>, Failure> {
        let all: Vec<&StreamFacts> = source.streams.iter().filter(|s| channels(s).is_some()).collect();
        let mut tracks = Vec::new();
        for rendition in &self.audio {
            let chosen = chosen("audio", &rendition.name, &rendition.tracks, &all)?;
            for (number, stream) in chosen.iter().enumerate() {
                let name = name_of(&rendition.name, number, stream, &chosen);
                let spec = EncodeSpec { audio: Some(rendition.audio.clone()), ..self.encode() };
                tracks.push(Track { name, stream: stream.index, spec });
            }
        }
        Ok(tracks)
    }
}

impl LadderSpec {
    /// Its renditions of a source: the rungs that suit films in general or, where somebody found those of this film, these.
    ///
    /// # Errors
    /// Class `input`: `no_video_stream`.
    pub fn renditions(&self, source: &SourceFacts, own: Option<&[Rung]>) -> Result<Vec<Rendition>, Failure> {
        let source = ladder::Source::of(pictures(source)?.1);
        Ok(own.map_or_else(|| ladder::rungs(self, source), |rungs| ladder::renditions(self, source, rungs)))
    }
}

impl ladder::Source {
    fn of(facts: &VideoFacts) -> ladder::Source {
        let name = |text: &Option<String>| text.clone().unwrap_or_default();
        ladder::Source {
            height: Shown::of(facts).height,
            rate: rate(facts),
            deep: ["10", "12", "14", "16"].iter().any(|bits| name(&facts.pix_fmt).contains(&format!("p{bits}"))),
            hdr: matches!(name(&facts.color_transfer).as_str(), "smpte2084" | "arib-std-b67"),
        }
    }
}

impl TitleSpec {
    fn add_text(&self, source: &SourceFacts, tracks: &mut Tracks) -> Result<(), Failure> {
        let all: Vec<&StreamFacts> = source.streams.iter().filter(|s| s.media == MediaFacts::Subtitle).collect();
        for rendition in &self.text {
            if let Some(file) = &rendition.file {
                tracks.text.push(TextTrack {
                    name: rendition.name.clone(),
                    from: TextSource::File(file.clone()),
                    language: rendition.language.clone(),
                    spec: self.encode(),
                });
                continue;
            }
            let chosen = chosen("text", &rendition.name, &rendition.tracks, &all)?;
            let (text, pictures): (Vec<&StreamFacts>, Vec<&StreamFacts>) =
                chosen.into_iter().partition(|stream| TEXT_CODECS.contains(&stream.codec.as_str()));
            tracks.pictures.extend(pictures.iter().map(|stream| stream.index));
            for (number, stream) in text.iter().enumerate() {
                tracks.text.push(TextTrack {
                    name: name_of(&rendition.name, number, stream, &text),
                    from: TextSource::Stream(stream.index),
                    language: stream.language.clone(),
                    spec: self.encode(),
                });
            }
        }
        Ok(())
    }
}

/// Of `all`, the tracks of one kind.
fn chosen<'a>(
    kind: &str,
    rendition: &str,
    choice: &TrackChoice,
    all: &[&'a StreamFacts],
) -> Result<Vec<&'a StreamFacts>, Failure> {
    Ok(match choice {
        TrackChoice::All => all.to_vec(),
        // The first of the best: `max_by_key` would give the last.
        TrackChoice::Best => {
            all.iter().rev().max_by_key(|stream| (is_default(stream), channels(stream))).copied().into_iter().collect()
        }
        TrackChoice::Number(number) => {
            let found = usize::try_from(*number).ok().and_then(|number| all.get(number));
            vec![found.ok_or_else(|| no_track(kind, rendition, &format!("number {number}"), all))?]
        }
        TrackChoice::Language(language) => {
            let found: Vec<&StreamFacts> =
                all.iter().copied().filter(|s| s.language.as_ref() == Some(language)).collect();
            if found.is_empty() {
                return Err(no_track(kind, rendition, &format!("in {language:?}"), all));
            }
            found
        }
    })
}

fn name_of(rendition: &str, number: usize, stream: &StreamFacts, chosen: &[&StreamFacts]) -> String {
    match chosen.len() {
        1 => rendition.to_owned(),
        _ => format!("{rendition}-{}", suffix(number, stream, chosen)),
    }
}

impl Tracks {
    /// Makes every encode name all streams, so that all count from the same start.
    fn share(&mut self) {
        let video = self.video.first().and_then(|track| track.spec.video.clone());
        let audio = self.audio.first().and_then(|track| track.spec.audio.clone());
        let mut streams: Vec<u32> = Vec::new();
        for track in self.video.iter().chain(&self.audio) {
            if !streams.contains(&track.stream) {
                streams.push(track.stream);
            }
        }
        let map = |stream: &u32| StreamMap { negative: false, optional: false, kind: None, index: Some(*stream) };
        for track in self.video.iter_mut().chain(&mut self.audio) {
            track.spec.maps = streams.iter().map(map).collect();
            track.spec.video = track.spec.video.take().or_else(|| video.clone());
            track.spec.audio = track.spec.audio.take().or_else(|| audio.clone());
        }
        for track in &mut self.text {
            track.spec.maps = streams.iter().map(map).collect();
            (track.spec.video, track.spec.audio) = (video.clone(), audio.clone());
        }
    }
}

/// The language, where no other of the chosen has it too; else the number.
fn suffix(number: usize, stream: &StreamFacts, chosen: &[&StreamFacts]) -> String {
    let plain = |language: &&String| !language.is_empty() && language.chars().all(|c| c.is_ascii_alphanumeric());
    let own = |language: &&String| chosen.iter().filter(|s| s.language.as_ref() == Some(*language)).count() == 1;
    stream.language.as_ref().filter(plain).filter(own).cloned().unwrap_or_else(|| number.to_string())
}

fn no_track(kind: &str, rendition: &str, which: &str, all: &[&StreamFacts]) -> Failure {
    let list: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(n, stream)| {
            let language = stream.language.as_deref().unwrap_or("no language");
            let layout = match &stream.media {
                MediaFacts::Audio(audio) => format!(" {}", audio.layout),
                _ => String::new(),
            };
            format!("{n}: {language} {}{layout}", stream.codec)
        })
        .collect();
    let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let why = format!("{kind} {rendition}: the source has no such track {which}; it has {list}");
    Failure::new(Class::Spec, "no_such_stream", why)
}

fn channels(stream: &StreamFacts) -> Option<u16> {
    match &stream.media {
        MediaFacts::Audio(facts) => Some(facts.channels),
        _ => None,
    }
}

fn is_default(stream: &StreamFacts) -> bool {
    stream.disposition.iter().any(|d| d == "default")
}

fn pictures(source: &SourceFacts) -> Result<(u32, &VideoFacts), Failure> {
    first_video(source).ok_or_else(|| {
        Failure::new(Class::Input, "no_video_stream", "the source has no pictures, and the title asks for some")
    })
}

/// The first that is one, as the probe chooses it.
fn first_video(source: &SourceFacts) -> Option<(u32, &VideoFacts)> {
    source.streams.iter().find_map(|stream| match &stream.media {
        MediaFacts::Video(facts) if !facts.attached_picture && facts.width > 0 => Some((stream.index, facts)),
        _ => None,
    })
}

/// The constant rate a title is encoded with: the source's, where it is one.
fn rate(facts: &VideoFacts) -> Rational {
    let sensible = |rate: &Rational| rate.num > 0 && rate.den > 0 && rate.num / rate.den <= RATE_MAX;
    facts.frame_rate.filter(sensible).or(facts.average_frame_rate.filter(sensible)).unwrap_or(Rational::new(30, 1))
}

/// The picture as it is shown: turned, in square pixels.
#[derive(Debug, Clone, Copy)]
struct Shown {
    width: u64,
    height: u32,
}

impl Shown {
    fn of(facts: &VideoFacts) -> Shown {
        let ratio = facts.sample_aspect_ratio;
        let (num, den) = match (u64::try_from(ratio.num), u64::try_from(ratio.den)) {
            (Ok(num @ 1..), Ok(den @ 1..)) => (num, den),
            _ => (1, 1),
        };
        let stretched = (u64::from(facts.width) * num + den / 2) / den;
        if facts.rotation.rem_euclid(180) == 90 {
            // The lines of a turned picture are its columns.
            Shown { width: u64::from(facts.height), height: u32::try_from(stretched).unwrap_or(u32::MAX) }
        } else {
            Shown { width: stretched, height: facts.height }
        }
    }

    /// Even sides, the aspect kept as nearly as they allow.
    fn at(self, height: u32) -> Size {
        let height = (height & !1).max(2);
        let width =
            (self.width * u64::from(height) + u64::from(self.height.max(1))) / (2 * u64::from(self.height.max(1)));
        Size { width: u32::try_from(width * 2).unwrap_or(u32::MAX).max(2), height }
    }
}

#[cfg(test)]
mod tests;
