//! Text subtitles of clips: each event is written once for every clip that shows it, cut to it.

use spool_proto::call::{Edit, TrackArgs};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::TextCodec;

use super::{Made, events, libav, product};
use crate::av::MICROSECONDS;
use crate::av::input::MediaKind;
use crate::av::subtitle::{Decoder, Encoder};
use crate::piece::{Packet, PieceWriter};
use crate::{Host, Product};

/// An event of the source, coded. Times are the film's clock, microseconds.
struct Line {
    start_us: i64,
    /// `None`: until the next one.
    end_us: Option<i64>,
    /// `None`: nothing is shown; it ends what was.
    data: Option<Vec<u8>>,
}

/// All text of a film is held: some hundred kilobytes.
pub fn run(args: &TrackArgs, codec: TextCodec, host: &mut dyn Host) -> Result<Product, Failure> {
    let path = host.scratch().join("track");
    let opened = events::open(args, MediaKind::Subtitle, host)?;
    let header = Decoder::open(&opened.input, opened.index)?.header();
    let mut encoder = Encoder::open(codec.name(), &header)?;
    let mut lines = Vec::new();
    let warnings = events::read(opened, host, &mut |_, mut event, pts_us, _| {
        let start_us = event.settle(pts_us);
        let end_us = event.known_duration_us().map(|length| start_us.saturating_add(length));
        let data = if event.is_empty() {
            None
        } else {
            Some(encoder.encode(&event).map_err(|error| {
                error.failure(Class::Internal, "encode_failed", format_args!("encoding the subtitles at {start_us} µs"))
            })?)
        };
        lines.push(Line { start_us, end_us, data });
        Ok(())
    })?;
    lines.sort_by_key(|line| line.start_us);
    let parameters = encoder.parameters().map_err(libav)?;
    let mut writer = PieceWriter::create(&path, &parameters)?;
    let mut events = 0;
    for edit in &args.edits {
        for (number, line) in lines.iter().enumerate() {
            let next_us = lines.get(number + 1).map_or(i64::MAX, |next| next.start_us);
            let Some((pts, duration)) = shown(edit, line.start_us, line.end_us.unwrap_or(next_us)) else { continue };
            let Some(data) = &line.data else { continue };
            let data = if codec == TextCodec::Ass { numbered(data, events) } else { data.clone() };
            writer.write(&Packet { pts: Some(pts), dts: Some(pts), duration, key: true, data, ..Packet::default() })?;
            events += 1;
        }
    }
    let summary = writer.finish()?;
    let made =
        Made { summary, time_base: MICROSECONDS, units: events, decoded: events, entry: "linear", loudness: None };
    Ok(product(args, made, path, warnings))
}

/// When a clip shows what the source shows from `start_us` until `end_us`: time in the film and duration.
fn shown(edit: &Edit, start_us: i64, end_us: i64) -> Option<(i64, i64)> {
    let (from, until) = (start_us.max(edit.source_us), end_us.min(edit.source_end_us()));
    (from < until).then(|| (edit.at_us + from - edit.source_us, until - from))
}

/// ASS events in containers begin with a number of their own: players take a second event of the same number for the first one once more.
fn numbered(data: &[u8], number: u64) -> Vec<u8> {
    match data.iter().position(|byte| *byte == b',') {
        Some(comma) => [number.to_string().as_bytes(), &data[comma..]].concat(),
        None => data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clip_shows_of_an_event_is_cut_to_it() {
        let edit = Edit { source_us: 1000, length_us: 500, at_us: 70, input: 0 };
        for (event, expected) in [
            ((1100, 1200), Some((170, 100))),
            ((900, 1100), Some((70, 100))),
            ((1400, 1600), Some((470, 100))),
            ((0, 9000), Some((70, 500))),
            ((1400, i64::MAX), Some((470, 100))),
            ((900, 1000), None),
            ((1500, 1600), None),
            ((1200, 1200), None),
        ] {
            assert_eq!(shown(&edit, event.0, event.1), expected, "{event:?}");
        }
    }

    #[test]
    fn numbers_of_events_are_made_unique() {
        assert_eq!(numbered(b"7,0,Default,,0,0,0,,Hi, you", 12), b"12,0,Default,,0,0,0,,Hi, you");
        assert_eq!(numbered(b"odd", 1), b"odd");
    }
}
