//! `media.index`: where the joined film can be entered, and what each frame costs.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::path::PathBuf;

use spool_proto::call::{FrameEntry, IndexArgs, Keyframe, KeyframeTable, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use crate::av::input::{Input, Limits, MediaKind, Read};
use crate::av::packet::Packet;
use crate::{Host, Product, scratch_failed};

/// A table of this many bytes has some thirty million frames.
const TABLE_BYTES_MAX: u64 = 2 << 30;

/// Lists the keyframes and all frames of the film's first video stream, in display order. A film without video has none.
///
/// # Errors
/// Class `internal`, code `validation_failed`, when the film cannot be read to its end.
pub fn run(args: &IndexArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let mut input = Input::open(host.open(0)?, &Limits::default())?;
    let video = input.streams().iter().find(|stream| stream.kind == MediaKind::Video && !stream.is_attached_picture());
    let (video, time_base) = match video {
        Some(stream) => (Some(stream.index), stream.time_base),
        None => (None, input.streams().first().map_or(Rational::new(1, 1_000_000), |stream| stream.time_base)),
    };
    let frames = match video {
        Some(video) => frames(&mut input, video, host)?,
        None => Vec::new(),
    };
    let keyframes = (0u64..).zip(&frames).filter(|(_, frame)| frame.key).map(|(number, frame)| Keyframe {
        frame: number,
        pts: frame.pts,
        position: frame.position,
        bytes: frame.bytes,
    });
    let mut table = KeyframeTable { time_base, keyframes: keyframes.collect(), chunks: args.joins.clone(), frames };
    let file = write_table(&table, host)?;
    table.frames = Vec::new();
    Ok(Product { files: vec![file], warnings: Vec::new(), value: Value::Index(table) })
}

/// Leaves a table as the artifact `table`.
pub(crate) fn write_table(table: &KeyframeTable, host: &dyn Host) -> Result<(String, PathBuf), Failure> {
    let path = host.scratch().join("table.json");
    let written = File::create(&path).and_then(|file| {
        let mut to = BufWriter::new(file);
        serde_json::to_writer(&mut to, table)?;
        to.write_all(b"\n")?;
        to.flush()
    });
    written.map_err(|error| scratch_failed(&path, &error))?;
    Ok(("table".to_owned(), path))
}

/// Reads the artifact `table` back from the call's input `index`.
pub(crate) fn read_table(index: usize, host: &mut dyn Host) -> Result<KeyframeTable, Failure> {
    let mut json = Vec::new();
    let read = host.open(index)?.take(TABLE_BYTES_MAX).read_to_end(&mut json);
    read.map_err(|error| Failure::new(Class::Host, "artifact_io", format!("index: {error}")))?;
    serde_json::from_slice(&json)
        .map_err(|error| Failure::new(Class::Internal, "artifact_malformed", format!("index: {error}")))
}

/// In display order.
fn frames(input: &mut Input, video: usize, host: &mut dyn Host) -> Result<Vec<FrameEntry>, Failure> {
    let broken = |what: String| Failure::new(Class::Internal, "validation_failed", what);
    input.select(&[video]);
    let mut packet = Packet::new().map_err(|error| error.failure(Class::Internal, "libav", "reading packets"))?;
    let mut frames = Vec::new();
    loop {
        match input.read(&mut packet)? {
            Read::Packet if packet.stream() != video => continue,
            Read::Packet => {}
            Read::End => break,
            Read::Broken(error) => {
                return Err(broken(format!("the film breaks off after frame {} ({error})", frames.len())));
            }
        }
        let pts = packet.pts().ok_or_else(|| broken(format!("video packet {} has no pts", frames.len())))?;
        frames.push(FrameEntry {
            pts,
            bytes: crate::wire::len(packet.data()),
            key: packet.is_key(),
            position: packet.position(),
            psnr: None,
            ssim: None,
        });
        host.progress(crate::wire::len(&frames), 0, 0);
    }
    frames.sort_by_key(|frame| frame.pts);
    Ok(frames)
}
