//! The DASH manifest (ISO/IEC 23009-1, live profile, static or dynamic), from what was measured of the segments. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use spool_proto::package::{Growth, PackagedTrack, Segment, SegmentTable, TrackMedia, file};

use super::manifest::{Described, language};

/// `manifest.mpd`.
pub fn manifest(tracks: &[Described<'_>], text: &[PackagedTrack], growth: Option<&Growth>) -> String {
    let buffer = tracks.iter().map(|track| track.longest_s).fold(0.0, f64::max);
    let times = match growth {
        None => {
            let total = tracks.iter().map(|track| track.table.total_s()).fold(0.0, f64::max);
            format!("type=\"static\" mediaPresentationDuration=\"PT{total:.3}S\"")
        }
        Some(growth) => format!(
            "type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"PT{:.3}S\"",
            date(growth.begun_us),
            date(growth.now_us),
            buffer
        ),
    };
    let mut xml = Xml { text: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), depth: 0 };
    xml.open(&format!(
        "MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" {times} \
         minBufferTime=\"PT{buffer:.3}S\""
    ));
    xml.open("Period id=\"1\" start=\"PT0S\"");
    let sets = sets(tracks);
    for (id, set) in (1..).zip(&sets) {
        adaptation_set(&mut xml, id, set);
    }
    for (id, track) in (sets.len() + 1..).zip(text) {
        subtitles(&mut xml, id, track);
    }
    xml.close("Period");
    xml.close("MPD");
    xml.text
}

/// As `xs:dateTime` writes it.
fn date(us: u64) -> String {
    let at = i64::try_from(us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.unwrap_or_default().to_string()
}

/// Tracks between which players switch by themselves: pictures of one codec, sound of one codec, language and number of channels.
fn sets<'a>(tracks: &'a [Described<'a>]) -> Vec<Vec<&'a Described<'a>>> {
    let mut sets: BTreeMap<(u8, String), Vec<&Described<'_>>> = BTreeMap::new();
    let mut order = Vec::new();
    for track in tracks {
        let family = track.table.codec.split('.').next().unwrap_or_default();
        let key = match track.table.media {
            TrackMedia::Video { .. } => (0, family.to_owned()),
            TrackMedia::Audio { channels, .. } => {
                (1, format!("{family} {channels} {}", language(track.as_track).unwrap_or_default()))
            }
        };
        if !sets.contains_key(&key) {
            order.push(key.clone());
        }
        sets.entry(key).or_default().push(track);
    }
    order.iter().filter_map(|key| sets.remove(key)).collect()
}

fn adaptation_set(xml: &mut Xml, id: usize, set: &[&Described<'_>]) {
    let Some(first) = set.first() else { return };
    let common = format!("AdaptationSet id=\"{id}\" segmentAlignment=\"true\" startWithSAP=\"1\"");
    match first.table.media {
        TrackMedia::Video { .. } => {
            xml.open(&format!("{common} contentType=\"video\" mimeType=\"video/mp4\""));
        }
        TrackMedia::Audio { channels, .. } => {
            let language = language(first.as_track).map(|code| format!(" lang=\"{code}\"")).unwrap_or_default();
            xml.open(&format!("{common} contentType=\"audio\" mimeType=\"audio/mp4\"{language}"));
            xml.leaf(&format!(
                "AudioChannelConfiguration schemeIdUri=\"urn:mpeg:mpegB:cicp:ChannelConfiguration\" value=\"{}\"",
                configuration(channels)
            ));
        }
    }
    let role = if set.iter().any(|track| track.as_track.default) || id == 1 { "main" } else { "alternate" };
    xml.leaf(&format!("Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"{role}\""));
    for track in set {
        representation(xml, track);
    }
    xml.close("AdaptationSet");
}

/// A text track is one file, outside of the segments.
fn subtitles(xml: &mut Xml, id: usize, track: &PackagedTrack) {
    let language = language(track).map(|code| format!(" lang=\"{code}\"")).unwrap_or_default();
    xml.open(&format!("AdaptationSet id=\"{id}\" contentType=\"text\" mimeType=\"text/vtt\"{language}"));
    let role = if track.forced { "forced-subtitle" } else { "subtitle" };
    xml.leaf(&format!("Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"{role}\""));
    // Text has no rate worth telling; the attribute must be there.
    xml.open(&format!("Representation id=\"{}\" bandwidth=\"1000\"", track.folder.replace('/', "-")));
    xml.text_leaf("BaseURL", &format!("{}/{}", track.folder, file::TEXT));
    xml.close("Representation");
    xml.close("AdaptationSet");
}

/// ISO/IEC 23091-3: eight channels are 7.1, which is number 12.
fn configuration(channels: u16) -> u16 {
    match channels {
        7 => 11,
        8 => 12,
        other => other,
    }
}

fn representation(xml: &mut Xml, track: &Described<'_>) {
    let Described { as_track, table, .. } = track;
    let id = as_track.folder.replace('/', "-");
    let media = match &table.media {
        TrackMedia::Video { width, height, sample_aspect_ratio, frame_rate, .. } => {
            let ratio = if sample_aspect_ratio.num > 0 {
                format!("{}:{}", sample_aspect_ratio.num, sample_aspect_ratio.den)
            } else {
                "1:1".into()
            };
            format!("width=\"{width}\" height=\"{height}\" sar=\"{ratio}\" frameRate=\"{frame_rate}\"")
        }
        TrackMedia::Audio { sample_rate_hz, .. } => format!("audioSamplingRate=\"{sample_rate_hz}\""),
    };
    xml.open(&format!(
        "Representation id=\"{id}\" codecs=\"{}\" bandwidth=\"{}\" {media}",
        table.codec,
        track.peak_bps.max(1)
    ));
    xml.text_leaf("BaseURL", &format!("{}/", as_track.folder));
    xml.open(&format!(
        "SegmentTemplate timescale=\"{}\" initialization=\"{}\" media=\"{}\" startNumber=\"1\"",
        table.time_base.den,
        file::HEADER,
        file::SEGMENT_TEMPLATE
    ));
    xml.open("SegmentTimeline");
    for (segment, repeats) in runs(table) {
        let repeats = if repeats > 0 { format!(" r=\"{repeats}\"") } else { String::new() };
        xml.leaf(&format!("S t=\"{}\" d=\"{}\"{repeats}", segment.start, segment.duration));
    }
    xml.close("SegmentTimeline");
    xml.close("SegmentTemplate");
    xml.close("Representation");
}

/// Segments that follow each other with one duration, as the first of them and how many more.
fn runs(table: &SegmentTable) -> Vec<(&Segment, u64)> {
    let mut runs: Vec<(&Segment, u64)> = Vec::new();
    for segment in &table.segments {
        match runs.last_mut() {
            Some((first, more)) if first.duration == segment.duration => *more += 1,
            _ => runs.push((segment, 0)),
        }
    }
    runs
}

struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let indent = self.depth * 2;
        writeln!(self.text, "{:indent$}{line}", "").expect("a String takes everything");
    }

    fn open(&mut self, tag: &str) {
        self.line(format_args!("<{tag}>"));
        self.depth += 1;
    }

    fn close(&mut self, name: &str) {
        self.depth -= 1;
        self.line(format_args!("</{name}>"));
    }

    fn leaf(&mut self, tag: &str) {
        self.line(format_args!("<{tag}/>"));
    }

    fn text_leaf(&mut self, name: &str, text: &str) {
        self.line(format_args!("<{name}>{text}</{name}>"));
    }
}
