//! Specs on the wire. Values that ffmpeg writes as text (`-vf`, `-map`, `-s`) travel as that text.

mod title;

use super::{BadField, from_name, name_of, narrow, v1};
use crate::pool::{Class, Hop, PoolName};
use crate::spec::picture::{Overlay, Place};
use crate::spec::{
    AudioSpec, AudioTrack, BenchSpec, Cuts, EncodeSpec, FunctionSpec, JobSpec, Loudness, MAX_ATTEMPTS_DEFAULT,
    NextInput, OnDamage, PRIORITY_DEFAULT, PRIORITY_MAX, QualitySpec, QualityTarget, Rational, RulesSpec, Service,
    Trim, Verify, VideoSpec, parse,
};
use crate::time::{Span, Timestamp};

/// Most attempts a task may be given.
const MAX_ATTEMPTS_LIMIT: u32 = 100;

impl From<&JobSpec> for v1::JobSpec {
    fn from(spec: &JobSpec) -> Self {
        let service = match &spec.service {
            Service::VideoEncode(encode) => v1::job_spec::Service::VideoEncode(encode.into()),
            Service::Title(title) => v1::job_spec::Service::Title(title.into()),
            Service::Rules(rules) => v1::job_spec::Service::Rules(v1::RulesSpec {
                service: rules.name.clone(),
                version: rules.version.clone(),
                input: rules.input.to_string(),
            }),
            Service::Function(function) => v1::job_spec::Service::Function(v1::FunctionSpec {
                function: function.name.clone(),
                version: function.version.clone(),
                input: function.input.to_string(),
                output: function.output.clone().unwrap_or_default(),
                overwrite: function.overwrite,
            }),
            Service::Bench(bench) => v1::job_spec::Service::Bench(v1::BenchSpec {
                tasks: bench.tasks,
                call_time_us: bench.call_time.0,
                through_executor: bench.through_executor,
            }),
        };
        v1::JobSpec {
            name: spec.name.clone(),
            priority: Some(spec.priority.into()),
            deadline_us: spec.deadline.map_or(0, |d| d.0),
            max_attempts: spec.max_attempts.into(),
            pool: spec.pool.to_string(),
            start_by_us: start_by_us(spec.class),
            not_preemptible: !spec.preemptible,
            hop: spec.hop.iter().map(Into::into).collect(),
            labels: spec.labels.clone().into_iter().collect(),
            notify: spec.notify.clone().unwrap_or_default(),
            service: Some(service),
        }
    }
}

impl TryFrom<v1::JobSpec> for JobSpec {
    type Error = BadField;

    fn try_from(wire: v1::JobSpec) -> Result<Self, BadField> {
        let service = match wire.service.ok_or_else(|| BadField::missing("spec.service"))? {
            v1::job_spec::Service::VideoEncode(encode) => Service::VideoEncode(encode.try_into()?),
            v1::job_spec::Service::Title(title) => Service::Title(title.try_into()?),
            v1::job_spec::Service::Rules(rules) => Service::Rules(RulesSpec {
                input: json("spec.rules.input", &rules.input)?,
                name: rules.service,
                version: rules.version,
            }),
            v1::job_spec::Service::Function(function) => Service::Function(FunctionSpec {
                input: json("spec.function.input", &function.input)?,
                name: function.function,
                version: function.version,
                output: Some(function.output).filter(|output| !output.is_empty()),
                overwrite: function.overwrite,
                order: None,
            }),
            v1::job_spec::Service::Bench(bench) => Service::Bench(BenchSpec {
                tasks: bench.tasks,
                call_time: Span(bench.call_time_us),
                through_executor: bench.through_executor,
            }),
        };
        let max_attempts = match wire.max_attempts {
            0 => MAX_ATTEMPTS_DEFAULT,
            n @ 1..=MAX_ATTEMPTS_LIMIT => narrow("spec.max_attempts", n.into())?,
            n => return Err(BadField::new("spec.max_attempts", format!("{n} is more than {MAX_ATTEMPTS_LIMIT}"))),
        };
        Ok(JobSpec {
            name: wire.name,
            service,
            priority: priority("spec.priority", wire.priority.unwrap_or(PRIORITY_DEFAULT.into()))?,
            deadline: (wire.deadline_us > 0).then_some(Timestamp(wire.deadline_us)),
            max_attempts,
            pool: if wire.pool.is_empty() { PoolName::default() } else { wire.pool.as_str().into() },
            class: class(wire.start_by_us),
            preemptible: !wire.not_preemptible,
            hop: wire.hop.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            labels: wire.labels.into_iter().collect(),
            notify: (!wire.notify.is_empty()).then_some(wire.notify),
        })
    }
}

/// Empty: null.
fn json(field: &str, text: &str) -> Result<serde_json::Value, BadField> {
    match text {
        "" => Ok(serde_json::Value::Null),
        text => serde_json::from_str(text).map_err(|e| BadField::new(field, format!("no JSON: {e}"))),
    }
}

/// Opportunistic until a time, or standard.
pub(super) fn class(start_by_us: Option<u64>) -> Class {
    start_by_us.map_or(Class::Standard, |us| Class::Opportunistic { start_by: Timestamp(us) })
}

pub(super) fn start_by_us(class: Class) -> Option<u64> {
    match class {
        Class::Standard => None,
        Class::Opportunistic { start_by } => Some(start_by.0),
    }
}

impl From<&Hop> for v1::Hop {
    fn from(hop: &Hop) -> Self {
        v1::Hop { after_us: hop.after.0, pool: hop.pool.to_string(), priority: hop.priority.map(Into::into) }
    }
}

impl TryFrom<v1::Hop> for Hop {
    type Error = BadField;

    fn try_from(wire: v1::Hop) -> Result<Self, BadField> {
        if wire.pool.is_empty() {
            return Err(BadField::missing("spec.hop.pool"));
        }
        Ok(Hop {
            after: Span(wire.after_us),
            pool: wire.pool.as_str().into(),
            priority: wire.priority.map(|p| priority("spec.hop.priority", p)).transpose()?,
        })
    }
}

/// A priority, judged: 0 to 100.
pub fn priority(field: &str, priority: u32) -> Result<u8, BadField> {
    u8::try_from(priority)
        .ok()
        .filter(|p| *p <= PRIORITY_MAX)
        .ok_or_else(|| BadField::new(field, format!("{priority} is not between 0 and {PRIORITY_MAX}")))
}

impl From<Rational> for v1::Rational {
    fn from(r: Rational) -> Self {
        v1::Rational { num: r.num, den: r.den }
    }
}

fn rational(field: &str, wire: v1::Rational) -> Result<Rational, BadField> {
    if wire.den <= 0 {
        return Err(BadField::new(field, format!("{}/{} needs a positive denominator", wire.num, wire.den)));
    }
    Ok(Rational::new(wire.num, wire.den))
}

impl From<&EncodeSpec> for v1::EncodeSpec {
    fn from(spec: &EncodeSpec) -> Self {
        v1::EncodeSpec {
            source: spec.source.clone(),
            output: spec.output.clone(),
            overwrite: spec.overwrite,
            container: name_of(spec.container),
            video: spec.video.as_ref().map(Into::into),
            audio: spec.audio.as_ref().map(Into::into),
            audio_tracks: spec.audio_tracks.iter().map(Into::into).collect(),
            subtitles: name_of(spec.subtitles),
            maps: spec.maps.iter().map(ToString::to_string).collect(),
            start_us: spec.trim.start.map(|s| s.0),
            duration_us: spec.trim.duration.map(|s| s.0),
            clips: spec.clips.iter().map(ToString::to_string).collect(),
            joined: spec
                .joined
                .iter()
                .map(|next| v1::NextInput {
                    source: next.source.clone(),
                    clips: next.clips.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            chunk_us: spec.chunk.map(|s| s.0),
            cuts: name_of(spec.cuts),
            verify: name_of(spec.verify),
            index: spec.index.clone(),
            on_damage: name_of(spec.on_damage),
            segment_frames: spec.segment_frames,
            quality: spec.quality.as_ref().map(|quality| v1::Quality {
                metrics: quality.metrics.iter().map(ToString::to_string).collect(),
                report: quality.report.clone(),
            }),
        }
    }
}

impl TryFrom<v1::EncodeSpec> for EncodeSpec {
    type Error = BadField;

    fn try_from(wire: v1::EncodeSpec) -> Result<Self, BadField> {
        let map = |text: &String| parse::stream_map(text).map_err(|e| BadField::new("maps", e));
        let clip = |text: &String| text.parse().map_err(|e: parse::ParseError| BadField::new("clips", e));
        Ok(EncodeSpec {
            source: wire.source,
            output: wire.output,
            overwrite: wire.overwrite,
            container: from_name("container", &wire.container)?,
            video: wire.video.map(TryInto::try_into).transpose()?,
            audio: wire.audio.map(TryInto::try_into).transpose()?,
            audio_tracks: wire.audio_tracks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            subtitles: match wire.subtitles.as_str() {
                "" => crate::spec::Subtitles::default(),
                name => from_name("subtitles", name)?,
            },
            maps: wire.maps.iter().map(map).collect::<Result<_, _>>()?,
            trim: Trim { start: wire.start_us.map(Span), duration: wire.duration_us.map(Span) },
            clips: wire.clips.iter().map(clip).collect::<Result<_, _>>()?,
            joined: wire
                .joined
                .into_iter()
                .map(|next| {
                    Ok(NextInput {
                        source: next.source,
                        clips: next.clips.iter().map(clip).collect::<Result<_, BadField>>()?,
                    })
                })
                .collect::<Result<_, BadField>>()?,
            chunk: wire.chunk_us.map(Span),
            cuts: cuts(&wire.cuts)?,
            verify: match wire.verify.as_str() {
                "" => Verify::default(),
                name => from_name("verify", name)?,
            },
            index: wire.index,
            on_damage: match wire.on_damage.as_str() {
                "" => OnDamage::default(),
                name => from_name("on_damage", name)?,
            },
            segment_frames: wire.segment_frames,
            quality: wire.quality.map(TryInto::try_into).transpose()?,
        })
    }
}

/// Those who say nothing of it.
fn cuts(name: &str) -> Result<Cuts, BadField> {
    if name.is_empty() { Ok(Cuts::default()) } else { from_name("cuts", name) }
}

impl TryFrom<v1::Quality> for QualitySpec {
    type Error = BadField;

    fn try_from(wire: v1::Quality) -> Result<Self, BadField> {
        let metric = |name: &String| name.parse().map_err(|e: String| BadField::new("quality.metrics", e));
        Ok(QualitySpec { metrics: wire.metrics.iter().map(metric).collect::<Result<_, _>>()?, report: wire.report })
    }
}

impl TryFrom<v1::QualityTarget> for QualityTarget {
    type Error = BadField;

    fn try_from(wire: v1::QualityTarget) -> Result<Self, BadField> {
        QualityTarget::new(&wire.metric, wire.score).map_err(|e| BadField::new("video.target_quality", e))
    }
}

impl From<&VideoSpec> for v1::VideoSpec {
    fn from(spec: &VideoSpec) -> Self {
        v1::VideoSpec {
            codec: name_of(spec.codec),
            crf: spec.crf,
            target_quality: spec
                .target_quality
                .map(|target| v1::QualityTarget { metric: target.metric().to_string(), score: target.score() }),
            bitrate_bps: spec.bitrate_bps,
            two_pass: spec.two_pass,
            maxrate_bps: spec.maxrate_bps,
            bufsize_bits: spec.bufsize_bits,
            preset: spec.preset.clone(),
            tune: spec.tune.clone(),
            profile: spec.profile.clone(),
            gop_frames: spec.gop_frames,
            fixed_gop: spec.fixed_gop,
            pix_fmt: spec.pix_fmt.clone(),
            filters: parse::filters_text(&spec.filters),
            size: spec.size.map(|s| s.to_string()),
            frame_rate: spec.frame_rate.map(Into::into),
            threads: spec.threads.map(Into::into),
            deadline: spec.deadline.clone(),
            cpu_used: spec.cpu_used.map(Into::into),
            crop_bars: spec.crop_bars,
            tonemap: spec.tonemap.map(name_of).unwrap_or_default(),
            overlay: spec.overlay.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::VideoSpec> for VideoSpec {
    type Error = BadField;

    fn try_from(wire: v1::VideoSpec) -> Result<Self, BadField> {
        let filters = match wire.filters.as_str() {
            "" => Vec::new(),
            text => parse::filters(text).map_err(|e| BadField::new("video.filters", e))?,
        };
        let cpu_used = wire
            .cpu_used
            .map(|n| i8::try_from(n).map_err(|_| BadField::new("video.cpu_used", format!("{n} is out of range"))));
        Ok(VideoSpec {
            codec: from_name("video.codec", &wire.codec)?,
            crf: wire.crf,
            target_quality: wire.target_quality.map(TryInto::try_into).transpose()?,
            bitrate_bps: wire.bitrate_bps,
            two_pass: wire.two_pass,
            maxrate_bps: wire.maxrate_bps,
            bufsize_bits: wire.bufsize_bits,
            preset: wire.preset,
            tune: wire.tune,
            profile: wire.profile,
            gop_frames: wire.gop_frames,
            fixed_gop: wire.fixed_gop,
            pix_fmt: wire.pix_fmt,
            filters,
            size: wire.size.map(|s| parse::size(&s).map_err(|e| BadField::new("video.size", e))).transpose()?,
            frame_rate: wire.frame_rate.map(|r| rational("video.frame_rate", r)).transpose()?,
            threads: wire.threads.map(|n| narrow("video.threads", n.into())).transpose()?,
            deadline: wire.deadline,
            cpu_used: cpu_used.transpose()?,
            crop_bars: wire.crop_bars,
            tonemap: match wire.tonemap.as_str() {
                "" => None,
                name => Some(from_name("video.tonemap", name)?),
            },
            overlay: wire.overlay.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Overlay> for v1::Overlay {
    fn from(spec: &Overlay) -> Self {
        v1::Overlay {
            image: spec.image.clone(),
            at: spec.at.to_string(),
            opacity_percent: spec.opacity_percent.into(),
            from_us: spec.from.map(|s| s.0),
            to_us: spec.to.map(|s| s.0),
        }
    }
}

impl TryFrom<v1::Overlay> for Overlay {
    type Error = BadField;

    fn try_from(wire: v1::Overlay) -> Result<Self, BadField> {
        Ok(Overlay {
            image: wire.image,
            at: match wire.at.as_str() {
                "" => Place::default(),
                text => text.parse().map_err(|e| BadField::new("video.overlay.at", e))?,
            },
            opacity_percent: match wire.opacity_percent {
                0 => 100,
                n => narrow("video.overlay.opacity_percent", n.into())?,
            },
            from: wire.from_us.map(Span),
            to: wire.to_us.map(Span),
        })
    }
}

impl From<&AudioSpec> for v1::AudioSpec {
    fn from(spec: &AudioSpec) -> Self {
        v1::AudioSpec {
            codec: name_of(spec.codec),
            bitrate_bps: spec.bitrate_bps,
            sample_rate_hz: spec.sample_rate_hz,
            channels: spec.channels.map(Into::into),
            channel_layout: spec.channel_layout.clone(),
            filters: parse::audio_filters_text(&spec.filters),
            loudness: spec.loudness.map(|loudness| v1::Loudness {
                target_lufs: loudness.target_lufs,
                true_peak_dbtp: Some(loudness.true_peak_dbtp),
            }),
        }
    }
}

impl From<&AudioTrack> for v1::AudioTrack {
    fn from(own: &AudioTrack) -> Self {
        v1::AudioTrack { track: own.track, audio: Some((&own.audio).into()) }
    }
}

impl TryFrom<v1::AudioTrack> for AudioTrack {
    type Error = BadField;

    fn try_from(wire: v1::AudioTrack) -> Result<Self, BadField> {
        let audio = wire.audio.ok_or_else(|| BadField::missing("audio_tracks.audio"))?;
        Ok(AudioTrack { track: wire.track, audio: audio.try_into()? })
    }
}

impl TryFrom<v1::AudioSpec> for AudioSpec {
    type Error = BadField;

    fn try_from(wire: v1::AudioSpec) -> Result<Self, BadField> {
        let layout = |text: String| parse::channel_layout(&text).map_err(|e| BadField::new("audio.channel_layout", e));
        let filters = match wire.filters.as_str() {
            "" => Vec::new(),
            text => parse::audio_filters(text).map_err(|e| BadField::new("audio.filters", e))?,
        };
        Ok(AudioSpec {
            codec: from_name("audio.codec", &wire.codec)?,
            bitrate_bps: wire.bitrate_bps,
            sample_rate_hz: wire.sample_rate_hz,
            channels: wire.channels.map(|n| narrow("audio.channels", n.into())).transpose()?,
            channel_layout: wire.channel_layout.map(layout).transpose()?,
            filters,
            loudness: wire.loudness.map(|loudness| Loudness {
                target_lufs: loudness.target_lufs,
                true_peak_dbtp: loudness.true_peak_dbtp.unwrap_or(Loudness::TRUE_PEAK_DBTP),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        AudioCodec, AudioFilter, BurnIn, Container, Filter, Gain, Size, StreamKind, StreamMap, Subtitles, TextCodec,
        ToneMap, VideoCodec,
    };

    fn full() -> JobSpec {
        let video = VideoSpec {
            codec: VideoCodec::LibvpxVp9,
            crf: Some(21.5),
            target_quality: Some(QualityTarget::Ssim(0.98)),
            bitrate_bps: Some(1_000_000),
            two_pass: true,
            maxrate_bps: Some(2_000_000),
            bufsize_bits: Some(4_000_000),
            preset: Some("medium".into()),
            tune: Some("film".into()),
            profile: Some("high".into()),
            gop_frames: Some(240),
            fixed_gop: true,
            pix_fmt: Some("yuv420p".into()),
            filters: vec![
                Filter::Crop { width: 640, height: 352, x: Some(0), y: Some(4) },
                Filter::Scale { width: 320, height: -2, algorithm: Some("lanczos".into()) },
                Filter::Fps(Rational::new(24000, 1001)),
                Filter::Format(vec!["yuv420p".into()]),
                Filter::Subtitles(BurnIn { file: Some("file:///a, b.srt".into()), ..BurnIn::default() }),
            ],
            size: Some(Size { width: 320, height: 180 }),
            frame_rate: Some(Rational::new(25, 1)),
            threads: Some(4),
            deadline: Some("good".into()),
            cpu_used: Some(-3),
            crop_bars: true,
            tonemap: Some(ToneMap::Mobius),
            overlay: Some(Overlay {
                image: "file:///logo.png".into(),
                at: "top-right:16:9".parse().unwrap(),
                opacity_percent: 80,
                from: Some(Span::from_secs(1)),
                to: None,
            }),
        };
        let audio = AudioSpec {
            codec: AudioCodec::Libopus,
            bitrate_bps: Some(128_000),
            sample_rate_hz: Some(48_000),
            channels: Some(2),
            channel_layout: Some("stereo".into()),
            filters: vec![AudioFilter::Volume(Gain::Db(-1.5)), AudioFilter::Volume(Gain::Factor(0.1))],
            loudness: Some(Loudness { target_lufs: -23.0, true_peak_dbtp: -1.0 }),
        };
        let own = AudioTrack { track: 1, audio: AudioSpec::new(AudioCodec::Copy) };
        let encode = EncodeSpec {
            source: "file:///in.mov".into(),
            output: "file:///out.webm".into(),
            overwrite: true,
            container: Container::Webm,
            video: Some(video),
            audio: Some(audio),
            audio_tracks: vec![own],
            subtitles: Subtitles::Text(TextCodec::Webvtt),
            maps: vec![
                StreamMap { negative: false, optional: false, kind: Some(StreamKind::Video), index: Some(0) },
                StreamMap { negative: false, optional: true, kind: Some(StreamKind::Audio), index: None },
            ],
            trim: Trim { start: Some(Span::from_secs(1)), duration: Some(Span::from_secs(9)) },
            clips: ["1-2.5", "0.04-", "-60"].map(|clip| clip.parse().unwrap()).to_vec(),
            joined: vec![NextInput { source: "file:///next".into(), clips: vec!["3-4".parse().unwrap()] }],
            chunk: Some(Span::from_secs(5)),
            cuts: Cuts::Scan,
            verify: Verify::Full,
            on_damage: OnDamage::Fail,
            index: Some("file:///out.json".into()),
            segment_frames: Some(480),
            quality: Some(QualitySpec {
                metrics: vec![crate::quality::Metric::Ssim],
                report: Some("file:///out.quality.json".into()),
            }),
        };
        JobSpec {
            name: "in.mov".into(),
            service: Service::VideoEncode(encode),
            priority: 60,
            deadline: Some(Timestamp(7)),
            max_attempts: 5,
            pool: "studio/marketing".into(),
            class: Class::Opportunistic { start_by: Timestamp(9) },
            preemptible: false,
            labels: [("show".to_owned(), "news".to_owned())].into(),
            notify: Some("https://example.org/done".into()),
            hop: vec![Hop { after: Span::from_secs(60), pool: "studio".into(), priority: Some(80) }],
        }
    }

    #[test]
    fn a_call_of_a_function_survives_the_wire_without_what_the_server_makes_of_it() {
        let function = FunctionSpec {
            name: "check".into(),
            version: "1.0".into(),
            input: serde_json::json!({"video": "file:///v", "n": [1, null]}),
            output: Some("file:///out/".into()),
            overwrite: true,
            order: None,
        };
        let spec = JobSpec::new("x", Service::Function(function));
        assert_eq!(JobSpec::try_from(v1::JobSpec::from(&spec)).unwrap(), spec);
        assert_eq!(spec.check(), Ok(()));
        let Service::Function(function) = spec.service else { unreachable!() };
        for output in ["file:///out", "https://host/out/", "out/"] {
            let to = FunctionSpec { output: Some(output.into()), ..function.clone() };
            assert!(JobSpec::new("x", Service::Function(to)).check().is_err(), "{output}");
        }
        let bad = v1::FunctionSpec { function: "check".into(), input: "{".into(), ..Default::default() };
        let bad = v1::JobSpec { service: Some(v1::job_spec::Service::Function(bad)), ..Default::default() };
        assert_eq!(JobSpec::try_from(bad).unwrap_err().field, "spec.function.input");
    }

    #[test]
    fn a_full_spec_survives_the_wire() {
        let spec = full();
        assert_eq!(JobSpec::try_from(v1::JobSpec::from(&spec)), Ok(spec));
    }

    #[test]
    fn a_bad_field_is_named() {
        type Spoil = fn(&mut v1::JobSpec);
        let cases: [(Spoil, &str); 4] = [
            (|s| s.service = None, "spec.service"),
            (|s| s.priority = Some(101), "spec.priority"),
            (|s| s.max_attempts = 101, "spec.max_attempts"),
            (
                |s| {
                    if let Some(v1::job_spec::Service::VideoEncode(e)) = &mut s.service {
                        e.container = "avi".into();
                    }
                },
                "container",
            ),
        ];
        for (spoil, field) in cases {
            let mut wire = v1::JobSpec::from(&full());
            spoil(&mut wire);
            assert_eq!(JobSpec::try_from(wire).map_err(|e| e.field), Err(field.to_owned()));
        }
    }
}
