//! Bytes of Spool's own media files (`index`, `plan`, `chunk`, `track`): a magic with a version, a JSON header for what is small
//! and named, varints for what is long. Readers trust no length: each is held against a limit, and memory grows only with
//! bytes that really came.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

/// A header is names and numbers and at most a colour profile in extradata.
const HEADER_BYTES_MAX: u64 = 32 << 20;

/// Why one of Spool's files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{what} file: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("not a {what} file: it starts with {found:02x?}")]
    Magic { what: &'static str, found: [u8; 5] },
    #[error("{what} file is cut short: it ends inside {field}")]
    Truncated { what: &'static str, field: &'static str },
    #[error("{what} file: {field} is {value}, more than {limit}")]
    Limit { what: &'static str, field: &'static str, value: u64, limit: u64 },
    #[error("{what} file: {field} is malformed: {reason}")]
    Malformed { what: &'static str, field: &'static str, reason: String },
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        let (class, code) = match &error {
            FileError::Io { error, .. } if error.kind() == ErrorKind::StorageFull => (Class::Host, "disk_full"),
            FileError::Io { .. } => (Class::Host, "artifact_io"),
            _ => (Class::Internal, "artifact_malformed"),
        };
        Failure::new(class, code, error.to_string())
    }
}

/// Four letters and a version.
pub(crate) type Magic = [u8; 5];

pub(crate) struct Encoder<W> {
    what: &'static str,
    out: W,
}

impl<W: Write> Encoder<W> {
    /// `what` names the kind of file in errors.
    pub fn new(what: &'static str, magic: Magic, out: W) -> Result<Self, FileError> {
        let mut encoder = Encoder { what, out };
        encoder.raw(&magic)?;
        Ok(encoder)
    }

    pub fn header(&mut self, header: &impl Serialize) -> Result<(), FileError> {
        let json = serde_json::to_vec(header).map_err(|error| FileError::Malformed {
            what: self.what,
            field: "header",
            reason: error.to_string(),
        })?;
        self.bytes(&json)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.out.write_all(bytes).map_err(|error| FileError::Io { what: self.what, error })
    }

    /// LEB128: seven bits a byte, low ones first.
    pub fn unsigned(&mut self, mut value: u64) -> Result<(), FileError> {
        let mut bytes = [0u8; 10];
        let mut used = 0;
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            bytes[used] = if value == 0 { low } else { low | 0x80 };
            used += 1;
            if value == 0 {
                return self.raw(&bytes[..used]);
            }
        }
    }

    /// Zigzag, then LEB128.
    pub fn signed(&mut self, value: i64) -> Result<(), FileError> {
        self.unsigned((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned())
    }

    /// Length, then bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.unsigned(len(bytes))?;
        self.raw(bytes)
    }

    /// Flushes and gives the sink back.
    pub fn finish(mut self) -> Result<W, FileError> {
        self.out.flush().map_err(|error| FileError::Io { what: self.what, error })?;
        Ok(self.out)
    }
}

pub(crate) struct Decoder<R> {
    what: &'static str,
    from: R,
}

impl<R: Read> Decoder<R> {
    pub fn new(what: &'static str, magic: Magic, from: R) -> Result<Self, FileError> {
        let mut decoder = Decoder { what, from };
        let mut found = [0; 5];
        decoder.exact("magic", &mut found)?;
        if found != magic {
            return Err(FileError::Magic { what, found });
        }
        Ok(decoder)
    }

    pub fn header<T: DeserializeOwned>(&mut self) -> Result<T, FileError> {
        let json = self.bytes("header", HEADER_BYTES_MAX)?;
        serde_json::from_slice(&json).map_err(|error| self.malformed("header", error.to_string()))
    }

    pub fn exact(&mut self, field: &'static str, into: &mut [u8]) -> Result<(), FileError> {
        self.from.read_exact(into).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => FileError::Truncated { what: self.what, field },
            _ => FileError::Io { what: self.what, error },
        })
    }

    pub fn byte(&mut self, field: &'static str) -> Result<u8, FileError> {
        let mut byte = [0];
        self.exact(field, &mut byte)?;
        Ok(byte[0])
    }

    pub fn unsigned(&mut self, field: &'static str) -> Result<u64, FileError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed(field, "more than 64 bits".into()))
    }

    pub fn signed(&mut self, field: &'static str) -> Result<i64, FileError> {
        let zigzag = self.unsigned(field)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// A number that may not pass `limit`.
    pub fn bounded(&mut self, field: &'static str, limit: u64) -> Result<u64, FileError> {
        let value = self.unsigned(field)?;
        self.within(field, value, limit)?;
        Ok(value)
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32, FileError> {
        let value = self.bounded(field, u64::from(u32::MAX))?;
        u32::try_from(value).map_err(|error| self.malformed(field, error.to_string()))
    }

    pub fn i32(&mut self, field: &'static str) -> Result<i32, FileError> {
        let value = self.signed(field)?;
        i32::try_from(value).map_err(|error| self.malformed(field, error.to_string()))
    }

    /// Length, then bytes.
    pub fn bytes(&mut self, field: &'static str, limit: u64) -> Result<Vec<u8>, FileError> {
        let wanted = self.bounded(field, limit)?;
        let mut bytes = Vec::new();
        let what = self.what;
        (&mut self.from).take(wanted).read_to_end(&mut bytes).map_err(|error| FileError::Io { what, error })?;
        if len(&bytes) < wanted {
            return Err(FileError::Truncated { what, field });
        }
        Ok(bytes)
    }

    /// A number from the header that may not pass `limit`.
    pub fn within(&self, field: &'static str, value: u64, limit: u64) -> Result<(), FileError> {
        if value > limit { Err(FileError::Limit { what: self.what, field, value, limit }) } else { Ok(()) }
    }

    /// A timebase or rate from the header: both parts above zero.
    pub fn rational(&self, field: &'static str, value: Rational) -> Result<(), FileError> {
        if value.num > 0 && value.den > 0 { Ok(()) } else { Err(self.malformed(field, value.to_string())) }
    }

    /// The magic once more, then the end of the file.
    pub fn trailer(&mut self, magic: Magic) -> Result<(), FileError> {
        let mut found = [0; 5];
        self.exact("trailer", &mut found)?;
        if found != magic {
            return Err(self.malformed("trailer", format!("{found:02x?}")));
        }
        self.end()
    }

    /// The file must end here.
    pub fn end(&mut self) -> Result<(), FileError> {
        let mut extra = [0];
        match self.from.read(&mut extra) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.malformed("end", "bytes follow the end".into())),
            Err(error) => Err(FileError::Io { what: self.what, error }),
        }
    }

    pub fn malformed(&self, field: &'static str, reason: String) -> FileError {
        FileError::Malformed { what: self.what, field, reason }
    }
}

/// Frames as (pts, duration), by difference.
pub(crate) fn write_frames<W: Write>(to: &mut Encoder<W>, frames: &[(i64, i64)]) -> Result<(), FileError> {
    let mut previous = (0i64, 0i64);
    for &(pts, duration) in frames {
        to.signed(pts.wrapping_sub(previous.0))?;
        to.signed(duration.wrapping_sub(previous.1))?;
        previous = (pts, duration);
    }
    Ok(())
}

pub(crate) fn read_frames<R: Read>(from: &mut Decoder<R>, count: u64) -> Result<Vec<(i64, i64)>, FileError> {
    let mut frames = Vec::new();
    let mut previous = (0i64, 0i64);
    for _ in 0..count {
        let pts = previous.0.wrapping_add(from.signed("frame pts")?);
        let duration = previous.1.wrapping_add(from.signed("frame duration")?);
        previous = (pts, duration);
        frames.push(previous);
    }
    Ok(frames)
}

/// A slice's length as it stands in a file.
pub(crate) fn len<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).expect("memory is smaller than 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        let unsigned = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let signed = [0, -1, 1, 63, 64, -64, -65, i64::MIN, i64::MAX];
        let mut encoder = Encoder::new("test", *b"TEST1", Vec::new()).unwrap();
        for value in unsigned {
            encoder.unsigned(value).unwrap();
        }
        for value in signed {
            encoder.signed(value).unwrap();
        }
        let bytes = encoder.finish().unwrap();
        let mut decoder = Decoder::new("test", *b"TEST1", bytes.as_slice()).unwrap();
        for value in unsigned {
            assert_eq!(decoder.unsigned("n").unwrap(), value);
        }
        for value in signed {
            assert_eq!(decoder.signed("n").unwrap(), value);
        }
        decoder.end().unwrap();
    }

    #[test]
    fn a_lying_length_neither_allocates_nor_passes() {
        let mut bytes = b"TEST1".to_vec();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x7f, b'x']);
        let read = |limit| Decoder::new("test", *b"TEST1", bytes.as_slice()).unwrap().bytes("data", limit);
        assert!(matches!(read(1000), Err(FileError::Limit { limit: 1000, .. })));
        assert!(matches!(read(u64::MAX), Err(FileError::Truncated { field: "data", .. })));
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = b"TEST1".to_vec();
        bytes.extend([0xff; 9]);
        bytes.push(0x02);
        let got = Decoder::new("test", *b"TEST1", bytes.as_slice()).unwrap().unsigned("n");
        assert!(matches!(got, Err(FileError::Malformed { .. })));
    }
}
