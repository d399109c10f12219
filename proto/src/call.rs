//! What a worker is asked to do and what it answers: function names, arguments, manifests. Carried as JSON inside
//! tasks, so that old journals stay readable.

mod encode;
mod package;
mod plan;
mod scenes;
mod trial;
mod user;

pub use encode::{Analysis, BufferTarget, EncodeArgs, LoudnessFacts, NextTrack, Target, TrackArgs, TrackManifest};
pub use package::{ManifestArgs, PackageEntry, PublishPackageArgs, Replaced, SegmentArgs, SegmentSummary};
pub use plan::{ChunkSummary, Edit, PlanArgs, PlanSummary, VideoPlan};
pub use scenes::{PARTS_MAX, SceneChange, SceneList, ScenesArgs, ScenesManifest};
pub use trial::{POINTS_MAX, SAMPLE_BYTES_MAX, TrialArgs, TrialFound, TrialManifest, TrialPoint, TrialPoints};
pub use user::{UserArgs, UserOrder, backend};

use serde::{Deserialize, Serialize};

use crate::failure::Warning;
use crate::quality::{Metric, MetricSummary, decibels};
use crate::spec::{Container, EncodeSpec, ImageSpec, Rational, Verify};
use crate::vbv::{BufferCheck, RateBuffer};

/// Names of the functions a worker can run.
pub mod function {
    pub const NOOP: &str = "bench.noop";
    pub const PROBE: &str = "media.probe";
    pub const SCENES: &str = "media.scenes";
    pub const PLAN: &str = "media.plan";
    pub const ENCODE: &str = "media.encode";
    pub const ANALYSE: &str = "media.analyse";
    pub const AUDIO: &str = "media.audio";
    pub const SUBTITLE: &str = "media.subtitle";
    pub const TEXT: &str = "media.text";
    pub const IMAGES: &str = "media.images";
    pub const ASSEMBLE: &str = "media.assemble";
    pub const VALIDATE: &str = "media.validate";
    pub const INDEX: &str = "media.index";
    pub const TRIAL: &str = "media.trial";
    pub const QUALITY: &str = "media.quality";
    pub const QUALITY_REPORT: &str = "media.quality-report";
    /// Moves the validated film to where the user asked. Run by the worker itself: it is transfer, not media.
    pub const PUBLISH: &str = "spool.publish";
    pub const SEGMENT: &str = "media.segment";
    pub const MANIFEST: &str = "media.manifest";
    /// As `spool.publish`, of a folder.
    pub const PUBLISH_PACKAGE: &str = "spool.publish_package";
    /// Run by the worker itself, too.
    pub const LIST: &str = "spool.list";
    /// A function that somebody pushed. Each is placed under its own name: [`super::UserOrder::function`].
    pub const USER: &str = "user.function";
}

/// One call: function, typed arguments, where inputs are and where outputs go. A task's payload, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// URIs, by position; [`Args`] says which is which.
    pub inputs: Vec<String>,
    /// URI prefix (ends in `/`) under which outputs are stored, each as `<prefix><name>`. The worker makes names unique
    /// per lease: `<stem>.f<fence>.<extension>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output_prefix: String,
    /// What the source was when the job first read it ([`SourceRead::version`]): another one is refused. `None`: it was not read
    /// yet, or is a file of the worker's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    pub args: Args,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "function")]
pub enum Args {
    #[serde(rename = "bench.noop")]
    Noop { sleep_us: u64, through_executor: bool },
    /// inputs: source
    #[serde(rename = "media.probe")]
    Probe(ProbeArgs),
    /// inputs: source, packet index. Leaves the artifact `scenes`: a [`SceneList`] as JSON
    #[serde(rename = "media.scenes")]
    Scenes(Box<ScenesArgs>),
    /// inputs: every source, then the packet index of each, then the artifacts `scenes` that [`PlanArgs::scans`] counts
    #[serde(rename = "media.plan")]
    Plan(PlanArgs),
    /// inputs: source, plan; with [`EncodeArgs::target`] the artifacts of the chunk's `media.analyse`; the picture that is laid over the
    /// film where there is one; the text that is drawn into it where there is one
    #[serde(rename = "media.encode")]
    Encode(EncodeArgs),
    /// A chunk's first of two passes. inputs: as of an encode without target. Leaves the artifact `stats` and, where the encoder keeps one, `tree`
    #[serde(rename = "media.analyse")]
    Analyse(EncodeArgs),
    /// inputs: every source
    #[serde(rename = "media.audio")]
    Audio(TrackArgs),
    /// inputs: source
    #[serde(rename = "media.subtitle")]
    Subtitle(TrackArgs),
    /// inputs: source, or a subtitle file. Leaves the artifact `text`, a WebVTT file; with [`TextArgs::burn`] the artifact `script`
    #[serde(rename = "media.text")]
    Text(TextArgs),
    /// inputs: source. Leaves each picture, and the track of the sprites, as an artifact of its file's name
    #[serde(rename = "media.images")]
    Images(ImagesArgs),
    /// inputs: source (for chapters, tags, attachments), then every track file in output order, a video track's chunks in film
    /// order. Leaves the artifacts `film` and, with video, `timeline` (every output pts, in the encoder's timebase)
    #[serde(rename = "media.assemble")]
    Assemble(AssembleArgs),
    /// inputs: joined film, then the artifact `timeline` of the assembly (absent when there is no video)
    #[serde(rename = "media.validate")]
    Validate(ValidateArgs),
    /// inputs: joined film. Leaves the artifact `table`: the [`KeyframeTable`] whole, as JSON
    #[serde(rename = "media.index")]
    Index(IndexArgs),
    /// Trial encodes of samples of a chunk. inputs: as of an encode without target. Leaves nothing
    #[serde(rename = "media.trial")]
    Trial(Box<TrialArgs>),
    /// inputs: what [`Pairing`] says. Leaves the artifact `scores`
    #[serde(rename = "media.quality")]
    Quality(Box<QualityArgs>),
    /// inputs: the artifact `table` of the index, then the artifacts `scores` of every chunk, in film order. Leaves the artifacts
    /// `report` (JSON), `chart` (SVG) and `table` (the index with every frame's scores)
    #[serde(rename = "media.quality-report")]
    QualityReport(QualityReportArgs),
    /// inputs: joined film, then a file for each of [`PublishArgs::beside`]
    #[serde(rename = "spool.publish")]
    Publish(PublishArgs),
    /// inputs: one track's pieces in film order. Leaves the artifacts `track` (header and segments), `segments` (their table,
    /// a [`SegmentTable`](crate::package::SegmentTable) as JSON) and, of all of a track of video, `timeline`. Cut part by part
    /// ([`SegmentArgs::goes_on`]), the files one behind the other are that of all at once, and the last table is its
    #[serde(rename = "media.segment")]
    Segment(Box<SegmentArgs>),
    /// inputs: the tables of all tracks. Leaves one artifact a playlist, named by its path in the package
    #[serde(rename = "media.manifest")]
    Manifest(ManifestArgs),
    /// inputs: as [`PublishPackageArgs::entries`] say
    #[serde(rename = "spool.publish_package")]
    PublishPackage(PublishPackageArgs),
    /// no inputs
    #[serde(rename = "spool.list")]
    List(ListArgs),
    /// inputs: one for each of [`UserArgs::files`]. Leaves each file that the function left, named by its path
    #[serde(rename = "user.function")]
    User(UserArgs),
}

impl Args {
    pub fn function(&self) -> &'static str {
        match self {
            Args::Noop { .. } => function::NOOP,
            Args::Probe(_) => function::PROBE,
            Args::Scenes(_) => function::SCENES,
            Args::Plan(_) => function::PLAN,
            Args::Encode(_) => function::ENCODE,
            Args::Analyse(_) => function::ANALYSE,
            Args::Audio(_) => function::AUDIO,
            Args::Subtitle(_) => function::SUBTITLE,
            Args::Text(_) => function::TEXT,
            Args::Images(_) => function::IMAGES,
            Args::Assemble(_) => function::ASSEMBLE,
            Args::Validate(_) => function::VALIDATE,
            Args::Index(_) => function::INDEX,
            Args::Trial(_) => function::TRIAL,
            Args::Quality(_) => function::QUALITY,
            Args::QualityReport(_) => function::QUALITY_REPORT,
            Args::Publish(_) => function::PUBLISH,
            Args::Segment(_) => function::SEGMENT,
            Args::Manifest(_) => function::MANIFEST,
            Args::PublishPackage(_) => function::PUBLISH_PACKAGE,
            Args::List(_) => function::LIST,
            Args::User(_) => function::USER,
        }
    }
}

/// A file a call left behind, stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Name the function gave it: `index`, `plan`, `chunk`, `track`, `film`, `scores`, …
    pub name: String,
    pub uri: String,
    pub bytes: u64,
    /// BLAKE3, hex.
    pub hash: String,
}

/// What a call answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// How the source was read, where the worker fetched it. `None`: it is a file of the worker's machine, or not an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRead>,
    pub value: Value,
}

/// How a call read its source over a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRead {
    /// Bytes that came for this call. What other calls had fetched on the same worker is not counted twice.
    pub fetched_bytes: u64,
    /// Bytes of the whole source.
    pub source_bytes: u64,
    /// Its size with its entity tag or time of change: differs when the source does.
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Value {
    Noop,
    Probe(Box<SourceFacts>),
    Scenes(ScenesManifest),
    Plan(PlanSummary),
    /// A chunk of video, a whole audio or subtitle track.
    Track(TrackManifest),
    Analysis(Analysis),
    Film(FilmManifest),
    Text(TextManifest),
    Images(ImagesManifest),
    Index(KeyframeTable),
    Segments(SegmentSummary),
    Manifest,
    Trial(TrialManifest),
    Quality(QualityManifest),
    Published {
        uri: String,
        bytes: u64,
    },
    /// Sorted by URI.
    Listed {
        files: Vec<ListedFile>,
    },
    /// What a user's function answered: of the form its manifest says.
    User {
        result: serde_json::Value,
        /// The end of what it said on stderr, and its messages.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        log: String,
    },
}

// ---- probe ----

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeArgs {
    /// Also read every packet and leave the artifact `index` (packet index of the video stream the spec chooses).
    /// `None`: only look (`spool probe`).
    pub index_for: Option<EncodeSpec>,
    /// Look for black bars, whatever the spec asks.
    #[serde(default)]
    pub crop_bars: bool,
}

/// What is in a source. Times are seconds from the file's own zero unless they carry a timebase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// libav's name of the format: `mov,mp4,m4a,3gp,3g2,mj2`.
    pub format: String,
    pub bytes: u64,
    /// Microseconds. `None` where unknown.
    pub start_us: Option<i64>,
    pub duration_us: Option<i64>,
    pub bit_rate_bps: Option<u64>,
    pub streams: Vec<StreamFacts>,
    pub chapters: Vec<Chapter>,
    pub tags: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chapter {
    pub start_us: i64,
    pub end_us: i64,
    pub title: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamFacts {
    pub index: u32,
    /// libav's name: `h264`.
    pub codec: String,
    pub profile: Option<String>,
    pub time_base: Rational,
    /// In `time_base`.
    pub start_pts: Option<i64>,
    /// In `time_base`.
    pub duration: Option<i64>,
    pub bit_rate_bps: Option<u64>,
    pub language: Option<String>,
    pub title: Option<String>,
    /// `default`, `forced`, `attached_pic`, …
    pub disposition: Vec<String>,
    pub tags: Vec<(String, String)>,
    /// Where its timestamps jump, by rising packet. Known only where packets were read (an encode), and empty in most films.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    pub media: MediaFacts,
}

/// From a packet of a stream on, the timestamps of the input are shifted by something else: those of a recording whose clock was set
/// anew, of broadcasts joined together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jump {
    /// Of the stream's packets with data, from 0.
    pub packet: u64,
    /// Added to its timestamps and those that follow. Microseconds.
    pub offset_us: i64,
    /// This stream was the first to meet it. ffmpeg moves such a packet in two steps, which rounds twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MediaFacts {
    Video(VideoFacts),
    Audio(AudioFacts),
    Subtitle,
    Data,
    Attachment,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoFacts {
    pub width: u32,
    pub height: u32,
    pub pix_fmt: Option<String>,
    pub sample_aspect_ratio: Rational,
    /// Clockwise degrees a player must turn the picture, from the display matrix.
    pub rotation: i32,
    /// libav's guess (`av_guess_frame_rate`), the one ffmpeg encodes with.
    pub frame_rate: Option<Rational>,
    pub average_frame_rate: Option<Rational>,
    pub field_order: Option<String>,
    pub color_range: Option<String>,
    pub color_primaries: Option<String>,
    pub color_transfer: Option<String>,
    pub color_space: Option<String>,
    /// A cover picture, not video.
    pub attached_picture: bool,
    /// Packets counted by reading the file; `None` when it was only looked at.
    pub packets: Option<u64>,
    /// Its keyframes tell where scenes change: it is none of the streams that have them everywhere. `None`: as `packets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tells_scenes: Option<bool>,
    /// What is left without black bars, of the picture as it is shown (turned). `None`: none were found, or they were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<CropFacts>,
}

/// A part of the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropFacts {
    pub width: u32,
    pub height: u32,
    pub x: u32,
    pub y: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioFacts {
    pub sample_rate_hz: u32,
    pub channels: u16,
    pub layout: String,
    pub sample_format: Option<String>,
}

// ---- text ----

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextArgs {
    /// Of the film the text belongs to: its trim, and its choice of streams, by which the film's clock starts.
    pub spec: EncodeSpec,
    /// Source stream index. `None`: the input is a subtitle file (SubRip, WebVTT, ASS), whose times count from the film's start.
    pub stream: Option<u32>,
    /// [`StreamFacts::jumps`] of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    /// To be drawn into the pictures: what is left is the whole text as ASS in Matroska, with the source's fonts, on the clock that
    /// filters see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub burn: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextManifest {
    /// Of every cue, in the file's order: by start. Of text to be drawn: when lines share the picture, so that where one stands depends on
    /// those before it.
    pub cues: Vec<CueTimes>,
    /// As the source names it: `eng`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Microseconds from the film's start. The end is after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CueTimes {
    pub start_us: i64,
    pub end_us: i64,
}

// ---- images ----

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagesArgs {
    pub spec: ImageSpec,
    /// Source stream index. `None`: the one an encode would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesManifest {
    /// In order of kind, then of time.
    pub files: Vec<ImageFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// `poster.jpg`, `thumb-0001.jpg`, `sprite-001.jpg`, `sprite.vtt`.
    pub name: String,
    pub kind: ImageKind,
    /// Microseconds from the film's start: when the picture is shown, a thumbnail stands for, a sheet begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<i64>,
    /// Pixels, of the file. 0 for the track.
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    Poster,
    Thumbnail,
    Sprite,
    /// The WebVTT track of the sprites.
    Track,
}

// ---- assemble, validate, index, publish ----

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssembleArgs {
    pub spec: EncodeSpec,
    pub source: SourceFacts,
    /// One entry per output track, in output order; inputs follow in the same order.
    pub tracks: Vec<AssembleTrack>,
    /// Of a film made of clips ([`PlanSummary::edits`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssembleTrack {
    pub stream: u32,
    /// How many inputs it takes: the chunks, or 1.
    pub pieces: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidateArgs {
    pub container: Container,
    pub verify: Verify,
    /// Output frames of the video track, from the chunk manifests.
    pub frames: Option<u64>,
    /// First output frame of each chunk.
    pub joins: Vec<u64>,
    /// Tracks the film must have, as libav codec names, in order.
    pub codecs: Vec<String>,
    /// What the pictures are to be read through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<RateBuffer>,
}

/// The joined film, measured from the film itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilmManifest {
    pub bytes: u64,
    pub duration_us: i64,
    pub video_frames: Option<u64>,
    /// Frames decoded while checking.
    pub decoded_frames: u64,
    /// BLAKE3 over the video pts list, hex.
    pub pts_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferCheck>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IndexArgs {
    /// First output frame of each chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<u64>,
}

/// Where the film can be entered, and what each of its frames costs. As an answer it holds no frames, which may be millions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyframeTable {
    pub time_base: Rational,
    pub keyframes: Vec<Keyframe>,
    /// First frame of each chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<u64>,
    /// Every frame, in display order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<FrameEntry>,
}

/// One coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrameEntry {
    pub pts: i64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
    /// Byte offset in the film, where the container has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Against what the encoder was given, where it was measured. Decibels, `null` where nothing differs.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decibels::option")]
    pub psnr: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyframe {
    /// In display order.
    pub frame: u64,
    pub pts: i64,
    /// Byte offset in the film, where the container has one.
    pub position: Option<u64>,
    pub bytes: u64,
}

// ---- quality ----

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityArgs {
    /// Of them those are scored that need no external scorer: PSNR and SSIM.
    pub metrics: Vec<Metric>,
    pub pairing: Pairing,
    /// For decoding. Does not change the scores.
    pub threads: u16,
}

/// Which frame is held against which. Always by number, never by time: two encodes round times differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "pair", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "made once a call; a box would only be in everybody's way")]
pub enum Pairing {
    /// inputs: reference, distorted. The first decoded frame of one with the first of the other, and so on.
    Number {
        /// Stream indexes. `None`: the first video stream.
        reference: Option<u32>,
        distorted: Option<u32>,
        /// Half-open range of frames to compare. `None`: all.
        frames: Option<(u64, u64)>,
        /// Compare what both have, where one has more frames. Else that is an error.
        shortest: bool,
    },
    /// inputs: source, plan, coded chunk. What the chunk's encoder was given with what its packets decode to.
    Chunk { spec: EncodeSpec, chunk: u32 },
}

/// Frames scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityManifest {
    /// Number of the first frame, then how many.
    pub first_frame: u64,
    pub frames: u64,
    /// When the first is shown.
    pub first_time_us: i64,
    /// As decoded and turned upright: the first frame of each.
    pub reference: PictureFacts,
    pub distorted: PictureFacts,
    pub scores: Vec<MetricSummary>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityReportArgs {
    /// What people call the two films.
    pub reference: String,
    pub distorted: String,
    /// Pictures as they were compared.
    pub reference_picture: PictureFacts,
    pub distorted_picture: PictureFacts,
    /// First output frame of each chunk.
    pub joins: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFacts {
    pub width: u32,
    pub height: u32,
    pub pix_fmt: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishArgs {
    pub output: String,
    pub overwrite: bool,
    /// BLAKE3 of the validated film, hex: what is published is what was checked.
    pub hash: String,
    /// Keyframe table to write beside it: from servers that did not keep it as an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<(String, KeyframeTable)>,
    /// Where the other inputs go, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
}

// ---- listings ----

/// Files of one listing; more are refused.
pub const LIST_MAX: usize = 5_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListArgs {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub folder: String,
    /// What names end in, capital or not. Empty: anything.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// Also what lies in folders of it.
    #[serde(default)]
    pub recursive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    pub uri: String,
    pub bytes: u64,
    /// Microseconds since the epoch.
    pub modified_us: u64,
}
