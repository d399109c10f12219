//! The packet index: what a scan of all packets of one video stream found, and its file format (artifact `index`).

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use spool_proto::spec::Rational;

use crate::wire::{self, Decoder, Encoder, FileError};

/// One packet of the chosen video stream, in demux (decode) order. Times are in the stream's timebase, as demuxed
/// (edit lists applied by libav, nothing shifted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    pub duration: i64,
    pub bytes: u32,
    /// Byte position in the file, where the demuxer tells.
    pub position: Option<u64>,
    pub flags: PacketFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketFlags {
    /// The container's key flag.
    pub key: bool,
    /// Nothing that follows in decode order refers to what came before: H.264/HEVC IDR, VP8/VP9 key frame, AV1 key frame
    /// with its sequence header, every frame of an intra-only codec. Found in the bitstream, not in the container.
    pub closed: bool,
    /// What is displayed at or after this picture comes out right when decoding starts here; what is displayed before it (leading
    /// pictures) may not. HEVC CRA, H.264 recovery point that takes no frames and is exact, I picture of MPEG-1/2/4.
    pub recovers: bool,
    /// The demuxer marked it to be decoded but not shown (edit list).
    pub discard: bool,
    pub corrupt: bool,
}

/// The artifact `index`.
#[derive(Debug, Clone, PartialEq)]
pub struct PacketIndex {
    pub stream: u32,
    pub time_base: Rational,
    /// `av_guess_frame_rate`, what ffmpeg gives its filter graph and encoder.
    pub frame_rate: Option<Rational>,
    /// What ffmpeg shifts every timestamp of the input by, in microseconds: minus the start time of the *format context*.
    pub ts_offset_us: i64,
    /// Stream's start time in `time_base`, if known.
    pub start_pts: Option<i64>,
    pub packets: Vec<Packet>,
    /// Why the packet list cannot be trusted to be the frame list (pts missing or repeated, parameter sets that change,
    /// field pictures, packed B-frames, corrupt packets, TS wrap …). Empty: one packet, one frame, at its pts.
    pub doubts: Vec<String>,
    /// When there are doubts: the frames a full linear decode really gave, in output order: best-effort pts and duration.
    pub decoded: Option<Vec<(i64, i64)>>,
    /// Extradata changed or picture size/format changed inside the stream.
    pub changes: bool,
}

const WHAT: &str = "index";
const MAGIC: [u8; 5] = *b"SPLI\x01";
/// Bounds memory, not films: 77 hours at 240 frames a second.
const PACKETS_MAX: u64 = 1 << 26;

const KEY: u32 = 1;
const CLOSED: u32 = 1 << 1;
const RECOVERS: u32 = 1 << 2;
const HAS_PTS: u32 = 1 << 3;
const HAS_DTS: u32 = 1 << 4;
const HAS_POSITION: u32 = 1 << 5;
const SAME_DURATION: u32 = 1 << 6;
// The rare ones, in a second byte.
const DISCARD: u32 = 1 << 7;
const CORRUPT: u32 = 1 << 8;

#[derive(Serialize, Deserialize)]
struct Header {
    stream: u32,
    time_base: Rational,
    frame_rate: Option<Rational>,
    ts_offset_us: i64,
    start_pts: Option<i64>,
    doubts: Vec<String>,
    changes: bool,
    /// Packets that follow.
    packets: u64,
    /// Decoded frames that follow them.
    decoded: Option<u64>,
}

/// What differences are taken from.
#[derive(Default)]
struct Previous {
    pts: i64,
    dts: i64,
    duration: i64,
    /// Where the packet ended.
    position: i64,
}

impl Previous {
    fn after(&mut self, packet: &Packet) {
        self.pts = packet.pts.unwrap_or(self.pts);
        self.dts = packet.dts.unwrap_or(self.dts);
        self.duration = packet.duration;
        if let Some(position) = packet.position {
            self.position = position.cast_signed().wrapping_add(i64::from(packet.bytes));
        }
    }
}

impl PacketIndex {
    /// Writes the artifact: differences to the packet before as varints, about 11 bytes a packet. Equal indexes give equal
    /// bytes. Buffers nothing.
    pub fn write(&self, to: impl Write) -> Result<(), FileError> {
        let mut to = Encoder::new(WHAT, MAGIC, to)?;
        to.header(&Header {
            stream: self.stream,
            time_base: self.time_base,
            frame_rate: self.frame_rate,
            ts_offset_us: self.ts_offset_us,
            start_pts: self.start_pts,
            doubts: self.doubts.clone(),
            changes: self.changes,
            packets: wire::len(&self.packets),
            decoded: self.decoded.as_deref().map(wire::len),
        })?;
        let mut previous = Previous::default();
        for packet in &self.packets {
            write_packet(&mut to, packet, &previous)?;
            previous.after(packet);
        }
        wire::write_frames(&mut to, self.decoded.as_deref().unwrap_or_default())?;
        to.raw(&MAGIC)?;
        to.finish().map(drop)
    }

    /// Reads what [`PacketIndex::write`] wrote. Give it something buffered.
    pub fn read(from: impl Read) -> Result<PacketIndex, FileError> {
        let mut from = Decoder::new(WHAT, MAGIC, from)?;
        let header: Header = from.header()?;
        for count in [header.packets, header.decoded.unwrap_or(0)] {
            from.within("packet count", count, PACKETS_MAX)?;
        }
        from.rational("time_base", header.time_base)?;
        let mut packets = Vec::new();
        let mut previous = Previous::default();
        for _ in 0..header.packets {
            let packet = read_packet(&mut from, &previous)?;
            previous.after(&packet);
            packets.push(packet);
        }
        let decoded = header.decoded.map(|count| wire::read_frames(&mut from, count)).transpose()?;
        from.trailer(MAGIC)?;
        Ok(PacketIndex {
            stream: header.stream,
            time_base: header.time_base,
            frame_rate: header.frame_rate,
            ts_offset_us: header.ts_offset_us,
            start_pts: header.start_pts,
            packets,
            doubts: header.doubts,
            decoded,
            changes: header.changes,
        })
    }
}

fn write_packet<W: Write>(to: &mut Encoder<W>, packet: &Packet, previous: &Previous) -> Result<(), FileError> {
    let mut flags = 0u32;
    for (set, flag) in [
        (packet.flags.key, KEY),
        (packet.flags.closed, CLOSED),
        (packet.flags.recovers, RECOVERS),
        (packet.flags.discard, DISCARD),
        (packet.flags.corrupt, CORRUPT),
        (packet.pts.is_some(), HAS_PTS),
        (packet.dts.is_some(), HAS_DTS),
        (packet.position.is_some(), HAS_POSITION),
        (packet.duration == previous.duration, SAME_DURATION),
    ] {
        flags |= if set { flag } else { 0 };
    }
    to.unsigned(u64::from(flags))?;
    if let Some(pts) = packet.pts {
        to.signed(pts.wrapping_sub(previous.pts))?;
    }
    if let Some(dts) = packet.dts {
        to.signed(dts.wrapping_sub(previous.dts))?;
    }
    if packet.duration != previous.duration {
        to.signed(packet.duration)?;
    }
    to.unsigned(u64::from(packet.bytes))?;
    if let Some(position) = packet.position {
        to.signed(position.cast_signed().wrapping_sub(previous.position))?;
    }
    Ok(())
}

fn read_packet<R: Read>(from: &mut Decoder<R>, previous: &Previous) -> Result<Packet, FileError> {
    let flags = from.u32("packet flags")?;
    let has = |flag: u32| flags & flag != 0;
    let pts = if has(HAS_PTS) { Some(previous.pts.wrapping_add(from.signed("pts")?)) } else { None };
    let dts = if has(HAS_DTS) { Some(previous.dts.wrapping_add(from.signed("dts")?)) } else { None };
    let duration = if has(SAME_DURATION) { previous.duration } else { from.signed("duration")? };
    let bytes = from.u32("bytes")?;
    let position = if has(HAS_POSITION) {
        Some(previous.position.wrapping_add(from.signed("position")?).cast_unsigned())
    } else {
        None
    };
    let flags = PacketFlags {
        key: has(KEY),
        closed: has(CLOSED),
        recovers: has(RECOVERS),
        discard: has(DISCARD),
        corrupt: has(CORRUPT),
    };
    Ok(Packet { pts, dts, duration, bytes, position, flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet() -> impl Strategy<Value = Packet> {
        (any::<(Option<i64>, Option<i64>, i64, u32, Option<u64>)>(), any::<(bool, bool, bool, bool, bool)>()).prop_map(
            |((pts, dts, duration, bytes, position), (key, closed, recovers, discard, corrupt))| Packet {
                pts,
                dts,
                duration,
                bytes,
                position,
                flags: PacketFlags { key, closed, recovers, discard, corrupt },
            },
        )
    }

    fn index(packets: Vec<Packet>, decoded: Option<Vec<(i64, i64)>>) -> PacketIndex {
        PacketIndex {
            stream: 1,
            time_base: Rational::new(1, 90_000),
            frame_rate: Some(Rational::new(24_000, 1_001)),
            ts_offset_us: -1_400_000,
            start_pts: Some(126_000),
            packets,
            doubts: vec!["pts missing".into()],
            decoded,
            changes: true,
        }
    }

    fn written(index: &PacketIndex) -> Vec<u8> {
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            packets in prop::collection::vec(packet(), 0..40),
            decoded in any::<Option<Vec<(i64, i64)>>>(),
        ) {
            let index = index(packets, decoded);
            prop_assert_eq!(PacketIndex::read(written(&index).as_slice()).unwrap(), index);
        }

        #[test]
        fn an_index_cut_anywhere_is_an_error(packets in prop::collection::vec(packet(), 0..5), at in any::<prop::sample::Index>()) {
            let bytes = written(&index(packets, Some(vec![(0, 1)])));
            prop_assert!(PacketIndex::read(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = written(&index(vec![Packet::default(); 3], Some(vec![(0, 1)])));
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = PacketIndex::read(bytes.as_slice());
        }
    }

    #[test]
    fn three_hours_at_60_frames_a_second_are_under_10_mb() {
        // An IBBP pattern in a 90 kHz timebase between audio packets, pictures of tens of kB.
        let mut at = 48;
        let packets = (0..3 * 3600 * 60i64)
            .map(|n| {
                let order = [3, -1, -1, 0][usize::try_from(n % 4).unwrap()];
                let bytes = 20_000 + u32::try_from(n * 7919 % 60_000).unwrap();
                at += u64::from(bytes) + 700;
                Packet {
                    pts: Some((n + order) * 1_500 + 3_000),
                    dts: Some(n * 1_500),
                    duration: 1_500,
                    bytes,
                    position: Some(at),
                    flags: PacketFlags { key: n % 250 == 0, closed: n % 250 == 0, ..PacketFlags::default() },
                }
            })
            .collect();
        let bytes = written(&index(packets, None)).len();
        assert!(bytes < 10_000_000, "{bytes} bytes");
    }

    #[test]
    fn a_lying_count_is_refused() {
        let text = String::from_utf8_lossy(&written(&index(vec![], None))).into_owned();
        let lying = text.replace("\"packets\":0", "\"packets\":9");
        assert!(matches!(
            PacketIndex::read(lying.as_bytes()),
            Err(FileError::Truncated { .. } | FileError::Malformed { .. })
        ));
    }
}
