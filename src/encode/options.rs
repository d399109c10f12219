//! The options of `spool encode`: ffmpeg's names and values, turned into an [`EncodeSpec`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use spool_proto::pool::{Class, Hop, PoolName};
use spool_proto::quality::Metric;
use spool_proto::spec::labels::label;
use spool_proto::spec::parse;
use spool_proto::spec::picture::Place;
use spool_proto::spec::{
    AudioCodec, AudioFilter, AudioSpec, AudioTrack, Clip, Container, Cuts, EncodeSpec, Filter, JobSpec, Loudness,
    OnDamage, Overlay, QualitySpec, QualityTarget, Rational, Size, StreamMap, Subtitles, TextCodec, ToneMap, Trim,
    Verify, VideoCodec, VideoSpec,
};
use spool_proto::time::{Span, Timestamp};

use crate::exit::Stop;
use crate::quantity;
use crate::run::RunArgs;

/// ffmpeg's options are taken with one dash or two.
#[derive(Debug, Args)]
#[command(
    after_help = "ffmpeg's options are taken with one dash or two: -crf 21, --crf 21. docs/encode.md compares each with ffmpeg's.\n\
    Interrupted, the same command goes on where it stopped."
)]
pub struct EncodeArgs {
    /// The film to encode (with -i: the output)
    #[arg(value_name = "IN")]
    pub file: Option<PathBuf>,
    /// The film to encode, as ffmpeg takes it; several with --concat
    #[arg(short = 'i', value_name = "IN", allow_hyphen_values = true)]
    pub inputs: Vec<PathBuf>,
    /// Join all -i, in their order, to one film
    #[arg(long)]
    pub concat: bool,
    /// Where the film goes; the extension says which container: mp4, mov, mkv, webm
    #[arg(short, long, value_name = "OUT", allow_hyphen_values = true)]
    pub output: Option<PathBuf>,
    /// Replace an output that exists
    #[arg(short = 'y', conflicts_with = "never_overwrite")]
    pub overwrite: bool,
    /// Never replace an output that exists
    #[arg(short = 'n')]
    pub never_overwrite: bool,

    #[command(flatten, next_help_heading = "Video")]
    pub video: VideoArgs,
    #[command(flatten, next_help_heading = "Audio and subtitles")]
    pub audio: AudioArgs,
    #[command(flatten, next_help_heading = "Selection")]
    pub selection: SelectionArgs,
    #[command(flatten, next_help_heading = "Spool")]
    pub spool: SpoolArgs,
}

#[derive(Debug, Args)]
pub struct VideoArgs {
    /// Video encoder: libx264, libx265, libsvtav1, libvpx-vp9 [default: libx264; for webm libvpx-vp9]
    #[arg(long = "c:v", aliases = ["vcodec", "codec:v"], value_name = "ENCODER")]
    codec: Option<VideoCodec>,
    /// Constant quality, lower is better
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    crf: Option<f32>,
    /// Quality that each chunk just meets, by trial encodes of parts of it: ssim=0.98, psnr=42
    #[arg(long, value_name = "METRIC=SCORE")]
    target_quality: Option<QualityTarget>,
    /// Bit rate: 2M, 800k
    #[arg(long = "b:v", value_name = "RATE", value_parser = parse::bits)]
    bitrate: Option<u64>,
    /// Meet -b:v over the whole film, by a first pass over all of it (x264, x265)
    #[arg(long = "two-pass")]
    two_pass: bool,
    /// Highest bit rate over -bufsize
    #[arg(long, value_name = "RATE", value_parser = parse::bits)]
    maxrate: Option<u64>,
    /// Buffer that -maxrate is judged by
    #[arg(long, value_name = "BITS", value_parser = parse::bits)]
    bufsize: Option<u64>,
    /// Speed against size: medium (x264, x265), 8 (SVT-AV1)
    #[arg(long, value_name = "PRESET", allow_hyphen_values = true)]
    preset: Option<String>,
    /// What to tune for: film, animation, grain, …
    #[arg(long, value_name = "TUNE")]
    tune: Option<String>,
    /// Profile: high, main10, …
    #[arg(long = "profile:v", value_name = "PROFILE")]
    profile: Option<String>,
    /// Most frames between keyframes
    #[arg(short = 'g', value_name = "FRAMES")]
    gop: Option<u32>,
    /// Pixel format: yuv420p, yuv420p10le, …
    #[arg(long = "pix_fmt", value_name = "FORMAT")]
    pix_fmt: Option<String>,
    /// Filters, in order: scale, crop, fps, yadif, hqdn3d, … (docs/encode.md lists them)
    #[arg(long = "vf", alias = "filter:v", value_name = "CHAIN", value_parser = filters)]
    filters: Option<Filters>,
    /// Crop black bars (auto), or to W:H[:X:Y], in front of the filters
    #[arg(long, value_name = "auto|W:H[:X:Y]", value_parser = crop)]
    crop: Option<Crop>,
    /// HDR to SDR, in front of the filters: hable, mobius, reinhard. A source that is not HDR stays as it is
    #[arg(long, value_name = "CURVE")]
    tonemap: Option<ToneMap>,
    #[command(flatten)]
    pub overlay: OverlayArgs,
    /// Picture size, after the filters: 1280x720, hd720
    #[arg(short = 's', value_name = "SIZE", value_parser = parse::size)]
    size: Option<Size>,
    /// Constant frame rate, by repeating and dropping frames
    #[arg(short = 'r', value_name = "RATE", value_parser = parse::frame_rate)]
    rate: Option<Rational>,
    /// Threads of each chunk's encoder; changes the bits
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// libvpx-vp9: good, best, realtime; or when the film should be done: +2h, 2026-05-01T18:00:00Z
    #[arg(long, value_name = "MODE|TIME", value_parser = deadline)]
    deadline: Vec<Deadline>,
    /// libvpx-vp9: -8 to 8, higher is faster
    #[arg(long = "cpu-used", value_name = "N", allow_negative_numbers = true)]
    cpu_used: Option<i8>,
    /// No video
    #[arg(long = "vn", conflicts_with_all = [
        "codec", "crf", "target_quality", "bitrate", "two_pass", "maxrate", "bufsize", "preset", "tune", "profile", "gop", "pix_fmt", "filters", "crop",
        "tonemap", "overlay", "size", "rate", "threads", "cpu_used",
    ])]
    none: bool,
}

/// A still picture over the film.
#[derive(Debug, Args)]
pub struct OverlayArgs {
    /// Lay this picture over the film: a logo
    #[arg(long, value_name = "IMAGE")]
    pub overlay: Option<PathBuf>,
    /// Where: X:Y, or a corner and the distance from it: top-right:16:16 [default: top-left:0:0]
    #[arg(long = "overlay-at", value_name = "PLACE", requires = "overlay")]
    at: Option<Place>,
    /// Percent, 100 covers
    #[arg(long = "overlay-opacity", value_name = "N", default_value_t = 100, requires = "overlay")]
    opacity: u8,
    /// From this time of the source on
    #[arg(long = "overlay-from", value_name = "TIME", value_parser = parse::time, requires = "overlay")]
    from: Option<Span>,
    /// Until this time of the source
    #[arg(long = "overlay-to", value_name = "TIME", value_parser = parse::time, requires = "overlay")]
    to: Option<Span>,
}

#[derive(Debug, Args)]
pub struct AudioArgs {
    /// Audio encoder: aac, libopus, flac, ac3, eac3, libmp3lame, pcm_s16le, pcm_s24le, copy [default: aac; for webm libopus]
    #[arg(id = "audio_codec", long = "c:a", aliases = ["acodec", "codec:a"], value_name = "ENCODER")]
    codec: Option<AudioCodec>,
    /// Audio bit rate: 128k
    #[arg(id = "audio_bitrate", long = "b:a", value_name = "RATE", value_parser = parse::bits)]
    bitrate: Option<u64>,
    /// Sample rate in Hz
    #[arg(long = "ar", value_name = "HZ")]
    sample_rate: Option<u32>,
    /// Channels
    #[arg(long = "ac", value_name = "N")]
    channels: Option<u16>,
    /// Channel layout: stereo, 5.1, 7.1, …
    #[arg(long = "channel_layout", alias = "ch_layout", value_name = "LAYOUT", value_parser = parse::channel_layout)]
    channel_layout: Option<String>,
    /// Audio filters, in order: volume
    #[arg(id = "audio_filters", long = "af", alias = "filter:a", value_name = "CHAIN", value_parser = audio_filters)]
    filters: Option<AudioFilters>,
    /// Make each track so loud, in LUFS (EBU R128: -23): measured whole, then turned up or down by one gain
    #[arg(long, value_name = "LUFS", allow_hyphen_values = true)]
    loudness: Option<f32>,
    /// With --loudness: no true peak above this, in dBTP; higher ones are limited [default: -2]
    #[arg(long, value_name = "DBTP", allow_hyphen_values = true, requires = "loudness")]
    true_peak: Option<f32>,
    /// Settings of one output track: -c:a:1 ac3, -b:a:1 448k, -ar:a:1, -ac:a:1, -channel_layout:a:1, -filter:a:1
    #[arg(id = "audio_track", long = "audio-track", value_name = "TRACK:OPTION=VALUE", value_parser = track_option, hide = true)]
    tracks: Vec<TrackOption>,
    /// No audio
    #[arg(id = "no_audio", long = "an", conflicts_with_all = [
        "audio_codec", "audio_bitrate", "sample_rate", "channels", "channel_layout", "audio_filters", "loudness", "audio_track",
    ])]
    none: bool,
    /// Subtitles: copy; or text as srt, ass, webvtt, mov_text [default: copied where the container takes them, text converted where not]
    #[arg(long = "c:s", aliases = ["scodec", "codec:s"], value_name = "ENCODER", value_parser = subtitles, conflicts_with = "no_subtitles")]
    subtitles: Option<Subtitles>,
    /// No subtitles
    #[arg(long = "sn")]
    no_subtitles: bool,
}

#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Take these streams: 0:v, 0:a:1, 0:3, -0:s, 0:a?
    #[arg(long = "map", value_name = "STREAMS", value_parser = parse::stream_map, allow_hyphen_values = true)]
    maps: Vec<StreamMap>,
    /// Start here: 90, 1:30.5, 1500ms
    #[arg(long = "ss", value_name = "TIME", value_parser = parse::time, allow_hyphen_values = true)]
    start: Option<Span>,
    /// Stop here, counted from the source's start
    #[arg(long = "to", value_name = "TIME", value_parser = parse::time, allow_hyphen_values = true, conflicts_with = "duration")]
    end: Option<Span>,
    /// Keep this much
    #[arg(short = 't', value_name = "TIME", value_parser = parse::time, allow_hyphen_values = true)]
    duration: Option<Span>,
    /// Keep this range of the source: 10-20, 1:05-1:07.5, 90-, -20. Given several times, the ranges are joined in that order
    #[arg(long = "clip", value_name = "START-END", allow_hyphen_values = true)]
    clips: Vec<Clip>,
}

#[derive(Debug, Args)]
pub struct SpoolArgs {
    /// Length chunks should be near: 10s [default: chosen from the film's length]
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    pub chunk: Option<Span>,
    /// What tells where scenes change, so that chunks begin there: the source's keyframes (index), its pictures (scan), or these where keyframes cannot tell (auto)
    #[arg(long, value_name = "HOW", default_value = "auto")]
    cuts: Cuts,
    /// How the joined film is checked: packets, sample, full
    #[arg(long, value_name = "HOW", default_value = "sample")]
    verify: Verify,
    /// Where the source is damaged: salvage what can be decoded, with a warning, or fail
    #[arg(long, value_name = "WHAT", default_value = "salvage")]
    on_damage: OnDamage,
    /// Score the encode against what the encoder was given: psnr, ssim
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    quality: Vec<Metric>,
    /// Write every frame's scores as JSON here, and their chart beside it (.svg) [implies --quality psnr,ssim]
    #[arg(long, value_name = "FILE")]
    pub quality_report: Option<PathBuf>,
    /// Write the keyframe table as JSON here, with every frame's size and, with --quality, its scores
    #[arg(long, value_name = "FILE")]
    pub index: Option<PathBuf>,
    /// 0 (last) to 100 (first)
    #[arg(long, value_name = "N", default_value_t = spool_proto::spec::PRIORITY_DEFAULT)]
    pub priority: u8,
    #[command(flatten)]
    pub queueing: QueueingArgs,
    /// What people see the job as [default: the source's file name]
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub run: RunArgs,
}

impl SpoolArgs {
    fn quality(&self, report: Option<String>) -> Option<QualitySpec> {
        let mut metrics = self.quality.clone();
        if metrics.is_empty() && report.is_some() {
            metrics = vec![Metric::Psnr, Metric::Ssim];
        }
        metrics.sort_unstable();
        metrics.dedup();
        (!metrics.is_empty()).then_some(QualitySpec { metrics, report })
    }
}

/// URIs of what is read and written.
#[derive(Debug)]
pub struct Places {
    pub source: String,
    pub output: String,
    pub index: Option<String>,
    pub quality_report: Option<String>,
}

/// Whose capacity the job uses, and when. For servers that others use too.
#[derive(Debug, Args)]
pub struct QueueingArgs {
    /// The pool it goes to, such as studio/marketing [default: default]
    #[arg(long, value_name = "POOL", value_parser = crate::pool::name)]
    pool: Option<PoolName>,
    /// Use only capacity nobody else wants, until then: +6h, 2026-05-01T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = quantity::time)]
    opportunistic_until: Option<Timestamp>,
    /// Never stop what runs for another pool's guarantee; it then never runs on borrowed capacity
    #[arg(long)]
    not_preemptible: bool,
    /// If tasks still wait after so long, go on in another pool: 10m:studio/rush, 10m:studio/rush:80 with a priority
    #[arg(long = "hop", value_name = "AFTER:POOL[:PRIORITY]", value_parser = hop)]
    hops: Vec<Hop>,
    /// Kept with the job, to find it by: show=news; as often as wanted
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Call this http(s) address with the job as JSON when it has ended
    #[arg(long, value_name = "URL")]
    notify: Option<String>,
}

impl QueueingArgs {
    /// The option that means nothing without a server, if one is given.
    pub fn needs_server(&self) -> Option<&'static str> {
        [
            ("--pool", self.pool.is_some()),
            ("--opportunistic-until", self.opportunistic_until.is_some()),
            ("--hop", !self.hops.is_empty()),
            ("--notify", self.notify.is_some()),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }

    pub fn fill(&self, job: &mut JobSpec) {
        job.pool = self.pool.clone().unwrap_or_default();
        job.class = self.opportunistic_until.map_or(Class::Standard, |start_by| Class::Opportunistic { start_by });
        job.preemptible = !self.not_preemptible;
        job.hop = self.hops.clone();
        job.labels = self.labels.iter().cloned().collect();
        job.notify.clone_from(&self.notify);
    }
}

fn hop(text: &str) -> Result<Hop, String> {
    let bad = || "expected AFTER:POOL[:PRIORITY], such as 10m:studio/rush or 10m:studio/rush:80".to_owned();
    let (after, rest) = text.split_once(':').ok_or_else(bad)?;
    let (pool, priority) = match rest.split_once(':') {
        Some((pool, priority)) => (pool, Some(priority.parse().map_err(|_| bad())?)),
        None => (rest, None),
    };
    Ok(Hop { after: quantity::span(after)?, pool: crate::pool::name(pool)?, priority })
}

/// ffmpeg's `-deadline` is libvpx's effort; a time says when the film should be done. No text is both.
#[derive(Debug, Clone, PartialEq)]
enum Deadline {
    Effort(String),
    Done(Timestamp),
}

fn deadline(text: &str) -> Result<Deadline, String> {
    if matches!(text, "good" | "best" | "realtime") {
        return Ok(Deadline::Effort(text.into()));
    }
    quantity::time(text).map(Deadline::Done).map_err(|_| {
        "expected good, best or realtime (libvpx-vp9), or a time such as +2h or 2026-05-01T18:00:00Z".into()
    })
}

/// A parsed `-vf`; clap takes a bare `Vec` for an option given several times.
#[derive(Debug, Clone)]
struct Filters(Vec<Filter>);

/// `--crop`.
#[derive(Debug, Clone)]
enum Crop {
    Bars,
    To(Filter),
}

fn crop(text: &str) -> Result<Crop, parse::ParseError> {
    if text == "auto" {
        return Ok(Crop::Bars);
    }
    let mut chain = parse::filters(&format!("crop={text}"))?;
    Ok(Crop::To(chain.remove(0)))
}

fn filters(text: &str) -> Result<Filters, parse::ParseError> {
    parse::filters(text).map(Filters)
}

impl EncodeArgs {
    /// When the film should be done.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.video.deadline.iter().rev().find_map(|deadline| match deadline {
            Deadline::Done(at) => Some(*at),
            Deadline::Effort(_) => None,
        })
    }

    /// Source and output as the user named them.
    pub fn files(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (input, output) = match (self.inputs.first(), &self.file, &self.output) {
            (Some(input), Some(output), None) | (Some(input), None, Some(output)) => (input, output),
            (None, Some(input), Some(output)) => (input, output),
            (Some(_), Some(file), Some(_)) => {
                return Err(Stop::usage(format!("{}: with -i and -o there is no place for it", file.display())));
            }
            (Some(_), None, None) | (None, Some(_), None) => {
                return Err(Stop::usage("no output named: add -o OUT.mp4 (or .mov, .mkv, .webm)"));
            }
            (None, None, _) => return Err(Stop::usage("no film named: spool encode IN -o OUT")),
        };
        match (self.inputs.len(), self.concat) {
            (2.., false) => {
                return Err(Stop::usage(format!(
                    "-i {}: a second input; --concat joins several to one film",
                    self.inputs[1].display()
                )));
            }
            (0 | 1, true) => return Err(Stop::usage("--concat joins several inputs: give each with -i")),
            (2.., true) if !self.selection.clips.is_empty() => {
                return Err(Stop::usage(
                    "--clip with --concat: of which input? A job file names the clips of each, see spool submit",
                ));
            }
            _ => {}
        }
        Ok((input.clone(), output.clone()))
    }

    /// The spec for these places, with the container's defaults filled in. Not yet judged.
    pub fn spec(&self, places: Places) -> anyhow::Result<EncodeSpec> {
        let Places { source, output, index, quality_report } = places;
        let container = Container::of_path(&output).map_err(|e| Stop::usage(e.to_string()))?;
        if let (true, Some(effort)) = (self.video.none, self.video.effort()) {
            return Err(Stop::usage(format!(
                "-deadline {effort} with -vn: there is no video to encode; drop one of them"
            )));
        }
        let selection = &self.selection;
        let start = selection.start.unwrap_or(Span::ZERO);
        if let Some(end) = selection.end.filter(|end| *end <= start) {
            let (to, ss) = (parse::time_text(end), parse::time_text(start));
            return Err(Stop::usage(format!("-to {to} is not after -ss {ss}: nothing of the film would be left")));
        }
        let duration = selection.duration.or(selection.end.map(|end| end - start));
        let subtitles = match (self.audio.no_subtitles, self.audio.subtitles) {
            (true, _) => Subtitles::None,
            (false, Some(mode)) => mode,
            (false, None) => Subtitles::Auto,
        };
        Ok(EncodeSpec {
            source,
            output,
            overwrite: self.overwrite,
            container,
            video: (!self.video.none).then(|| self.video.spec(container)),
            audio: (!self.audio.none).then(|| self.audio.spec(container)),
            audio_tracks: self.audio.track_specs(container),
            subtitles,
            maps: selection.maps.clone(),
            trim: Trim { start: selection.start, duration },
            clips: selection.clips.clone(),
            // Looked for with the other files.
            joined: Vec::new(),
            chunk: self.spool.chunk,
            cuts: self.spool.cuts,
            verify: self.spool.verify,
            on_damage: self.spool.on_damage,
            quality: self.spool.quality(quality_report),
            index,
            segment_frames: None,
        })
    }
}

impl VideoArgs {
    /// libvpx's `-deadline`.
    fn effort(&self) -> Option<&String> {
        self.deadline.iter().rev().find_map(|deadline| match deadline {
            Deadline::Effort(effort) => Some(effort),
            Deadline::Done(_) => None,
        })
    }

    fn chain(&self) -> Vec<Filter> {
        let crop = match &self.crop {
            Some(Crop::To(crop)) => Some(crop.clone()),
            _ => None,
        };
        crop.into_iter().chain(self.filters.iter().flat_map(|Filters(chain)| chain.iter().cloned())).collect()
    }

    fn spec(&self, container: Container) -> VideoSpec {
        let by_container = if container == Container::Webm { VideoCodec::LibvpxVp9 } else { VideoCodec::Libx264 };
        VideoSpec {
            codec: self.codec.unwrap_or(by_container),
            crf: self.crf,
            target_quality: self.target_quality,
            bitrate_bps: self.bitrate.filter(|rate| *rate > 0),
            two_pass: self.two_pass,
            maxrate_bps: self.maxrate,
            bufsize_bits: self.bufsize,
            preset: self.preset.clone(),
            tune: self.tune.clone(),
            profile: self.profile.clone(),
            gop_frames: self.gop,
            fixed_gop: false,
            pix_fmt: self.pix_fmt.clone(),
            filters: self.chain(),
            crop_bars: matches!(self.crop, Some(Crop::Bars)),
            tonemap: self.tonemap,
            // Its picture is looked for with the other files.
            overlay: None,
            size: self.size,
            frame_rate: self.rate,
            threads: self.threads,
            deadline: self.effort().cloned(),
            cpu_used: self.cpu_used,
        }
    }
}

impl OverlayArgs {
    /// With the URI of its picture.
    pub fn spec(&self, image: String) -> Overlay {
        let at = self.at.unwrap_or_default();
        Overlay { image, at, opacity_percent: self.opacity, from: self.from, to: self.to }
    }
}

/// A parsed `-af`, as [`Filters`].
#[derive(Debug, Clone)]
struct AudioFilters(Vec<AudioFilter>);

fn audio_filters(text: &str) -> Result<AudioFilters, parse::ParseError> {
    parse::audio_filters(text).map(AudioFilters)
}

fn subtitles(text: &str) -> Result<Subtitles, String> {
    match text {
        "copy" => Ok(Subtitles::Copy),
        // libav's other name for it.
        "subrip" => Ok(Subtitles::Text(TextCodec::Srt)),
        _ => text.parse().map(Subtitles::Text).map_err(|_| "expected copy, srt, ass, webvtt or mov_text".into()),
    }
}

/// One setting of one output track.
#[derive(Debug, Clone)]
struct TrackOption {
    track: u32,
    setting: Setting,
}

#[derive(Debug, Clone)]
enum Setting {
    Codec(AudioCodec),
    Bitrate(u64),
    Rate(u32),
    Channels(u16),
    Layout(String),
    Filters(Vec<AudioFilter>),
}

/// `1:c:a=ac3`, which `-c:a:1 ac3` was made into.
fn track_option(text: &str) -> Result<TrackOption, String> {
    let bad = || format!("{text:?} is not TRACK:OPTION=VALUE");
    let (track, rest) = text.split_once(':').ok_or_else(bad)?;
    let (option, value) = rest.split_once('=').ok_or_else(bad)?;
    let track = track.parse().map_err(|_| bad())?;
    let said = |why: &dyn std::fmt::Display| format!("-{option}:{track} {value}: {why}");
    let setting = match option {
        "c:a" | "codec:a" => value.parse().map(Setting::Codec).map_err(|e| said(&e))?,
        "b:a" => parse::bits(value).map(Setting::Bitrate).map_err(|e| said(&e))?,
        "ar:a" => value.parse().map(Setting::Rate).map_err(|e| said(&e))?,
        "ac:a" => value.parse().map(Setting::Channels).map_err(|e| said(&e))?,
        "channel_layout:a" | "ch_layout:a" => {
            parse::channel_layout(value).map(Setting::Layout).map_err(|e| said(&e))?
        }
        "filter:a" => parse::audio_filters(value).map(Setting::Filters).map_err(|e| said(&e))?,
        _ => {
            return Err(format!(
                "-{option}:{track}: of one track c:a, b:a, ar:a, ac:a, channel_layout:a and filter:a can be set"
            ));
        }
    };
    Ok(TrackOption { track, setting })
}

impl AudioArgs {
    fn spec(&self, container: Container) -> AudioSpec {
        let by_container = if container == Container::Webm { AudioCodec::Libopus } else { AudioCodec::Aac };
        AudioSpec {
            codec: self.codec.unwrap_or(by_container),
            bitrate_bps: self.bitrate,
            sample_rate_hz: self.sample_rate,
            channels: self.channels,
            channel_layout: self.channel_layout.clone(),
            filters: self.filters.clone().map(|AudioFilters(chain)| chain).unwrap_or_default(),
            loudness: self.loudness.map(|target_lufs| Loudness {
                target_lufs,
                true_peak_dbtp: self.true_peak.unwrap_or(Loudness::TRUE_PEAK_DBTP),
            }),
        }
    }

    /// The tracks that differ from the others, in the order of their numbers: what is said of one goes before what is said of all.
    fn track_specs(&self, container: Container) -> Vec<AudioTrack> {
        let mut own: BTreeMap<u32, AudioSpec> = BTreeMap::new();
        // A track that is copied takes nothing of what is meant for those that are encoded.
        let copied = |track: u32| {
            let codecs = self.tracks.iter().filter(|option| option.track == track);
            matches!(
                codecs
                    .filter_map(|option| if let Setting::Codec(codec) = option.setting { Some(codec) } else { None })
                    .next_back(),
                Some(AudioCodec::Copy)
            )
        };
        for TrackOption { track, setting } in &self.tracks {
            let base = || if copied(*track) { AudioSpec::new(AudioCodec::Copy) } else { self.spec(container) };
            let audio = own.entry(*track).or_insert_with(base);
            match setting.clone() {
                Setting::Codec(codec) => audio.codec = codec,
                Setting::Bitrate(rate) => audio.bitrate_bps = Some(rate),
                Setting::Rate(hz) => audio.sample_rate_hz = Some(hz),
                Setting::Channels(channels) => (audio.channels, audio.channel_layout) = (Some(channels), None),
                Setting::Layout(layout) => (audio.channel_layout, audio.channels) = (Some(layout), None),
                Setting::Filters(filters) => audio.filters = filters,
            }
        }
        own.into_iter().map(|(track, audio)| AudioTrack { track, audio }).collect()
    }
}
