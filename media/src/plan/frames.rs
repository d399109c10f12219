//! The source's frames as its packets tell, and where decoding can be entered.

use std::collections::BTreeMap;

use spool_proto::call::Jump;

use crate::jumps::{Shift, ShiftSetup, Times};
use crate::packets::{Packet, PacketIndex};
use crate::plan_file::Entry;

use super::scenes::Coded;

/// Entries of one chunk: the nearest keyframe, then 1, 2, 4 and 8 keyframes further back.
const BACK: [usize; 5] = [0, 1, 2, 4, 8];

/// What is known of the frames that decoding the whole stream gives.
#[derive(Debug)]
pub(crate) struct Known {
    /// (pts, duration), in display order.
    pub frames: Vec<(i64, i64)>,
    /// What the packets of these frames were, where each frame has one.
    pub coded: Vec<Coded>,
    /// Every place decoding can be entered, rising.
    entries: Vec<Entry>,
    /// The packets are not trusted: enter one keyframe earlier.
    careful: bool,
}

impl Known {
    /// `jumps`: of the stream's timestamps. `Err`: why only decoding can tell.
    pub fn of(index: &PacketIndex, jumps: &[Jump]) -> Result<Known, String> {
        if index.changes {
            return Err("the picture's size or format changes inside the stream".into());
        }
        let times = unbroken(index, jumps);
        let (frames, coded) = match &index.decoded {
            Some(decoded) => (decoded.clone(), coded_of(decoded, index, &times)),
            None if index.doubts.is_empty() => from_packets(index)?,
            None => return Err(index.doubts.join("; ")),
        };
        if let Some(pair) = frames.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("two frames follow each other at pts {} and {}", pair[0].0, pair[1].0));
        }
        let entries = entries(index, &times, &frames);
        Ok(Known { frames, coded, entries, careful: index.decoded.is_some() })
    }

    /// Decoding can be entered elsewhere than at the start.
    ///
    /// # Errors
    /// Why not.
    pub fn enterable(self) -> Result<Known, String> {
        if self.entries.is_empty() {
            return Err(
                "no keyframe is known to be clean, so that decoding could be entered nowhere but at the start".into()
            );
        }
        Ok(self)
    }

    pub fn is_enterable(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Entries for a chunk whose first source frame is `frame`, best first. The start of the file is not among them.
    pub fn entries(&self, frame: u64) -> Vec<Entry> {
        let usable = &self.entries[..self.entries.partition_point(|entry| entry.frame <= frame)];
        let usable = if self.careful { &usable[..usable.len().saturating_sub(1)] } else { usable };
        BACK.iter().filter_map(|back| usable.len().checked_sub(back + 1).map(|at| usable[at])).collect()
    }
}

/// The packets' times, as demuxed but with the jumps undone: those that decoded frames are told with.
fn unbroken(index: &PacketIndex, jumps: &[Jump]) -> Vec<Times> {
    let mut shift = Shift::new(ShiftSetup {
        time_base: index.time_base,
        offset_us: index.ts_offset_us,
        start_us: None,
        wrap_bits: 64,
        jumps: jumps.to_vec(),
    });
    let mut time = |packet: &Packet| {
        let times = Times { pts: packet.pts, dts: packet.dts };
        if jumps.is_empty() { times } else { shift.unbroken(times) }
    };
    index.packets.iter().map(&mut time).collect()
}

type Frames = (Vec<(i64, i64)>, Vec<Coded>);

/// One packet, one frame, at its pts.
fn from_packets(index: &PacketIndex) -> Result<Frames, String> {
    if !index.packets.first().is_some_and(|packet| packet.flags.closed || packet.flags.recovers) {
        return Err("the stream does not begin with a clean keyframe".into());
    }
    let mut frames = Vec::with_capacity(index.packets.len());
    for packet in index.packets.iter().filter(|packet| !packet.flags.discard) {
        let pts = packet.pts.ok_or("a packet has no pts")?;
        let coded = Coded { key: packet.flags.key, bytes: packet.bytes };
        frames.push((pts, packet.duration, coded));
    }
    frames.sort_by_key(|(pts, ..)| *pts);
    Ok(frames.into_iter().map(|(pts, duration, coded)| ((pts, duration), coded)).unzip())
}

/// The packets of decoded frames, by their times; none if not every frame has its own.
fn coded_of(decoded: &[(i64, i64)], index: &PacketIndex, times: &[Times]) -> Vec<Coded> {
    let shown = index.packets.iter().zip(times).filter(|(packet, _)| !packet.flags.discard);
    let by_pts: BTreeMap<i64, Coded> = shown
        .filter_map(|(packet, times)| Some((times.pts?, Coded { key: packet.flags.key, bytes: packet.bytes })))
        .collect();
    let coded: Option<Vec<Coded>> = decoded.iter().map(|(pts, _)| by_pts.get(pts).copied()).collect();
    coded.unwrap_or_default()
}

/// At a closed keyframe all frames come out right that are later than every packet before it. At an open one (it only recovers)
/// those from the next keyframe on are taken: a whole GOP is decoded ahead of the first frame that counts.
fn entries(index: &PacketIndex, times: &[Times], frames: &[(i64, i64)]) -> Vec<Entry> {
    let frame_at = |pts: i64| {
        let frame = frames.partition_point(|(frame, _)| *frame < pts);
        u64::try_from(frame).expect("memory is smaller than 2^64")
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut open: Option<Entry> = None;
    let mut latest = i64::MIN;
    for ((number, packet), times) in (0u64..).zip(&index.packets).zip(times) {
        if let (true, Some(pts), Some(at)) = (packet.flags.closed || packet.flags.recovers, packet.pts, times.pts)
            && (at > latest || number == 0)
        {
            entries.extend(open.take().map(|entry| Entry { frame: frame_at(at), ..entry }));
            let frame = frame_at(latest.saturating_add(1));
            let entry = Entry { packet: number, frame, pts, dts: packet.dts, position: packet.position };
            if packet.flags.closed {
                entries.push(entry);
            } else {
                open = Some(entry);
            }
        }
        latest = latest.max(times.pts.or(times.dts).unwrap_or(latest));
    }
    entries
}
