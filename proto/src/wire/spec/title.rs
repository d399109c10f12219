//! Titles on the wire.

use super::super::{BadField, from_name, name_of, v1};
use crate::spec::title::{
    AudioRendition, GOP_DEFAULT, LadderSpec, Rendition, SEGMENT_DEFAULT, TextRendition, TitleSpec, TrackChoice,
};
use crate::spec::{Trim, Verify};
use crate::time::Span;

impl From<&TitleSpec> for v1::TitleSpec {
    fn from(spec: &TitleSpec) -> Self {
        v1::TitleSpec {
            source: spec.source.clone(),
            output: spec.output.clone(),
            overwrite: spec.overwrite,
            start_us: spec.trim.start.map(|s| s.0),
            duration_us: spec.trim.duration.map(|s| s.0),
            video: spec.video.iter().map(Into::into).collect(),
            ladder: spec.ladder.as_ref().map(Into::into),
            audio: spec.audio.iter().map(Into::into).collect(),
            text: spec.text.iter().map(Into::into).collect(),
            packages: spec.packages.iter().map(|package| name_of(*package)).collect(),
            segment_us: spec.segment.0,
            gop_us: spec.gop.0,
            chunk_us: spec.chunk.map(|s| s.0),
            verify: name_of(spec.verify),
        }
    }
}

impl TryFrom<v1::TitleSpec> for TitleSpec {
    type Error = BadField;

    fn try_from(wire: v1::TitleSpec) -> Result<Self, BadField> {
        let or = |us: u64, usual: Span| if us == 0 { usual } else { Span(us) };
        Ok(TitleSpec {
            source: wire.source,
            output: wire.output,
            overwrite: wire.overwrite,
            trim: Trim { start: wire.start_us.map(Span), duration: wire.duration_us.map(Span) },
            video: wire.video.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            ladder: wire.ladder.map(TryInto::try_into).transpose()?,
            audio: wire.audio.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            text: wire.text.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            packages: wire.packages.iter().map(|name| from_name("packages", name)).collect::<Result<_, _>>()?,
            segment: or(wire.segment_us, SEGMENT_DEFAULT),
            gop: or(wire.gop_us, GOP_DEFAULT),
            chunk: wire.chunk_us.map(Span),
            verify: match wire.verify.as_str() {
                "" => Verify::default(),
                name => from_name("verify", name)?,
            },
        })
    }
}

impl From<&Rendition> for v1::Rendition {
    fn from(rendition: &Rendition) -> Self {
        let video = Some((&rendition.video).into());
        v1::Rendition { name: rendition.name.clone(), height: rendition.height, video }
    }
}

impl TryFrom<v1::Rendition> for Rendition {
    type Error = BadField;

    fn try_from(wire: v1::Rendition) -> Result<Self, BadField> {
        let video = wire.video.ok_or_else(|| BadField::missing("video.video"))?.try_into()?;
        Ok(Rendition { name: wire.name, height: wire.height, video })
    }
}

impl From<&LadderSpec> for v1::LadderSpec {
    fn from(ladder: &LadderSpec) -> Self {
        v1::LadderSpec {
            codecs: ladder.codecs.iter().map(|codec| name_of(*codec)).collect(),
            max_height: ladder.max_height,
            min_height: ladder.min_height,
            preset: ladder.preset.clone(),
        }
    }
}

impl TryFrom<v1::LadderSpec> for LadderSpec {
    type Error = BadField;

    fn try_from(wire: v1::LadderSpec) -> Result<Self, BadField> {
        Ok(LadderSpec {
            codecs: wire.codecs.iter().map(|name| from_name("ladder.codecs", name)).collect::<Result<_, _>>()?,
            max_height: wire.max_height,
            min_height: wire.min_height,
            preset: wire.preset,
        })
    }
}

impl From<&AudioRendition> for v1::AudioRendition {
    fn from(rendition: &AudioRendition) -> Self {
        v1::AudioRendition {
            name: rendition.name.clone(),
            audio: Some((&rendition.audio).into()),
            tracks: rendition.tracks.to_string(),
        }
    }
}

impl TryFrom<v1::AudioRendition> for AudioRendition {
    type Error = BadField;

    fn try_from(wire: v1::AudioRendition) -> Result<Self, BadField> {
        let tracks = match wire.tracks.as_str() {
            "" => TrackChoice::default(),
            text => text.parse().map_err(|e: String| BadField::new("audio.tracks", e))?,
        };
        let audio = wire.audio.ok_or_else(|| BadField::missing("audio.audio"))?.try_into()?;
        Ok(AudioRendition { name: wire.name, audio, tracks })
    }
}

impl From<&TextRendition> for v1::TextRendition {
    fn from(rendition: &TextRendition) -> Self {
        v1::TextRendition {
            name: rendition.name.clone(),
            tracks: rendition.tracks.to_string(),
            file: rendition.file.clone(),
            language: rendition.language.clone(),
        }
    }
}

impl TryFrom<v1::TextRendition> for TextRendition {
    type Error = BadField;

    fn try_from(wire: v1::TextRendition) -> Result<Self, BadField> {
        let tracks = match wire.tracks.as_str() {
            "" => TrackChoice::default(),
            text => text.parse().map_err(|e: String| BadField::new("text.tracks", e))?,
        };
        Ok(TextRendition { name: wire.name, tracks, file: wire.file, language: wire.language })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::title::Package;
    use crate::spec::{AudioCodec, AudioSpec, VideoCodec, VideoSpec};

    #[test]
    fn a_title_survives_the_wire() {
        let audio = |name: &str, tracks| AudioRendition {
            name: name.into(),
            audio: AudioSpec { bitrate_bps: Some(96_000), ..AudioSpec::new(AudioCodec::Libopus) },
            tracks,
        };
        let title = TitleSpec {
            source: "file:///in.mov".into(),
            output: "file:///out/".into(),
            overwrite: true,
            trim: Trim { start: Some(Span::from_secs(1)), duration: Some(Span::from_secs(9)) },
            video: vec![Rendition {
                name: "hd".into(),
                height: Some(720),
                video: VideoSpec { crf: Some(21.0), ..VideoSpec::new(VideoCodec::Libx265) },
            }],
            ladder: Some(LadderSpec {
                codecs: vec![VideoCodec::Libx264],
                max_height: Some(1080),
                min_height: Some(234),
                preset: Some("slow".into()),
            }),
            audio: vec![
                audio("a", TrackChoice::All),
                audio("b", TrackChoice::Best),
                audio("c", TrackChoice::Number(3)),
                audio("d", TrackChoice::Language("deu".into())),
            ],
            text: vec![TextRendition {
                name: "t".into(),
                tracks: TrackChoice::All,
                file: Some("file:///a.srt".into()),
                language: Some("eng".into()),
            }],
            packages: Package::ALL.to_vec(),
            segment: Span::from_secs(4),
            gop: Span::from_millis(1000),
            chunk: Some(Span::from_secs(8)),
            verify: Verify::Full,
        };
        let wire = v1::TitleSpec::from(&title);
        assert_eq!(TitleSpec::try_from(wire.clone()).unwrap(), title);
        let lengths = v1::TitleSpec { segment_us: 0, gop_us: 0, ..wire };
        let usual = TitleSpec::try_from(lengths).unwrap();
        assert_eq!((usual.segment, usual.gop), (SEGMENT_DEFAULT, GOP_DEFAULT));
    }
}
