//! A piece: one coded track, or one chunk of one, on its way from an encode to the join. Artifact `chunk` or `track`.
//!
//! Its own small format, because no container keeps all of what the join needs: exact timestamps in any timebase, order of
//! packets, extradata, side data and codec parameters, byte-identical for equal input.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use spool_proto::spec::Rational;

use crate::wire::{self, Decoder, Encoder, FileError};

/// Codec parameters as the muxer will need them. Numbers are libav's enum values of the FFmpeg Spool is linked with,
/// names where libav has names.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Parameters {
    /// libav's codec name: `h264`, `aac`, `subrip`.
    pub codec: String,
    pub codec_tag: u32,
    pub extradata: Vec<u8>,
    pub time_base: Rational,
    pub bit_rate: i64,
    pub profile: i32,
    pub level: i32,
    pub kind: Kind,
    /// Stream-level side data (content light, mastering display, …): libav type number and bytes.
    pub side_data: Vec<(i32, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Video {
        width: i32,
        height: i32,
        format: i32,
        sample_aspect_ratio: Rational,
        frame_rate: Rational,
        field_order: i32,
        color_range: i32,
        color_primaries: i32,
        color_transfer: i32,
        color_space: i32,
        chroma_location: i32,
        /// Frames the encoder holds back for reordering.
        video_delay: i32,
    },
    Audio {
        sample_rate: i32,
        channels: i32,
        /// libav channel layout mask.
        layout: u64,
        format: i32,
        frame_size: i32,
        block_align: i32,
        bits_per_coded_sample: i32,
        /// Bits of a sample that count; FLAC in MP4 tells it.
        bits_per_raw_sample: i32,
        initial_padding: i32,
        trailing_padding: i32,
        seek_preroll: i32,
    },
    Subtitle,
}

/// One coded packet. Times in the piece's timebase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packet {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    pub duration: i64,
    pub key: bool,
    /// libav packet flags beyond the key flag.
    pub flags: i32,
    pub side_data: Vec<(i32, Vec<u8>)>,
    pub data: Vec<u8>,
}

impl Parameters {
    /// BLAKE3 of the canonical bytes, hex. Equal hashes: one sample entry serves both pieces.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("numbers, names and byte lists always make JSON");
        blake3::hash(&json).to_hex().to_string()
    }
}

const WHAT: &str = "piece";
const MAGIC: [u8; 5] = *b"SPLP\x01";
const TAG_END: u8 = 0;
const TAG_PACKET: u8 = 1;
const HAS_PTS: u8 = 1;
const HAS_DTS: u8 = 2;
const KEY: u8 = 4;
/// An uncompressed 16384×8192 4:4:4 picture of 16 bits is 768 MiB; no coded one comes near.
const DATA_BYTES_MAX: u64 = 1 << 30;
const SIDE_DATA_MAX: u64 = 64;
const SIDE_DATA_BYTES_MAX: u64 = 64 << 20;

/// What was written: half of a [`spool_proto::call::TrackManifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// libav's name of the codec.
    pub codec: String,
    pub packets: u64,
    /// Bytes of packet data, side data not counted.
    pub payload_bytes: u64,
    /// Least and greatest pts. `None` when no packet has one.
    pub first_pts: Option<i64>,
    pub last_pts: Option<i64>,
    /// [`Parameters::hash`].
    pub parameters: String,
}

/// Writes a piece, packet by packet. Equal packets and parameters give equal bytes. A piece that was not
/// [finished](PieceWriter::finish) is unreadable.
pub struct PieceWriter<W: Write> {
    to: Encoder<W>,
    summary: Summary,
}

impl PieceWriter<BufWriter<File>> {
    /// Makes or replaces the file.
    pub fn create(path: &Path, parameters: &Parameters) -> Result<Self, FileError> {
        let file = File::create(path).map_err(|error| FileError::Io { what: WHAT, error })?;
        Self::new(BufWriter::with_capacity(1 << 18, file), parameters)
    }
}

impl<W: Write> PieceWriter<W> {
    pub fn new(to: W, parameters: &Parameters) -> Result<Self, FileError> {
        let mut to = Encoder::new(WHAT, MAGIC, to)?;
        to.header(parameters)?;
        let summary = Summary {
            codec: parameters.codec.clone(),
            packets: 0,
            payload_bytes: 0,
            first_pts: None,
            last_pts: None,
            parameters: parameters.hash(),
        };
        Ok(PieceWriter { to, summary })
    }

    /// Packets come back in the order they are written in: decode order.
    pub fn write(&mut self, packet: &Packet) -> Result<(), FileError> {
        let mut flags = 0;
        for (set, flag) in [(packet.pts.is_some(), HAS_PTS), (packet.dts.is_some(), HAS_DTS), (packet.key, KEY)] {
            flags |= if set { flag } else { 0 };
        }
        self.to.raw(&[TAG_PACKET, flags])?;
        for time in [packet.pts, packet.dts].into_iter().flatten() {
            self.to.signed(time)?;
        }
        self.to.signed(packet.duration)?;
        self.to.signed(i64::from(packet.flags))?;
        self.to.unsigned(wire::len(&packet.side_data))?;
        for (kind, bytes) in &packet.side_data {
            self.to.signed(i64::from(*kind))?;
            self.to.bytes(bytes)?;
        }
        self.to.bytes(&packet.data)?;

        let summary = &mut self.summary;
        summary.packets += 1;
        summary.payload_bytes += wire::len(&packet.data);
        if let Some(pts) = packet.pts {
            summary.first_pts = Some(summary.first_pts.map_or(pts, |first| first.min(pts)));
            summary.last_pts = Some(summary.last_pts.map_or(pts, |last| last.max(pts)));
        }
        Ok(())
    }

    /// Writes the trailer and flushes.
    pub fn finish(mut self) -> Result<Summary, FileError> {
        self.to.raw(&[TAG_END])?;
        self.to.unsigned(self.summary.packets)?;
        self.to.unsigned(self.summary.payload_bytes)?;
        self.to.finish()?;
        Ok(self.summary)
    }
}

impl<W: Write> std::fmt::Debug for PieceWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceWriter").field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// Reads a piece: the parameters at once, the packets as an iterator. After the first error it ends; a piece that is cut
/// short, or whose trailer tells another count than was read, is an error.
pub struct PieceReader<R: Read> {
    parameters: Parameters,
    from: Decoder<BufReader<R>>,
    packets: u64,
    payload_bytes: u64,
    ended: bool,
}

impl<R: Read> PieceReader<R> {
    /// Buffers by itself.
    pub fn open(from: R) -> Result<Self, FileError> {
        let mut from = Decoder::new(WHAT, MAGIC, BufReader::with_capacity(1 << 18, from))?;
        let parameters = from.header()?;
        Ok(PieceReader { parameters, from, packets: 0, payload_bytes: 0, ended: false })
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn read(&mut self) -> Result<Option<Packet>, FileError> {
        match self.from.byte("packet")? {
            TAG_PACKET => self.packet().map(Some),
            TAG_END => {
                let told = (self.from.unsigned("packet count")?, self.from.unsigned("payload bytes")?);
                let counted = (self.packets, self.payload_bytes);
                if told != counted {
                    let reason = format!("it tells {told:?} packets and bytes, {counted:?} were read");
                    return Err(self.from.malformed("trailer", reason));
                }
                self.from.end()?;
                Ok(None)
            }
            tag => Err(self.from.malformed("packet", format!("unknown tag {tag}"))),
        }
    }

    fn packet(&mut self) -> Result<Packet, FileError> {
        let from = &mut self.from;
        let flags = from.byte("packet flags")?;
        if flags & !(HAS_PTS | HAS_DTS | KEY) != 0 {
            return Err(from.malformed("packet flags", format!("unknown bits in {flags:#04x}")));
        }
        let pts = if flags & HAS_PTS != 0 { Some(from.signed("pts")?) } else { None };
        let dts = if flags & HAS_DTS != 0 { Some(from.signed("dts")?) } else { None };
        let duration = from.signed("duration")?;
        let libav_flags = from.i32("flags")?;
        let mut side_data = Vec::new();
        for _ in 0..from.bounded("side data count", SIDE_DATA_MAX)? {
            side_data.push((from.i32("side data type")?, from.bytes("side data", SIDE_DATA_BYTES_MAX)?));
        }
        let data = from.bytes("packet data", DATA_BYTES_MAX)?;
        self.packets += 1;
        self.payload_bytes += wire::len(&data);
        Ok(Packet { pts, dts, duration, key: flags & KEY != 0, flags: libav_flags, side_data, data })
    }
}

impl<R: Read> Iterator for PieceReader<R> {
    type Item = Result<Packet, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read().transpose();
        self.ended = !matches!(read, Some(Ok(_)));
        read
    }
}

impl<R: Read> std::fmt::Debug for PieceReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceReader")
            .field("parameters", &self.parameters)
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> Parameters {
        Parameters {
            codec: "h264".into(),
            codec_tag: 0x3163_7661,
            extradata: vec![1, 100, 0, 31],
            time_base: Rational::new(1001, 24000),
            bit_rate: 0,
            profile: 100,
            level: 31,
            kind: Kind::Subtitle,
            side_data: vec![(20, vec![9; 24])],
        }
    }

    fn packet() -> impl Strategy<Value = Packet> {
        (
            any::<Option<i64>>(),
            any::<Option<i64>>(),
            any::<i64>(),
            any::<bool>(),
            any::<i32>(),
            prop::collection::vec((any::<i32>(), prop::collection::vec(any::<u8>(), 0..20)), 0..3),
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(pts, dts, duration, key, flags, side_data, data)| Packet {
                pts,
                dts,
                duration,
                key,
                flags,
                side_data,
                data,
            })
    }

    fn written(packets: &[Packet]) -> (Vec<u8>, Summary) {
        let mut bytes = Vec::new();
        let mut writer = PieceWriter::new(&mut bytes, &parameters()).unwrap();
        for packet in packets {
            writer.write(packet).unwrap();
        }
        let summary = writer.finish().unwrap();
        (bytes, summary)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Packet>, FileError> {
        PieceReader::open(bytes)?.collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(packets in prop::collection::vec(packet(), 0..20)) {
            let (bytes, summary) = written(&packets);
            prop_assert_eq!(summary.packets, wire::len(&packets));
            prop_assert_eq!(summary.first_pts, packets.iter().filter_map(|p| p.pts).min());
            let reader = PieceReader::open(bytes.as_slice()).unwrap();
            prop_assert_eq!(reader.parameters(), &parameters());
            prop_assert_eq!(read(&bytes).unwrap(), packets);
        }

        #[test]
        fn a_piece_cut_anywhere_is_an_error(packets in prop::collection::vec(packet(), 0..5), at in any::<prop::sample::Index>()) {
            let (bytes, _) = written(&packets);
            prop_assert!(read(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut piece, _) = written(&[]);
            piece.pop();
            piece.extend(bytes);
            let _ = read(&piece);
        }
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        let (mut bytes, _) = written(&[Packet::default()]);
        bytes.push(0);
        assert!(matches!(read(&bytes), Err(FileError::Malformed { field: "end", .. })));
    }

    #[test]
    fn the_hash_follows_every_parameter() {
        let mut other = parameters();
        other.extradata[3] = 32;
        assert_ne!(parameters().hash(), other.hash());
        assert_eq!(parameters().hash(), parameters().hash());
        assert_eq!(parameters().hash().len(), 64);
    }
}
