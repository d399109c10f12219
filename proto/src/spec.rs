//! What a user asks for. Plain values: the CLI and the API make them, [`EncodeSpec::check`] judges them, a
//! job keeps them frozen.
//!
//! [`parse`] reads the texts ffmpeg's users type (`128k`, `1280:-2`, `23.976`, `00:01:30.5`) into these.

mod audio;
pub mod burn;
pub mod check;
pub mod clip;
pub mod cost;
pub mod filter;
mod images;
mod join;
pub mod labels;
pub mod parse;
pub mod picture;
mod scan;
mod target;
pub mod title;

use serde::{Deserialize, Serialize};

pub use audio::{AudioCodec, AudioFilter, AudioSpec, AudioTrack, CHANNEL_LAYOUTS, Gain, Loudness};
pub use images::{ImageFormat, ImageSpec, Poster, QUALITY_DEFAULT, Sprites, Thumbnails};
pub use join::{INPUTS_MAX, NextInput};

use crate::quality::Metric;
use crate::time::Span;
pub use burn::BurnIn;
pub use clip::Clip;
pub use filter::{Filter, Pixels};
pub use picture::{Overlay, ToneMap};
pub use scan::Scan;
pub use target::{CrfRange, QualityTarget};

/// What a job runs. `service` names the workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "service", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "made once a job; a box would only be in everybody's way")]
pub enum Service {
    VideoEncode(EncodeSpec),
    Title(title::TitleSpec),
    /// Rules that somebody pushed.
    Rules(RulesSpec),
    /// One call of a function that somebody pushed.
    Function(FunctionSpec),
    /// Measures dispatch: `tasks` calls of `bench.noop`.
    Bench(BenchSpec),
}

impl Service {
    pub fn name(&self) -> &str {
        match self {
            Service::VideoEncode(_) => "video-encode",
            Service::Title(_) => "title",
            Service::Rules(rules) => &rules.name,
            Service::Function(_) => "function",
            Service::Bench(_) => "bench",
        }
    }
}

/// A job as submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// For people. The source's file name by default.
    pub name: String,
    pub service: Service,
    /// 0 (last) to 100 (first). 50 by default.
    pub priority: u8,
    /// Finish by then, if possible: earlier deadlines go first among equal priorities. Microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<crate::time::Timestamp>,
    /// Attempts a task may use before its job fails, lost machines not counted.
    pub max_attempts: u8,
    #[serde(default)]
    pub pool: crate::pool::PoolName,
    #[serde(default)]
    pub class: crate::pool::Class,
    /// May a running task of it be stopped, at no cost to its attempts, for a pool's guarantee? What may not never runs on
    /// borrowed quota.
    #[serde(default = "yes")]
    pub preemptible: bool,
    /// Where it goes when it has waited; at most [`HOPS_MAX`], in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hop: Vec<crate::pool::Hop>,
    #[serde(default, skip_serializing_if = "labels::Labels::is_empty")]
    pub labels: labels::Labels,
    /// Called with the job when it has ended: `http(s)://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
}

impl JobSpec {
    /// A job with the defaults of everything but what it does.
    pub fn new(name: impl Into<String>, service: Service) -> JobSpec {
        JobSpec {
            name: name.into(),
            service,
            priority: PRIORITY_DEFAULT,
            deadline: None,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            pool: crate::pool::PoolName::default(),
            class: crate::pool::Class::Standard,
            preemptible: true,
            hop: Vec::new(),
            labels: labels::Labels::new(),
            notify: None,
        }
    }
}

fn yes() -> bool {
    true
}

pub const HOPS_MAX: usize = 8;

pub const PRIORITY_DEFAULT: u8 = 50;
pub const PRIORITY_MAX: u8 = 100;
pub const MAX_ATTEMPTS_DEFAULT: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSpec {
    pub tasks: u32,
    /// How long each call pretends to work.
    pub call_time: Span,
    /// True: through executor processes. False: the worker itself answers.
    pub through_executor: bool,
}

/// A job of a service made of rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RulesSpec {
    pub name: String,
    /// Hash of the rule set, or the beginning of it. Empty until the server has chosen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What the service's input says it may be.
    #[serde(default)]
    pub input: serde_json::Value,
}

/// A job of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionSpec {
    pub name: String,
    /// Hash of the version, the beginning of it, or what its author calls it. Empty: the one pushed last. Once the job is accepted,
    /// the whole hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What the function's manifest says it may be.
    #[serde(default)]
    pub input: serde_json::Value,
    /// URI prefix (ends in `/`) of a folder for the files that the function leaves. `None`: they go with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Replace objects that are there, in a store. A folder with other files in it is never touched.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overwrite: bool,
    /// Made by the server of all the above when it accepts the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<crate::call::UserOrder>>,
}

/// One film in, one film out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodeSpec {
    /// URI of the source: `file:///abs/path`.
    pub source: String,
    /// URI of the output.
    pub output: String,
    /// Replace an output that exists.
    pub overwrite: bool,
    pub container: Container,
    /// `None`: `-vn`.
    pub video: Option<VideoSpec>,
    /// `None`: `-an`.
    pub audio: Option<AudioSpec>,
    /// Output tracks whose settings differ from `audio`; at most one entry a track.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audio_tracks: Vec<AudioTrack>,
    pub subtitles: Subtitles,
    /// Empty: ffmpeg's default choice (best video, best audio, first subtitle).
    #[serde(default)]
    pub maps: Vec<StreamMap>,
    #[serde(default)]
    pub trim: Trim,
    /// Ranges of the source that are joined, in this order. Empty: one run of it, cut by `trim`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clips: Vec<Clip>,
    /// Sources that follow this one in the film.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<NextInput>,
    /// Length chunks should be near. `None`: chosen from the film's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Span>,
    /// What tells where scenes change, so that chunks begin there.
    #[serde(default, skip_serializing_if = "Cuts::is_auto")]
    pub cuts: Cuts,
    #[serde(default)]
    pub verify: Verify,
    /// Score the encode against what the encoder was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualitySpec>,
    /// Write the keyframe table as JSON to this URI too (it is always in the job).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What becomes of the film where its source is damaged.
    #[serde(default, skip_serializing_if = "OnDamage::is_salvage")]
    pub on_damage: OnDamage,
    /// The film is cut only where a multiple of so many frames begins: a segment of a package. With [`VideoSpec::fixed_gop`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_frames: Option<u32>,
}

impl EncodeSpec {
    /// Nothing of the source yet; everything else as it is without being asked for.
    pub fn new(source: impl Into<String>, output: impl Into<String>, container: Container) -> EncodeSpec {
        EncodeSpec {
            source: source.into(),
            output: output.into(),
            overwrite: false,
            container,
            video: None,
            audio: None,
            audio_tracks: Vec::new(),
            subtitles: Subtitles::default(),
            maps: Vec::new(),
            trim: Trim::default(),
            clips: Vec::new(),
            joined: Vec::new(),
            chunk: None,
            cuts: Cuts::default(),
            verify: Verify::default(),
            index: None,
            on_damage: OnDamage::default(),
            segment_frames: None,
            quality: None,
        }
    }

    /// What the output's audio track number `track` is to be. `None`: no audio is wanted.
    pub fn audio_of(&self, track: u32) -> Option<&AudioSpec> {
        let own = self.audio_tracks.iter().find(|own| own.track == track).map(|own| &own.audio);
        self.audio.as_ref().map(|all| own.unwrap_or(all))
    }
}

/// What the encode is scored by, and where the scores of every frame are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualitySpec {
    pub metrics: Vec<Metric>,
    /// URI of a JSON report; its chart is written beside it, as `.svg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    Mp4,
    Mov,
    Mkv,
    Webm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    Libx264,
    Libx265,
    Libsvtav1,
    #[serde(rename = "libvpx-vp9")]
    LibvpxVp9,
}

impl VideoCodec {
    /// How much longer a picture takes than in x264, roughly: the longest chunks start first, whatever encodes them.
    pub fn effort(self) -> u64 {
        match self {
            VideoCodec::Libx264 => 1,
            VideoCodec::Libsvtav1 => 2,
            VideoCodec::LibvpxVp9 => 3,
            VideoCodec::Libx265 => 4,
        }
    }

    /// libav's name of what the library makes.
    pub fn made(self) -> &'static str {
        match self {
            VideoCodec::Libx264 => "h264",
            VideoCodec::Libx265 => "hevc",
            VideoCodec::Libsvtav1 => "av1",
            VideoCodec::LibvpxVp9 => "vp9",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoSpec {
    pub codec: VideoCodec,
    /// `-crf`. Encoders take fractions (x264, x265); SVT-AV1 and VP9 take whole numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crf: Option<f32>,
    /// A quality that each chunk's mean just meets: its `-crf` is found by trial encodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_quality: Option<QualityTarget>,
    /// `-b:v`, bits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
    /// `bitrate_bps` is met over the whole film: a first pass over all chunks tells which of them need how much.
    #[serde(default, skip_serializing_if = "is_false")]
    pub two_pass: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxrate_bps: Option<u64>,
    /// `-bufsize`, bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bufsize_bits: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// `-g`: most frames between keyframes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gop_frames: Option<u32>,
    /// Keyframes every `gop_frames` and nowhere else: none at scene changes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fixed_gop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pix_fmt: Option<String>,
    /// `-vf`, in order.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Black bars are looked for and cropped, in front of the filters.
    #[serde(default, skip_serializing_if = "is_false")]
    pub crop_bars: bool,
    /// An HDR source is brought down to SDR, in front of the filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tonemap: Option<ToneMap>,
    /// Laid over the filtered picture, before it is scaled to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// `-s WxH`: scale after the filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// `-r`: constant frame rate, by repeating and dropping frames as ffmpeg does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<Rational>,
    /// `-threads` of each chunk's encoder. It changes the bits of x264 and x265, so it is frozen in the job and never
    /// follows a worker's cores. `None`: 1 per chunk when the film is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u16>,
    /// libvpx only: `-deadline` (`good`, `best`, `realtime`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// libvpx only: `-cpu-used`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_used: Option<i8>,
}

impl VideoSpec {
    /// The text that is drawn into the picture.
    pub fn burn_in(&self) -> Option<&BurnIn> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::Subtitles(burn) => Some(burn),
            _ => None,
        })
    }

    pub fn burn_in_mut(&mut self) -> Option<&mut BurnIn> {
        self.filters.iter_mut().find_map(|filter| match filter {
            Filter::Subtitles(burn) => Some(burn),
            _ => None,
        })
    }

    /// The encoder's own defaults.
    pub fn new(codec: VideoCodec) -> VideoSpec {
        VideoSpec {
            codec,
            crf: None,
            target_quality: None,
            bitrate_bps: None,
            two_pass: false,
            maxrate_bps: None,
            bufsize_bits: None,
            preset: None,
            tune: None,
            profile: None,
            gop_frames: None,
            fixed_gop: false,
            pix_fmt: None,
            filters: Vec::new(),
            crop_bars: false,
            tonemap: None,
            overlay: None,
            size: None,
            frame_rate: None,
            threads: None,
            deadline: None,
            cpu_used: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subtitles {
    /// Copied where the container takes them; else text is converted to what it takes, pictures are left out with a warning.
    #[default]
    Auto,
    /// `-c:s copy`: copied, or the job is refused.
    Copy,
    /// `-sn`.
    None,
    /// `-c:s srt`, …: text is converted, or the job is refused.
    #[serde(untagged)]
    Text(TextCodec),
}

/// What text subtitles are written as, by libav's names of the encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextCodec {
    Srt,
    Ass,
    Webvtt,
    MovText,
}

impl TextCodec {
    /// libav's name of what the encoder makes.
    pub fn made(self) -> &'static str {
        match self {
            TextCodec::Srt => "subrip",
            same => same.name(),
        }
    }

    /// The one that writes what a codec of libav's name holds.
    pub fn like(codec: &str) -> Option<TextCodec> {
        match codec {
            "subrip" | "srt" => Some(TextCodec::Srt),
            "ass" | "ssa" => Some(TextCodec::Ass),
            "webvtt" => Some(TextCodec::Webvtt),
            "mov_text" => Some(TextCodec::MovText),
            _ => None,
        }
    }

    /// Whether FFmpeg's muxer takes it.
    pub fn fits(self, container: Container) -> bool {
        match self {
            TextCodec::Srt | TextCodec::Ass => container == Container::Mkv,
            TextCodec::Webvtt => matches!(container, Container::Mkv | Container::Webm),
            TextCodec::MovText => matches!(container, Container::Mp4 | Container::Mov),
        }
    }

    /// What ffmpeg writes a container's text as; into mp4 and mov it writes none by itself.
    pub fn of(container: Container) -> TextCodec {
        match container {
            Container::Mp4 | Container::Mov => TextCodec::MovText,
            Container::Mkv => TextCodec::Ass,
            Container::Webm => TextCodec::Webvtt,
        }
    }
}

/// `num/den`, `den > 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rational {
    pub num: i32,
    pub den: i32,
}

impl Rational {
    pub const fn new(num: i32, den: i32) -> Rational {
        Rational { num, den }
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

impl std::fmt::Display for Rational {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// `-ss`, `-to`, `-t` as output options: times from the start of the film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trim {
    pub start: Option<Span>,
    /// Kept length. `-to` is turned into it.
    pub duration: Option<Span>,
}

/// One `-map`, plain choices only: `0`, `0:v`, `0:a:1`, `0:3`, with `-` in front to leave out, `?` behind for optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMap {
    pub negative: bool,
    pub optional: bool,
    pub kind: Option<StreamKind>,
    /// Within the kind if there is one, else in the file.
    pub index: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    Video,
    Audio,
    Subtitle,
    Data,
    Attachment,
}

/// What becomes of a film whose source is damaged: packets missing or broken, pictures that cannot be decoded, a file cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// What can be decoded is encoded, as ffmpeg does, and the job warns (`damaged_source`).
    #[default]
    Salvage,
    /// The job fails at the first damage (`source_damaged`).
    Fail,
}

impl OnDamage {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
    fn is_salvage(&self) -> bool {
        *self == OnDamage::Salvage
    }
}

/// What tells where scenes change. It moves the cuts between chunks, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cuts {
    /// The index where the source's keyframes may follow its scenes, else a scan; never a scan where segments leave little choice.
    #[default]
    Auto,
    /// The packet index alone: where the source's encoder set keyframes, and how large its packets are.
    Index,
    /// The pictures: all of them are decoded once more, small, in ranges side by side.
    Scan,
}

impl Cuts {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
    pub(crate) fn is_auto(&self) -> bool {
        *self == Cuts::Auto
    }
}

/// How the joined file is checked before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Every packet is read: counts, pts, sizes, parameters.
    Packets,
    /// And both sides of joins are decoded.
    #[default]
    Sample,
    /// And every frame is decoded.
    Full,
}
