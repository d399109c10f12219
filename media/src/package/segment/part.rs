//! A track that is cut part by part, as its pieces come. What a call leaves for the next is in its table: where the pieces go on, and
//! what decode times depend on. Each part is muxed as a track of its own; then its fragments are made to follow those before.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use spool_proto::call::SegmentArgs;
use spool_proto::failure::Failure;
use spool_proto::package::{GoesOn, SegmentTable};

use super::{boxes, internal, odd};
use crate::assemble::{Place, Track};
use crate::{Host, scratch_failed};

/// What was cut before.
pub(super) struct Behind {
    pub table: SegmentTable,
    pub goes_on: GoesOn,
}

/// The first input.
pub(super) fn read(host: &mut dyn Host) -> Result<Behind, Failure> {
    let malformed = |why: String| internal("artifact_malformed", format!("the table of the part before: {why}"));
    let table: SegmentTable =
        serde_json::from_reader(BufReader::new(host.open(0)?)).map_err(|error| malformed(error.to_string()))?;
    let goes_on = table.goes_on.clone().ok_or_else(|| malformed("nothing follows it".into()))?;
    Ok(Behind { table, goes_on })
}

/// Whether all that is to be cut is there, and none of it may yet be joined by a short rest.
pub(super) fn check(args: &SegmentArgs, track: &Track<'_>, behind: Option<&Behind>) -> Result<(), Failure> {
    if let Some((behind, schedule)) = behind.zip(track.schedule.as_ref()) {
        follows(behind, args, schedule.pts())?;
    }
    let Some(until) = args.until else { return Ok(()) };
    let bad = |why: String| Err(internal("bad_call", why));
    let Some((schedule, length)) = track.schedule.as_ref().zip(args.spec.segment_frames) else {
        return bad(format!("stream {} is no video on a grid, and is cut at once", args.stream.index));
    };
    if args.segments.is_none_or(|all| until >= all) {
        return bad(format!("{until} segments: the last waits for the end, and there are {:?}", args.segments));
    }
    let first = behind.map(|behind| behind.goes_on.first_pts).or(track.first_pts).unwrap_or(0);
    let frames = schedule.pts().last().map_or(0, |last| last - first + 1);
    if frames < i64::from(until) * i64::from(length) {
        return bad(format!(
            "{until} segments of {length} frames are to be cut, and the pieces end with frame {frames}"
        ));
    }
    match behind {
        Some(behind) if u32::try_from(behind.table.segments.len()).is_ok_and(|before| until <= before) => {
            bad(format!("{until} segments are cut already"))
        }
        _ if until == 0 => bad("no segment is to be cut".into()),
        _ => Ok(()),
    }
}

/// Whether these pieces are those that the part before asked for: its last segments may have begun in the first of them.
fn follows(behind: &Behind, args: &SegmentArgs, pts: &[i64]) -> Result<(), Failure> {
    let cut = i64::try_from(behind.table.segments.len()).unwrap_or(i64::MAX);
    let next = behind.goes_on.first_pts + cut * args.spec.segment_frames.map_or(0, i64::from);
    let skipped = usize::try_from(behind.goes_on.packets).unwrap_or(usize::MAX);
    match pts.get(skipped) {
        Some(found) if *found == next => Ok(()),
        found => {
            let why =
                format!("the pieces go on with the frame at {found:?}, and the one at {next} follows what is cut");
            Err(internal("segments_differ", why))
        }
    }
}

/// How the track goes on behind a part whose fragments alone last until `ends`; `place` is of the first packet that is not in it.
pub(super) fn goes_on(track: &Track<'_>, behind: Option<&Behind>, place: Place, ends: u64) -> Option<GoesOn> {
    let (schedule, before) = (track.schedule.as_ref()?, behind.map(|behind| &behind.goes_on));
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Some(GoesOn {
        piece: before.map_or(0, |before| before.piece) + number(place.piece),
        packets: u64::from(number(place.packet)),
        parameters: track.parameters.hash(),
        first_pts: before.map(|before| before.first_pts).or(track.first_pts)?,
        delay: number(schedule.delay()),
        shown: schedule.shown(place.before).to_vec(),
        decode_time: before.map_or(0, |before| before.decode_time) + ends,
    })
}

/// Makes of the file of a part, and of its table, what follows those before.
pub(super) fn follow(
    before: &Behind,
    table: &mut SegmentTable,
    alone: &Path,
    host: &dyn Host,
) -> Result<PathBuf, Failure> {
    if (table.time_base, &table.media) != (before.table.time_base, &before.table.media) {
        return Err(internal("segments_differ", "the part is of another size or timebase than those before"));
    }
    let fragments = before.table.segments.iter().map(|segment| segment.fragments.len()).sum::<usize>();
    let fragments =
        u32::try_from(fragments).map_err(|_| internal("bad_call", "more fragments than there are numbers"))?;
    let path = host.scratch().join("part.mp4");
    let io = |error: std::io::Error| scratch_failed(&path, &error);
    let mut from = BufReader::new(File::open(alone).map_err(io)?);
    let mut to = BufWriter::new(File::create(&path).map_err(io)?);
    from.seek(SeekFrom::Start(table.header_bytes)).map_err(io)?;
    for fragment in table.segments.iter().flat_map(|segment| &segment.fragments) {
        let mut size = [0; 4];
        from.read_exact(&mut size).map_err(io)?;
        let moof_bytes = u64::from(u32::from_be_bytes(size)).clamp(4, fragment.bytes);
        let mut moof = size.to_vec();
        from.by_ref().take(moof_bytes - 4).read_to_end(&mut moof).map_err(io)?;
        boxes::follow(&mut moof, fragments, before.goes_on.decode_time).ok_or_else(|| odd("fragment"))?;
        to.write_all(&moof).map_err(io)?;
        std::io::copy(&mut from.by_ref().take(fragment.bytes - moof_bytes), &mut to).map_err(io)?;
    }
    to.flush().map_err(io)?;

    let offset = before.table.end();
    let moved = |own: u64| own - table.header_bytes + offset;
    let mut segments = before.table.segments.clone();
    segments.extend(table.segments.drain(..).map(|mut segment| {
        segment.offset = moved(segment.offset);
        segment.fragments.iter_mut().for_each(|fragment| fragment.offset = moved(fragment.offset));
        segment
    }));
    *table = SegmentTable { segments, file_offset: offset, goes_on: table.goes_on.take(), ..before.table.clone() };
    Ok(path)
}
