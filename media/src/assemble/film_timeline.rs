//! Artifact `timeline`: when every video frame of the joined film is shown, for the check that follows the join.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use spool_proto::spec::Rational;

use crate::wire::{Decoder, Encoder, FileError, len};

const WHAT: &str = "timeline";
const MAGIC: [u8; 5] = *b"SPLT\x01";
/// 24 h at 1000 frames a second.
const FRAMES_MAX: u64 = 86_400_000;

/// Every video output pts, in display order.
#[derive(Debug, Clone, PartialEq)]
pub struct FilmTimeline {
    /// The encoder's timebase.
    pub time_base: Rational,
    /// How much later the container shows everything than the encoders said, microseconds: Matroska has no negative times, so
    /// it moves all tracks when one (primed audio) starts before zero.
    pub shift_us: i64,
    /// In `time_base`, strictly rising.
    pub pts: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    time_base: Rational,
    shift_us: i64,
}

impl FilmTimeline {
    pub fn write(&self, to: impl Write) -> Result<(), FileError> {
        let mut to = Encoder::new(WHAT, MAGIC, to)?;
        to.header(&Header { time_base: self.time_base, shift_us: self.shift_us })?;
        to.unsigned(len(&self.pts))?;
        let mut last = 0i64;
        for &pts in &self.pts {
            to.signed(pts.wrapping_sub(last))?;
            last = pts;
        }
        to.finish()?;
        Ok(())
    }

    pub fn read(from: impl Read) -> Result<FilmTimeline, FileError> {
        let mut from = Decoder::new(WHAT, MAGIC, std::io::BufReader::new(from))?;
        let Header { time_base, shift_us } = from.header()?;
        let count = from.bounded("frame count", FRAMES_MAX)?;
        let mut pts = Vec::new();
        let mut last = 0i64;
        for _ in 0..count {
            last = last.wrapping_add(from.signed("pts")?);
            pts.push(last);
        }
        from.end()?;
        if time_base.num <= 0 || time_base.den <= 0 {
            return Err(from.malformed("timebase", format!("{time_base} is no timebase")));
        }
        if let Some(pair) = pts.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(from.malformed("pts", format!("{} is followed by {}", pair[0], pair[1])));
        }
        Ok(FilmTimeline { time_base, shift_us, pts })
    }

    /// BLAKE3 over timebase and pts, hex.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.time_base.num.to_le_bytes());
        hasher.update(&self.time_base.den.to_le_bytes());
        for pts in &self.pts {
            hasher.update(&pts.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(pts: Vec<i64>) -> FilmTimeline {
        FilmTimeline { time_base: Rational::new(1001, 30000), shift_us: 7_000, pts }
    }

    fn bytes(timeline: &FilmTimeline) -> Vec<u8> {
        let mut bytes = Vec::new();
        timeline.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_steady_rates_are_small() {
        let steady = timeline((0..100_000).collect());
        assert_eq!(FilmTimeline::read(bytes(&steady).as_slice()).unwrap(), steady);
        assert!(bytes(&steady).len() < 100_200);
        let odd = timeline(vec![-9_000_000_000, -1, 0, 1, i64::MAX]);
        assert_eq!(FilmTimeline::read(bytes(&odd).as_slice()).unwrap(), odd);
    }

    #[test]
    fn times_that_do_not_rise_are_malformed() {
        let read = FilmTimeline::read(bytes(&timeline(vec![0, 2, 2])).as_slice());
        assert!(matches!(read, Err(FileError::Malformed { field: "pts", .. })), "{read:?}");
    }

    #[test]
    fn the_hash_tells_one_moved_frame() {
        assert_ne!(timeline(vec![0, 1, 2]).hash(), timeline(vec![0, 1, 3]).hash());
    }
}
