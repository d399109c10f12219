//! Text subtitles decoded and coded anew, at the times ffmpeg's `do_subtitle_out` gives them.

mod clips;

use spool_proto::call::TrackArgs;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::TextCodec;

use super::{Made, events, product};
use crate::av::input::MediaKind;
use crate::av::subtitle::{Decoder, Encoder};
use crate::av::{AvError, MICROSECONDS};
use crate::piece::{Packet, PieceWriter};
use crate::{Host, Product};

/// Converts one subtitle track into the artifact `track`.
///
/// # Errors
/// `no_decoder`, `undecodable` (class input), `no_encoder` (class host). An event that cannot be read is left out and told.
pub fn run(args: &TrackArgs, codec: TextCodec, host: &mut dyn Host) -> Result<Product, Failure> {
    if !args.edits.is_empty() {
        return clips::run(args, codec, host);
    }
    let path = host.scratch().join("track");
    let mut made: Option<(Encoder, PieceWriter<_>)> = None;
    let mut events = 0;
    let opened = events::open(args, MediaKind::Subtitle, host)?;
    let warnings = events::read(opened, host, &mut |decoder, mut event, pts_us, _| {
        if event.is_empty() {
            return Ok(());
        }
        if made.is_none() {
            made = Some(begin(codec, decoder, &path)?);
        }
        let Some((encoder, writer)) = &mut made else { return Ok(()) };
        let pts = event.settle(pts_us);
        let data = encoder.encode(&event).map_err(|error| {
            error.failure(Class::Internal, "encode_failed", format_args!("encoding the subtitles at {pts} µs"))
        })?;
        events += 1;
        writer.write(&Packet {
            pts: Some(pts),
            dts: Some(pts),
            duration: event.duration_ms().saturating_mul(1000),
            key: true,
            data,
            ..Packet::default()
        })?;
        Ok(())
    })?;
    let writer = match made {
        Some((_, writer)) => writer,
        // An empty track has parameters all the same.
        None => {
            let opened = events::open(args, MediaKind::Subtitle, host)?;
            begin(codec, &Decoder::open(&opened.input, opened.index)?, &path)?.1
        }
    };
    let summary = writer.finish()?;
    let made =
        Made { summary, time_base: MICROSECONDS, units: events, decoded: events, entry: "linear", loudness: None };
    Ok(product(args, made, path, warnings))
}

type Writer = PieceWriter<std::io::BufWriter<std::fs::File>>;

fn begin(codec: TextCodec, decoder: &Decoder, path: &std::path::Path) -> Result<(Encoder, Writer), Failure> {
    let encoder = Encoder::open(codec.name(), &decoder.header())?;
    let parameters = encoder.parameters().map_err(libav)?;
    let writer = PieceWriter::create(path, &parameters)?;
    Ok((encoder, writer))
}

fn libav(error: AvError) -> Failure {
    error.failure(Class::Internal, "libav", "working on subtitles")
}
