//! A package: tracks cut into segments, one set of them for every kind of player.

use serde::{Deserialize, Serialize};

use crate::spec::Rational;

/// A last segment shorter than this part of a segment's length stays with the one before it: a quarter.
pub const SHORT_PART: u32 = 4;

/// One track of a package. Its header and segments lie one behind the other in one file; the header alone, or with any of the
/// segments behind it, can be decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentTable {
    /// As RFC 6381 writes it: `avc1.640028`.
    pub codec: String,
    pub media: TrackMedia,
    /// Of the times below.
    pub time_base: Rational,
    /// The header is the file's first bytes.
    pub header_bytes: u64,
    /// In order, without gap: each begins where the one before ends, in bytes and in time.
    pub segments: Vec<Segment>,
    /// Where in the track its file begins: what is before lies in the files of calls before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub file_offset: u64,
    /// How the track goes on. `None`: this is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on: Option<GoesOn>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// All that must be known of a track's beginning to cut what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoesOn {
    /// The first piece that is not wholly in segments, counted from the film's start, and how many packets of it are.
    pub piece: u32,
    pub packets: u64,
    /// Hash of what all pieces are coded with.
    pub parameters: String,
    /// First pts of the film. Times are in the pieces' timebase.
    pub first_pts: i64,
    /// Frames that the decoder holds back.
    pub delay: u32,
    /// The last pts before the piece, in display order: as many as are held back.
    pub shown: Vec<i64>,
    /// Of the next fragment, in the table's timebase.
    pub decode_time: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum TrackMedia {
    Video { width: u32, height: u32, sample_aspect_ratio: Rational, frame_rate: Rational, range: VideoRange },
    Audio { channels: u16, sample_rate_hz: u32 },
}

/// What `VIDEO-RANGE` of a playlist says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VideoRange {
    Sdr,
    Hlg,
    Pq,
}

impl VideoRange {
    pub fn name(self) -> &'static str {
        match self {
            VideoRange::Sdr => "SDR",
            VideoRange::Hlg => "HLG",
            VideoRange::Pq => "PQ",
        }
    }
}

/// What players fetch at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub start: i64,
    pub duration: u64,
    /// In the track's file.
    pub offset: u64,
    pub bytes: u64,
    /// One a group of pictures; one a segment of sound.
    pub fragments: Vec<Fragment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    pub start: i64,
    pub duration: u64,
    pub offset: u64,
    pub bytes: u64,
    /// How many of them, from the first on, hold the first picture or frame.
    pub first_bytes: u64,
}

impl SegmentTable {
    /// Of one of its segments or fragments.
    pub fn duration_s(&self, ticks: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a century of nanoseconds is below 2^53")]
        let ticks = ticks as f64;
        ticks * self.time_base.as_f64()
    }

    /// Where the last segment ends in the track.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(self.header_bytes, |last| last.offset + last.bytes)
    }

    /// Seconds of the longest segment.
    pub fn longest_s(&self) -> f64 {
        self.segments.iter().map(|segment| self.duration_s(segment.duration)).fold(0.0, f64::max)
    }

    /// Seconds from the first segment to the end of the last.
    pub fn total_s(&self) -> f64 {
        self.duration_s(self.segments.iter().map(|segment| segment.duration).sum())
    }

    /// Bits a second over the whole track: `AVERAGE-BANDWIDTH`.
    pub fn average_bps(&self) -> u64 {
        per_second(self.segments.iter().map(|segment| segment.bytes).sum(), self.total_s())
    }

    /// Bits a second of the segment that needs most: `BANDWIDTH`. A last segment shorter than half a second tells nothing.
    pub fn peak_bps(&self) -> u64 {
        let rate = |segment: &Segment| {
            let seconds = self.duration_s(segment.duration);
            (seconds >= 0.5 || self.segments.len() == 1).then(|| per_second(segment.bytes, seconds))
        };
        self.segments.iter().filter_map(rate).max().unwrap_or(0)
    }
}

fn per_second(bytes: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "rates are told to three digits")]
    let bits = bytes as f64 * 8.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
    let rate = (bits / seconds).ceil() as u64;
    rate
}

/// A track in its package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackagedTrack {
    /// Its folder within the package: `video/720p`.
    pub folder: String,
    /// For people: `720p`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Chosen by players that are not told otherwise.
    #[serde(default)]
    pub default: bool,
    /// Of text: shown to those who want no subtitles, too.
    #[serde(default)]
    pub forced: bool,
    /// Bits a second that no segment exceeds, as far as its spec tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_bps: Option<u64>,
}

/// A package that grows, as its playlists tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Segments of each track so far: none is ahead of another.
    pub segments: u32,
    /// Seconds of the longest segment of pictures there will be.
    pub longest: Rational,
    /// How long it will last, microseconds.
    pub total_us: u64,
    /// When it began to appear, and now. Microseconds since the epoch.
    pub begun_us: u64,
    pub now_us: u64,
}

/// Names of files in a track's folder.
pub mod file {
    /// What every segment needs before it.
    pub const HEADER: &str = "init.mp4";
    /// All of a text track.
    pub const TEXT: &str = "text.vtt";
    pub const PLAYLIST: &str = "playlist.m3u8";
    pub const IFRAMES: &str = "iframes.m3u8";

    /// The segment's, counted from 1.
    pub fn segment(number: usize) -> String {
        format!("{number:05}.m4s")
    }

    /// As a DASH template.
    pub const SEGMENT_TEMPLATE: &str = "$Number%05d$.m4s";
}
