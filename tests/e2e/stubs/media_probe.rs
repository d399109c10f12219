//! media.probe: Says what is in a source; with index_for reads it whole and leaves the packet index.
//!
//! May leave: index.
//! Needs one core, 512 MiB.
//! Takes about: 4 s a GiB.
//!
//! Made by `spool function stub`, not to be changed by hand.

use spool_proto::wire::v1;

/// What media.probe takes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Input {
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_bars: Option<bool>,
    /// record
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_for: Option<InputIndexFor>,
}

impl Input {
    /// Without what may be left out.
    pub fn new() -> Input {
        Input { crop_bars: None, index_for: None }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexFor {
    /// record
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<InputIndexForAudio>,
    /// list of {audio, track}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_tracks: Option<Vec<InputIndexForAudioTracks>>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<i64>,
    /// list of {end, start}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clips: Option<Vec<InputIndexForClips>>,
    /// one of mp4, mov, mkv, webm
    pub container: InputIndexForContainer,
    /// one of auto, index, scan
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<InputIndexForCuts>,
    /// uri
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// list of {clips, source}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Vec<InputIndexForJoined>>,
    /// list of {index, kind, negative, optional}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<Vec<InputIndexForMaps>>,
    /// one of salvage, fail
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_damage: Option<InputIndexForOnDamage>,
    /// text
    pub output: String,
    /// bool
    pub overwrite: bool,
    /// {metrics, report}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<InputIndexForQuality>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_frames: Option<i64>,
    /// uri
    pub source: String,
    /// one of auto, copy, none, srt, ass, webvtt, mov_text
    pub subtitles: InputIndexForSubtitles,
    /// {duration, start}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trim: Option<InputIndexForTrim>,
    /// one of packets, sample, full
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<InputIndexForVerify>,
    /// record
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<InputIndexForVideo>,
}

impl InputIndexFor {
    /// Without what may be left out.
    pub fn new(container: InputIndexForContainer, output: String, overwrite: bool, source: String, subtitles: InputIndexForSubtitles) -> InputIndexFor {
        InputIndexFor { audio: None, audio_tracks: None, chunk: None, clips: None, container, cuts: None, index: None, joined: None, maps: None, on_damage: None, output, overwrite, quality: None, segment_frames: None, source, subtitles, trim: None, verify: None, video: None }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForAudio {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_layout: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// one of aac, libopus, flac, ac3, eac3, libmp3lame, pcm_s16le, pcm_s24le, copy
    pub codec: InputIndexForAudioCodec,
    /// list of any
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<serde_json::Value>>,
    /// {target_lufs, true_peak_dbtp}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<InputIndexForAudioLoudness>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<i64>,
}

impl InputIndexForAudio {
    /// Without what may be left out.
    pub fn new(codec: InputIndexForAudioCodec) -> InputIndexForAudio {
        InputIndexForAudio { bitrate_bps: None, channel_layout: None, channels: None, codec, filters: None, loudness: None, sample_rate_hz: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForAudioCodec {
    #[serde(rename = "aac")]
    Aac,
    #[serde(rename = "libopus")]
    Libopus,
    #[serde(rename = "flac")]
    Flac,
    #[serde(rename = "ac3")]
    Ac3,
    #[serde(rename = "eac3")]
    Eac3,
    #[serde(rename = "libmp3lame")]
    Libmp3lame,
    #[serde(rename = "pcm_s16le")]
    PcmS16le,
    #[serde(rename = "pcm_s24le")]
    PcmS24le,
    #[serde(rename = "copy")]
    Copy,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForAudioLoudness {
    /// number
    pub target_lufs: f64,
    /// number
    pub true_peak_dbtp: f64,
}

impl InputIndexForAudioLoudness {
    /// Without what may be left out.
    pub fn new(target_lufs: f64, true_peak_dbtp: f64) -> InputIndexForAudioLoudness {
        InputIndexForAudioLoudness { target_lufs, true_peak_dbtp }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForAudioTracks {
    /// record
    pub audio: InputIndexForAudioTracksAudio,
    /// int
    pub track: i64,
}

impl InputIndexForAudioTracks {
    /// Without what may be left out.
    pub fn new(audio: InputIndexForAudioTracksAudio, track: i64) -> InputIndexForAudioTracks {
        InputIndexForAudioTracks { audio, track }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForAudioTracksAudio {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_layout: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// one of aac, libopus, flac, ac3, eac3, libmp3lame, pcm_s16le, pcm_s24le, copy
    pub codec: InputIndexForAudioTracksAudioCodec,
    /// list of any
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<serde_json::Value>>,
    /// {target_lufs, true_peak_dbtp}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<InputIndexForAudioTracksAudioLoudness>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<i64>,
}

impl InputIndexForAudioTracksAudio {
    /// Without what may be left out.
    pub fn new(codec: InputIndexForAudioTracksAudioCodec) -> InputIndexForAudioTracksAudio {
        InputIndexForAudioTracksAudio { bitrate_bps: None, channel_layout: None, channels: None, codec, filters: None, loudness: None, sample_rate_hz: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForAudioTracksAudioCodec {
    #[serde(rename = "aac")]
    Aac,
    #[serde(rename = "libopus")]
    Libopus,
    #[serde(rename = "flac")]
    Flac,
    #[serde(rename = "ac3")]
    Ac3,
    #[serde(rename = "eac3")]
    Eac3,
    #[serde(rename = "libmp3lame")]
    Libmp3lame,
    #[serde(rename = "pcm_s16le")]
    PcmS16le,
    #[serde(rename = "pcm_s24le")]
    PcmS24le,
    #[serde(rename = "copy")]
    Copy,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForAudioTracksAudioLoudness {
    /// number
    pub target_lufs: f64,
    /// number
    pub true_peak_dbtp: f64,
}

impl InputIndexForAudioTracksAudioLoudness {
    /// Without what may be left out.
    pub fn new(target_lufs: f64, true_peak_dbtp: f64) -> InputIndexForAudioTracksAudioLoudness {
        InputIndexForAudioTracksAudioLoudness { target_lufs, true_peak_dbtp }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForClips {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
}

impl InputIndexForClips {
    /// Without what may be left out.
    pub fn new() -> InputIndexForClips {
        InputIndexForClips { end: None, start: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForContainer {
    #[serde(rename = "mp4")]
    Mp4,
    #[serde(rename = "mov")]
    Mov,
    #[serde(rename = "mkv")]
    Mkv,
    #[serde(rename = "webm")]
    Webm,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForCuts {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "index")]
    Index,
    #[serde(rename = "scan")]
    Scan,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForJoined {
    /// list of {end, start}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clips: Option<Vec<InputIndexForJoinedClips>>,
    /// uri
    pub source: String,
}

impl InputIndexForJoined {
    /// Without what may be left out.
    pub fn new(source: String) -> InputIndexForJoined {
        InputIndexForJoined { clips: None, source }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForJoinedClips {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
}

impl InputIndexForJoinedClips {
    /// Without what may be left out.
    pub fn new() -> InputIndexForJoinedClips {
        InputIndexForJoinedClips { end: None, start: None }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForMaps {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    /// one of video, audio, subtitle, data, attachment
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<InputIndexForMapsKind>,
    /// bool
    pub negative: bool,
    /// bool
    pub optional: bool,
}

impl InputIndexForMaps {
    /// Without what may be left out.
    pub fn new(negative: bool, optional: bool) -> InputIndexForMaps {
        InputIndexForMaps { index: None, kind: None, negative, optional }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForMapsKind {
    #[serde(rename = "video")]
    Video,
    #[serde(rename = "audio")]
    Audio,
    #[serde(rename = "subtitle")]
    Subtitle,
    #[serde(rename = "data")]
    Data,
    #[serde(rename = "attachment")]
    Attachment,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForOnDamage {
    #[serde(rename = "salvage")]
    Salvage,
    #[serde(rename = "fail")]
    Fail,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForQuality {
    /// list of one of psnr, ssim, vmaf
    pub metrics: Vec<InputIndexForQualityMetrics>,
    /// uri
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

impl InputIndexForQuality {
    /// Without what may be left out.
    pub fn new(metrics: Vec<InputIndexForQualityMetrics>) -> InputIndexForQuality {
        InputIndexForQuality { metrics, report: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForQualityMetrics {
    #[serde(rename = "psnr")]
    Psnr,
    #[serde(rename = "ssim")]
    Ssim,
    #[serde(rename = "vmaf")]
    Vmaf,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForSubtitles {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "copy")]
    Copy,
    #[serde(rename = "none")]
    None,
    #[serde(rename = "srt")]
    Srt,
    #[serde(rename = "ass")]
    Ass,
    #[serde(rename = "webvtt")]
    Webvtt,
    #[serde(rename = "mov_text")]
    MovText,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForTrim {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
}

impl InputIndexForTrim {
    /// Without what may be left out.
    pub fn new() -> InputIndexForTrim {
        InputIndexForTrim { duration: None, start: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForVerify {
    #[serde(rename = "packets")]
    Packets,
    #[serde(rename = "sample")]
    Sample,
    #[serde(rename = "full")]
    Full,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForVideo {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bufsize_bits: Option<i64>,
    /// one of libx264, libx265, libsvtav1, libvpx-vp9
    pub codec: InputIndexForVideoCodec,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_used: Option<i64>,
    /// number
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crf: Option<f64>,
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_bars: Option<bool>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// list of any
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<serde_json::Value>>,
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_gop: Option<bool>,
    /// {den, num}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<InputIndexForVideoFrameRate>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gop_frames: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxrate_bps: Option<i64>,
    /// record
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<InputIndexForVideoOverlay>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pix_fmt: Option<String>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// {height, width}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<InputIndexForVideoSize>,
    /// any
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_quality: Option<serde_json::Value>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<i64>,
    /// one of hable, mobius, reinhard
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tonemap: Option<InputIndexForVideoTonemap>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<String>,
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_pass: Option<bool>,
}

impl InputIndexForVideo {
    /// Without what may be left out.
    pub fn new(codec: InputIndexForVideoCodec) -> InputIndexForVideo {
        InputIndexForVideo { bitrate_bps: None, bufsize_bits: None, codec, cpu_used: None, crf: None, crop_bars: None, deadline: None, filters: None, fixed_gop: None, frame_rate: None, gop_frames: None, maxrate_bps: None, overlay: None, pix_fmt: None, preset: None, profile: None, size: None, target_quality: None, threads: None, tonemap: None, tune: None, two_pass: None }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForVideoCodec {
    #[serde(rename = "libx264")]
    Libx264,
    #[serde(rename = "libx265")]
    Libx265,
    #[serde(rename = "libsvtav1")]
    Libsvtav1,
    #[serde(rename = "libvpx-vp9")]
    LibvpxVp9,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForVideoFrameRate {
    /// int
    pub den: i64,
    /// int
    pub num: i64,
}

impl InputIndexForVideoFrameRate {
    /// Without what may be left out.
    pub fn new(den: i64, num: i64) -> InputIndexForVideoFrameRate {
        InputIndexForVideoFrameRate { den, num }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForVideoOverlay {
    /// {corner, x, y}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<InputIndexForVideoOverlayAt>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// uri
    pub image: String,
    /// int
    pub opacity_percent: i64,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

impl InputIndexForVideoOverlay {
    /// Without what may be left out.
    pub fn new(image: String, opacity_percent: i64) -> InputIndexForVideoOverlay {
        InputIndexForVideoOverlay { at: None, from: None, image, opacity_percent, to: None }
    }
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForVideoOverlayAt {
    /// one of top-left, top-right, bottom-left, bottom-right, center
    pub corner: InputIndexForVideoOverlayAtCorner,
    /// int
    pub x: i64,
    /// int
    pub y: i64,
}

impl InputIndexForVideoOverlayAt {
    /// Without what may be left out.
    pub fn new(corner: InputIndexForVideoOverlayAtCorner, x: i64, y: i64) -> InputIndexForVideoOverlayAt {
        InputIndexForVideoOverlayAt { corner, x, y }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForVideoOverlayAtCorner {
    #[serde(rename = "top-left")]
    TopLeft,
    #[serde(rename = "top-right")]
    TopRight,
    #[serde(rename = "bottom-left")]
    BottomLeft,
    #[serde(rename = "bottom-right")]
    BottomRight,
    #[serde(rename = "center")]
    Center,
}

/// Part of [`Input`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputIndexForVideoSize {
    /// int
    pub height: i64,
    /// int
    pub width: i64,
}

impl InputIndexForVideoSize {
    /// Without what may be left out.
    pub fn new(height: i64, width: i64) -> InputIndexForVideoSize {
        InputIndexForVideoSize { height, width }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputIndexForVideoTonemap {
    #[serde(rename = "hable")]
    Hable,
    #[serde(rename = "mobius")]
    Mobius,
    #[serde(rename = "reinhard")]
    Reinhard,
}

/// What media.probe answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Output {
    /// {index}
    pub artifacts: OutputArtifacts,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate_bps: Option<i64>,
    /// int
    pub bytes: i64,
    /// list of {end_us, start_us, title}
    pub chapters: Vec<OutputChapters>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<i64>,
    /// text
    pub format: String,
    /// probe
    pub kind: OutputKind,
    /// {fetched_bytes, source_bytes, version}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<OutputRead>,
    /// {attempt, finished_us, started_us, worker}
    pub run: OutputRun,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_us: Option<i64>,
    /// list of record
    pub streams: Vec<OutputStreams>,
    /// list of list of text
    pub tags: Vec<Vec<String>>,
    /// list of {code, stream, text}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<OutputWarnings>>,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputArtifacts {
    /// {bytes, hash, uri}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<OutputArtifactsIndex>,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputArtifactsIndex {
    /// int
    pub bytes: i64,
    /// text
    pub hash: String,
    /// text
    pub uri: String,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputChapters {
    /// int
    pub end_us: i64,
    /// int
    pub start_us: i64,
    /// text
    pub title: String,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum OutputKind {
    #[serde(rename = "probe")]
    Probe,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputRead {
    /// int
    pub fetched_bytes: i64,
    /// int
    pub source_bytes: i64,
    /// text
    pub version: String,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputRun {
    /// int
    pub attempt: i64,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_us: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreams {
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate_bps: Option<i64>,
    /// text
    pub codec: String,
    /// list of text
    pub disposition: Vec<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// int
    pub index: i64,
    /// list of {first, offset_us, packet}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumps: Option<Vec<OutputStreamsJumps>>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// record
    pub media: OutputStreamsMedia,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_pts: Option<i64>,
    /// list of list of text
    pub tags: Vec<Vec<String>>,
    /// {den, num}
    pub time_base: OutputStreamsTimeBase,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsJumps {
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<bool>,
    /// int
    pub offset_us: i64,
    /// int
    pub packet: i64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsMedia {
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_picture: Option<bool>,
    /// {den, num}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_frame_rate: Option<OutputStreamsMediaAverageFrameRate>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_primaries: Option<String>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_range: Option<String>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_space: Option<String>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_transfer: Option<String>,
    /// {height, width, x, y}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<OutputStreamsMediaCrop>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_order: Option<String>,
    /// {den, num}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<OutputStreamsMediaFrameRate>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<i64>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pix_fmt: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<i64>,
    /// {den, num}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_aspect_ratio: Option<OutputStreamsMediaSampleAspectRatio>,
    /// text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_format: Option<String>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<i64>,
    /// bool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tells_scenes: Option<bool>,
    /// one of video, audio, subtitle, data, attachment
    pub r#type: OutputStreamsMediaType,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsMediaAverageFrameRate {
    /// int
    pub den: i64,
    /// int
    pub num: i64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsMediaCrop {
    /// int
    pub height: i64,
    /// int
    pub width: i64,
    /// int
    pub x: i64,
    /// int
    pub y: i64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsMediaFrameRate {
    /// int
    pub den: i64,
    /// int
    pub num: i64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsMediaSampleAspectRatio {
    /// int
    pub den: i64,
    /// int
    pub num: i64,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum OutputStreamsMediaType {
    #[serde(rename = "video")]
    Video,
    #[serde(rename = "audio")]
    Audio,
    #[serde(rename = "subtitle")]
    Subtitle,
    #[serde(rename = "data")]
    Data,
    #[serde(rename = "attachment")]
    Attachment,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputStreamsTimeBase {
    /// int
    pub den: i64,
    /// int
    pub num: i64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputWarnings {
    /// text
    pub code: String,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<i64>,
    /// text
    pub text: String,
}

/// What is called.
pub const FUNCTION: &str = "media.probe";

/// Workers run it for rules: this is the one rule it takes.
const RULES: &str = r#"service(name = "call-media-probe", version = "1", input = {"inputs": list_of(text()), "args": anything()})

rule(
    name = "call",
    match = [fact("input", as_ = "i")],
    action = lambda i: [call("media.probe", inputs = i.inputs, args = fields(i.args))],
    reaction = lambda results: [result(results[0])],
)
"#;

/// Gives the server a job of one call, and answers with the job's id. `inputs`: URIs: source.
///
/// # Errors
/// [`Error::Server`] when the server refuses it or cannot be reached.
pub async fn submit(channel: &tonic::transport::Channel, inputs: &[String], args: &Input) -> Result<String, Error> {
    let files = [("main.star".to_owned(), RULES.to_owned())].into();
    let request = v1::PushServiceRequest { files, dry_run: false };
    let pushed = v1::rule_service_client::RuleServiceClient::new(channel.clone()).push(request).await?.into_inner();
    let rules = v1::RulesSpec {
        service: pushed.service,
        version: pushed.hash,
        input: serde_json::json!({ "inputs": inputs, "args": args }).to_string(),
    };
    start(channel, v1::job_spec::Service::Rules(rules)).await
}

/// Calls it, and waits for what it answers.
///
/// # Errors
/// [`Error`]
pub async fn call(channel: &tonic::transport::Channel, inputs: &[String], args: &Input) -> Result<Output, Error> {
    let job = submit(channel, inputs, args).await?;
    wait(channel, &job).await
}

/// Waits for what a job's call answers.
///
/// # Errors
/// [`Error`]
pub async fn wait(channel: &tonic::transport::Channel, job: &str) -> Result<Output, Error> {
    Ok(serde_json::from_str(&end(channel, job).await?)?)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused, or nobody answers.
    #[error("{}", .0.message())]
    Server(#[from] Box<tonic::Status>),
    /// Of the job, as its failure says.
    #[error("{message} [{code}]")]
    Failed { job: String, class: String, code: String, message: String },
    /// It was cancelled.
    #[error("job {job} ended as {state}")]
    Ended { job: String, state: String },
    /// It is of another version than these types.
    #[error("what goes in or out is not of this version of {FUNCTION}: {0}")]
    OtherVersion(#[from] serde_json::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::Server(Box::new(status))
    }
}

async fn start(channel: &tonic::transport::Channel, service: v1::job_spec::Service) -> Result<String, Error> {
    let spec = v1::JobSpec { name: FUNCTION.into(), service: Some(service), ..v1::JobSpec::default() };
    let request = v1::SubmitRequest { request_id: String::new(), spec: Some(spec) };
    Ok(v1::job_service_client::JobServiceClient::new(channel.clone()).submit(request).await?.into_inner().job_id)
}

/// A job's output, as JSON.
async fn end(channel: &tonic::transport::Channel, job: &str) -> Result<String, Error> {
    let request = v1::WatchJobRequest { job_id: job.to_owned(), brief: true };
    let mut client = v1::job_service_client::JobServiceClient::new(channel.clone());
    let mut seen = client.watch(request).await?.into_inner();
    let mut last = v1::Job::default();
    while let Some(now) = seen.message().await? {
        last = now;
    }
    let job = job.to_owned();
    match (last.state.as_str(), last.failure) {
        ("done", _) => Ok(last.output_json),
        (_, Some(v1::Failure { class, code, message, .. })) => Err(Error::Failed { job, class, code, message }),
        (state, None) => Err(Error::Ended { job, state: state.to_owned() }),
    }
}
