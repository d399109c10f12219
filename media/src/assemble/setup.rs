//! What the film carries besides its packets: tags, dispositions and chapters, as ffmpeg maps them by default.

use spool_proto::call::{Edit, MediaFacts, SourceFacts, StreamFacts};
use spool_proto::spec::{EncodeSpec, Rational};

use crate::av::input::InputChapter;
use crate::av::output::{self, ChapterSetup};
use crate::choose::{self, Subtitle};
use crate::params;

/// Global tags ffmpeg does not carry over: they told about the source file, not about the film.
const LEFT_BEHIND: [&str; 4] = ["creation_time", "company_name", "product_name", "product_version"];

pub fn film_tags(spec: &EncodeSpec, source: &SourceFacts) -> Vec<(String, String)> {
    let stale = |key: &str| {
        LEFT_BEHIND.iter().any(|left| key.eq_ignore_ascii_case(left))
            || ((spec.trim.duration.is_some() || !spec.clips.is_empty() || !spec.joined.is_empty())
                && key.eq_ignore_ascii_case("duration"))
    };
    source.tags.iter().filter(|(key, _)| !stale(key)).cloned().collect()
}

/// `encoder`: the libav name of what encoded it; `None` for a copied stream, which keeps the tag it has.
pub fn stream_tags(stream: &StreamFacts, encoder: Option<&str>) -> Vec<(String, String)> {
    let mut tags: Vec<_> = stream.tags.clone();
    for (key, value) in [("language", &stream.language), ("title", &stream.title)] {
        if let Some(value) = value
            && !tags.iter().any(|(other, _)| other.eq_ignore_ascii_case(key))
        {
            tags.push((key.into(), value.clone()));
        }
    }
    if let Some(encoder) = encoder {
        tags.retain(|(key, _)| !key.eq_ignore_ascii_case("encoder"));
        tags.push(("encoder".into(), format!("{} {encoder}", output::codec_library())));
    }
    tags
}

/// libav's name of the encoder a track went through; `None` for copied ones. `track`: which it is of the film's tracks of its kind.
pub fn encoder_name(spec: &EncodeSpec, stream: &StreamFacts, track: u32) -> Option<&'static str> {
    match stream.media {
        MediaFacts::Video(_) => spec.video.as_ref().map(|video| params::encoder_name(video.codec)),
        MediaFacts::Audio(_) => params::audio(spec.audio_of(track)?).map(|encoder| encoder.name),
        MediaFacts::Subtitle => match choose::subtitle(spec, &stream.codec) {
            Subtitle::As(text) => Some(text.name()),
            Subtitle::Copied | Subtitle::Lost => None,
        },
        MediaFacts::Data | MediaFacts::Attachment => None,
    }
}

/// The streams' own dispositions; where a kind has several streams and none is the default, the first becomes it.
pub fn dispositions(streams: &[&StreamFacts]) -> Vec<i32> {
    let mut bits: Vec<i32> = streams.iter().map(|stream| output::disposition_bits(&stream.disposition)).collect();
    let kind = |stream: &StreamFacts| std::mem::discriminant(&stream.media);
    for index in 0..streams.len() {
        let same = |other: &usize| kind(streams[*other]) == kind(streams[index]);
        let several = (0..streams.len()).filter(same).count() > 1;
        let chosen = (0..streams.len()).filter(same).any(|other| bits[other] & output::DEFAULT != 0);
        if several && !chosen && bits[index] & output::ATTACHED_PICTURE == 0 {
            bits[index] |= output::DEFAULT;
        }
    }
    bits
}

const MICROSECONDS: Rational = Rational::new(1, 1_000_000);

/// The source's chapters, moved and cut as the film is. `start_us`: where the source starts.
pub fn chapters(
    spec: &EncodeSpec,
    edits: &[Edit],
    start_us: Option<i64>,
    chapters: &[InputChapter],
) -> Vec<ChapterSetup> {
    if !edits.is_empty() {
        return edited_chapters(edits, start_us.unwrap_or(0), chapters);
    }
    let micros = |span: spool_proto::time::Span| i64::try_from(span.0).unwrap_or(i64::MAX);
    let offset = spec.trim.start.map_or(0, micros).saturating_add(start_us.unwrap_or(0));
    let kept = spec.trim.duration.map(micros);
    let wanted = |chapter: &&InputChapter| {
        chapter.end_us >= offset && kept.is_none_or(|kept| chapter.start_us <= kept.saturating_add(offset))
    };
    let chapter = |(id, chapter): (i64, &InputChapter)| ChapterSetup {
        id,
        time_base: MICROSECONDS,
        start: chapter.start_us.saturating_sub(offset).max(0),
        end: chapter.end_us.saturating_sub(offset).min(kept.unwrap_or(i64::MAX)),
        tags: chapter.tags.clone(),
    };
    (0..).zip(chapters.iter().filter(wanted)).map(chapter).collect()
}

/// What clips show of each chapter is a chapter of its own.
fn edited_chapters(edits: &[Edit], start_us: i64, chapters: &[InputChapter]) -> Vec<ChapterSetup> {
    let of_edit = |edit: &Edit| {
        let (edit, first) = (*edit, edit.source_us.saturating_add(start_us));
        chapters.iter().filter_map(move |chapter| {
            let start = chapter.start_us.saturating_sub(first).max(0);
            let end = chapter.end_us.saturating_sub(first).min(edit.length_us);
            (start < end).then(|| (edit.at_us + start, edit.at_us + end, chapter.tags.clone()))
        })
    };
    let chapter = |(id, (start, end, tags))| ChapterSetup { id, time_base: MICROSECONDS, start, end, tags };
    (0..).zip(edits.iter().flat_map(of_edit)).map(chapter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::spec::{Container, Subtitles, Trim};
    use spool_proto::time::Span;

    fn spec(trim: Trim) -> EncodeSpec {
        EncodeSpec {
            subtitles: Subtitles::None,
            trim,
            ..EncodeSpec::new("file:///a.mkv", "file:///b.mp4", Container::Mp4)
        }
    }

    fn source() -> SourceFacts {
        SourceFacts {
            format: "matroska,webm".into(),
            bytes: 1,
            start_us: Some(1_000_000),
            duration_us: None,
            bit_rate_bps: None,
            streams: Vec::new(),
            chapters: Vec::new(),
            tags: vec![("title".into(), "Film".into()), ("creation_time".into(), "1970-01-01".into())],
        }
    }

    fn audio(disposition: &[&str]) -> StreamFacts {
        StreamFacts {
            index: 1,
            codec: "aac".into(),
            profile: None,
            time_base: Rational::new(1, 48_000),
            start_pts: None,
            duration: None,
            bit_rate_bps: None,
            language: Some("deu".into()),
            title: None,
            disposition: disposition.iter().map(ToString::to_string).collect(),
            tags: vec![("encoder".into(), "old".into())],
            jumps: Vec::new(),
            media: MediaFacts::Subtitle,
        }
    }

    #[test]
    fn chapters_move_and_are_cut_with_the_film() {
        let trim = Trim { start: Some(Span::from_secs(3)), duration: Some(Span::from_secs(3)) };
        let chapter = |start_us, end_us| InputChapter { start_us, end_us, tags: vec![("title".into(), "A".into())] };
        let three = [chapter(1_000_000, 3_000_000), chapter(3_000_000, 6_000_000), chapter(6_000_000, 9_000_000)];
        let found = chapters(&spec(trim), &[], Some(1_000_000), &three);
        let times: Vec<_> = found.iter().map(|c| (c.id, c.start, c.end)).collect();
        assert_eq!(times, [(0, 0, 2_000_000), (1, 2_000_000, 3_000_000)]);
        assert_eq!(found[0].tags, three[0].tags);
        assert_eq!(chapters(&spec(Trim::default()), &[], None, &three).len(), 3);
        let edit = |source_us, length_us, at_us| Edit { source_us, length_us, at_us, input: 0 };
        let edits = [edit(4_000_000, 2_000_000, 0), edit(0, 2_500_000, 2_000_000)];
        let found = chapters(&spec(Trim::default()), &edits, Some(1_000_000), &three);
        let times: Vec<_> = found.iter().map(|c| (c.id, c.start, c.end)).collect();
        assert_eq!(
            times,
            [(0, 0, 1_000_000), (1, 1_000_000, 2_000_000), (2, 2_000_000, 4_000_000), (3, 4_000_000, 4_500_000)]
        );
    }

    #[test]
    fn the_sources_creation_time_is_not_the_films() {
        assert_eq!(film_tags(&spec(Trim::default()), &source()), [("title".to_string(), "Film".to_string())]);
    }

    #[test]
    fn the_first_of_several_becomes_the_default_unless_another_is() {
        let (plain, forced, chosen) = (audio(&[]), audio(&["forced"]), audio(&["default"]));
        assert_eq!(dispositions(&[&plain]), [0]);
        assert_eq!(dispositions(&[&plain, &forced]), [1, 64]);
        assert_eq!(dispositions(&[&plain, &chosen]), [0, 1]);
    }

    #[test]
    fn an_encoded_stream_names_its_new_encoder_and_keeps_its_language() {
        let tags = stream_tags(&audio(&[]), Some("libopus"));
        assert_eq!(tags[0], ("language".to_string(), "deu".to_string()));
        assert!(tags[1].0 == "encoder" && tags[1].1.starts_with("Lavc") && tags[1].1.ends_with(" libopus"), "{tags:?}");
        assert_eq!(stream_tags(&audio(&[]), None)[0].1, "old");
    }
}
