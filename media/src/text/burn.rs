//! Text that is drawn into the pictures: every line as ASS, to the millisecond, in a Matroska file with the source's fonts. That is
//! what libavfilter's `subtitles` reads, from the scratch of each chunk.

use spool_proto::call::{CueTimes, TextManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{Container, Rational};

use crate::av::AvError;
use crate::av::input::{MediaKind, Stream};
use crate::av::output::{Output, StreamSetup};
use crate::av::subtitle::Encoder;
use crate::piece::Packet;
use crate::track::events::{self, Opened};
use crate::{Host, Product};

/// Matroska's, and libass's.
const MILLISECOND: Rational = Rational::new(1, 1000);
/// Of all fonts of a source together.
const FONT_BYTES_MAX: usize = 128 << 20;

struct Line {
    start_ms: i64,
    end_ms: i64,
    text: Vec<u8>,
}

/// Writes the artifact `script`.
pub fn run(opened: Opened, mut warnings: Vec<Warning>, host: &mut dyn Host) -> Result<Product, Failure> {
    let libav = |error: AvError| error.failure(Class::Internal, "encode_failed", "writing the text that is drawn");
    let language = opened.input.streams()[opened.index].tags.iter();
    let language = language.into_iter().find(|(key, _)| key.eq_ignore_ascii_case("language")).map(|(_, l)| l.clone());
    let fonts: Vec<Stream> = opened.input.streams().iter().filter(|stream| is_font(stream)).cloned().collect();
    let empty = crate::av::subtitle::Decoder::open(&opened.input, opened.index)?.header();
    let mut encoder = Encoder::open("ass", &empty)?;
    let mut lines = Vec::new();
    warnings.extend(events::read(opened, host, &mut |_, mut event, pts_us, _| {
        if event.is_empty() {
            return Ok(());
        }
        // As `subtitles` rounds it.
        let start_ms = (event.settle(pts_us) + 500).div_euclid(1000);
        let end_ms = start_ms + event.duration_ms();
        // What begins before the film does is cut: a file has no times below zero.
        if end_ms > start_ms.max(0) {
            lines.push(Line { start_ms: start_ms.max(0), end_ms, text: encoder.encode(&event).map_err(libav)? });
        }
        Ok(())
    })?);
    lines.sort_by_key(|line| line.start_ms);
    let path = host.scratch().join("script.mkv");
    let mut output = Output::create(&path, Container::Mkv)?;
    let parameters = encoder.parameters().map_err(libav)?;
    output.add_stream(&StreamSetup { parameters: &parameters, copied: false, tags: &[], disposition: 0 })?;
    let mut bytes = 0usize;
    for font in &fonts {
        bytes = bytes.saturating_add(font.extradata.len());
        if bytes > FONT_BYTES_MAX {
            warnings.push(Warning {
                code: "fonts_left_out".into(),
                stream: u32::try_from(font.index).ok(),
                text: format!(
                    "the source's fonts have more than {FONT_BYTES_MAX} bytes; from this one on they are left out"
                ),
            });
            break;
        }
        output.attach(font)?;
    }
    output.begin()?;
    for line in &lines {
        let packet = Packet {
            pts: Some(line.start_ms),
            dts: Some(line.start_ms),
            duration: line.end_ms - line.start_ms,
            key: true,
            data: line.text.clone(),
            ..Packet::default()
        };
        output.write(0, &packet, MILLISECOND)?;
    }
    output.finish(&mut || host.progress(0, 0, 0))?;
    let manifest = TextManifest { cues: together(&lines), language };
    Ok(Product { files: vec![("script".into(), path)], warnings, value: Value::Text(manifest) })
}

fn is_font(stream: &Stream) -> bool {
    let tag = |name: &str| stream.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    stream.kind == MediaKind::Attachment
        && (matches!(stream.codec.as_str(), "ttf" | "otf")
            || tag("mimetype").is_some_and(|kind| kind.contains("font") || kind.contains("opentype")))
}

/// When lines of one layer overlap. The renderer makes room for each as it comes, and keeps it there until it goes: between the first
/// and the last of such lines, pictures depend on those before.
fn together(lines: &[Line]) -> Vec<CueTimes> {
    let mut layers: Vec<(i64, Vec<(CueTimes, usize)>)> = Vec::new();
    for line in lines.iter().filter(|line| !is_placed(&line.text)) {
        let layer = layer(&line.text);
        let at = layers.iter().position(|(known, _)| *known == layer).unwrap_or_else(|| {
            layers.push((layer, Vec::new()));
            layers.len() - 1
        });
        let times = CueTimes { start_us: line.start_ms * 1000, end_us: line.end_ms * 1000 };
        match layers[at].1.last_mut() {
            Some((group, count)) if times.start_us < group.end_us => {
                group.end_us = group.end_us.max(times.end_us);
                *count += 1;
            }
            _ => layers[at].1.push((times, 1)),
        }
    }
    let groups = layers.into_iter().flat_map(|(_, groups)| groups);
    let mut together: Vec<CueTimes> = groups.filter(|(_, count)| *count > 1).map(|(group, _)| group).collect();
    together.sort_by_key(|group| (group.start_us, group.end_us));
    together
}

/// `ReadOrder,Layer,…`.
fn layer(text: &[u8]) -> i64 {
    let field = text.split(|byte| *byte == b',').nth(1).and_then(|field| std::str::from_utf8(field).ok());
    field.and_then(|field| field.trim().parse().ok()).unwrap_or(0)
}

/// The line says itself where it stands, so that it makes room for none: `{\pos(10,20)}`, `{\move(…)}`.
fn is_placed(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some(body) = text.splitn(9, ',').nth(8) else { return false };
    let mut rest = body;
    while let Some((_, behind)) = rest.split_once('{') {
        let (tags, after) = behind.split_once('}').unwrap_or(("", ""));
        let is = |name: &str, counts: &[usize]| {
            let arguments =
                tags.split_once(name).and_then(|(_, behind)| behind.split_once(')')).map(|(inside, _)| inside);
            arguments.is_some_and(|inside| {
                let numbers: Vec<&str> = inside.split(',').collect();
                counts.contains(&numbers.len()) && numbers.iter().all(|number| number.trim().parse::<f64>().is_ok())
            })
        };
        if is("\\pos(", &[2]) || is("\\move(", &[4, 6]) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(start_ms: i64, end_ms: i64, layer: i64, body: &str) -> Line {
        Line { start_ms, end_ms, text: format!("0,{layer},Default,,0,0,0,,{body}").into_bytes() }
    }

    #[test]
    fn lines_hang_together_where_they_overlap_in_a_layer() {
        let lines = [
            line(0, 1000, 0, "alone"),
            line(1000, 3000, 0, "with the next"),
            line(2000, 4000, 0, "and the one after"),
            line(3500, 3600, 1, "in another layer"),
            line(3900, 5000, 0, "last"),
            line(4500, 9000, 0, "{\\an7\\pos(10,20.5)}placed"),
            line(5000, 6000, 0, "alone again"),
        ];
        assert_eq!(together(&lines), [CueTimes { start_us: 1_000_000, end_us: 5_000_000 }]);
    }

    #[test]
    fn a_line_is_placed_only_by_a_tag_that_counts() {
        for (body, placed) in [
            ("\\pos(1,2)", false),
            ("{\\pos(1)}x", false),
            ("{\\move(1,2,3,4)}x", true),
            ("a{\\b1}b{\\move(1,2,3,4,0,500)}", true),
            ("{\\pos(1,two)}x", false),
        ] {
            assert_eq!(is_placed(&line(0, 1, 0, body).text), placed, "{body}");
        }
    }
}
