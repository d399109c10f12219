//! Titles on the wire.

use super::super::{BadField, from_name, name_of, narrow, v1};
use crate::spec::title::{
    AudioRendition, GOP_DEFAULT, LadderSpec, Publish, Rendition, SEGMENT_DEFAULT, TextRendition, TitleSpec, TrackChoice,
};
use crate::spec::{ImageFormat, ImageSpec, Poster, QUALITY_DEFAULT, Sprites, Thumbnails, Trim, Verify};
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
            images: spec.images.as_ref().map(Into::into),
            packages: spec.packages.iter().map(|package| name_of(*package)).collect(),
            segment_us: spec.segment.0,
            gop_us: spec.gop.0,
            chunk_us: spec.chunk.map(|s| s.0),
            cuts: name_of(spec.cuts),
            verify: name_of(spec.verify),
            publish: name_of(spec.publish),
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
            images: wire.images.map(TryInto::try_into).transpose()?,
            packages: wire.packages.iter().map(|name| from_name("packages", name)).collect::<Result<_, _>>()?,
            segment: or(wire.segment_us, SEGMENT_DEFAULT),
            gop: or(wire.gop_us, GOP_DEFAULT),
            chunk: wire.chunk_us.map(Span),
            cuts: super::cuts(&wire.cuts)?,
            verify: match wire.verify.as_str() {
                "" => Verify::default(),
                name => from_name("verify", name)?,
            },
            publish: match wire.publish.as_str() {
                "" => Publish::default(),
                name => from_name("publish", name)?,
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
            per_title: ladder.per_title,
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
            per_title: wire.per_title,
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

impl From<&ImageSpec> for v1::ImageSpec {
    fn from(spec: &ImageSpec) -> Self {
        v1::ImageSpec {
            poster: spec.poster.as_ref().map(|p| v1::Poster { at_us: p.at.map(|at| at.0), width: p.width }),
            thumbnails: spec.thumbnails.as_ref().map(|t| v1::Thumbnails { every_us: t.every.0, width: t.width }),
            sprites: spec.sprites.as_ref().map(|s| v1::Sprites {
                every_us: s.every.0,
                columns: s.columns.into(),
                rows: s.rows.into(),
                width: s.width,
            }),
            format: name_of(spec.format),
            quality: spec.quality.into(),
            exact: spec.exact,
        }
    }
}

impl TryFrom<v1::ImageSpec> for ImageSpec {
    type Error = BadField;

    fn try_from(wire: v1::ImageSpec) -> Result<Self, BadField> {
        let sprites = |s: v1::Sprites| {
            Ok::<_, BadField>(Sprites {
                every: Span(s.every_us),
                columns: narrow("images.sprites.columns", s.columns.into())?,
                rows: narrow("images.sprites.rows", s.rows.into())?,
                width: s.width,
            })
        };
        Ok(ImageSpec {
            poster: wire.poster.map(|p| Poster { at: p.at_us.map(Span), width: p.width }),
            thumbnails: wire.thumbnails.map(|t| Thumbnails { every: Span(t.every_us), width: t.width }),
            sprites: wire.sprites.map(sprites).transpose()?,
            format: match wire.format.as_str() {
                "" => ImageFormat::default(),
                name => from_name("images.format", name)?,
            },
            quality: match wire.quality {
                0 => QUALITY_DEFAULT,
                quality => narrow("images.quality", quality.into())?,
            },
            exact: wire.exact,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::title::Package;
    use crate::spec::{AudioCodec, AudioSpec, Cuts, VideoCodec, VideoSpec};

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
                per_title: true,
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
            images: Some(ImageSpec {
                poster: Some(Poster { at: Some(Span::from_secs(3)), width: Some(640) }),
                thumbnails: Some(Thumbnails { every: Span::from_secs(10), width: 160 }),
                sprites: Some(Sprites { every: Span::from_secs(5), columns: 4, rows: 3, width: 120 }),
                format: ImageFormat::Webp,
                quality: 70,
                exact: true,
            }),
            publish: Publish::Live,
            packages: Package::ALL.to_vec(),
            segment: Span::from_secs(4),
            gop: Span::from_millis(1000),
            chunk: Some(Span::from_secs(8)),
            cuts: Cuts::Index,
            verify: Verify::Full,
        };
        let wire = v1::TitleSpec::from(&title);
        assert_eq!(TitleSpec::try_from(wire.clone()).unwrap(), title);
        let lengths = v1::TitleSpec { segment_us: 0, gop_us: 0, ..wire };
        let usual = TitleSpec::try_from(lengths).unwrap();
        assert_eq!((usual.segment, usual.gop), (SEGMENT_DEFAULT, GOP_DEFAULT));
    }
}
