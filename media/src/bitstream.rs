//! What coded video says about itself: where decoding can begin, and where parameter sets change. Pure; reads headers only
//! and trusts nothing.

use std::collections::BTreeMap;

/// Looks at the packets of one stream, in decode order.
#[derive(Debug)]
pub struct Scanner {
    codec: Codec,
    /// Parameter sets in force, by NAL type and id.
    sets: BTreeMap<(u8, u32), Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// Bytes of a NAL's length field; 0: start codes.
    H264(usize),
    Hevc(usize),
    Vp8,
    Vp9,
    Av1,
    Mpeg12,
    Mpeg4,
    IntraOnly,
    Unknown,
}

/// What one packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Nothing that follows refers to what came before.
    pub closed: bool,
    /// Nothing that is displayed after it refers to what came before.
    pub recovers: bool,
    /// A parameter set came that differs from the one of the same id before.
    pub changed: bool,
    /// No picture comes out of it.
    pub hidden: bool,
}

impl Scanner {
    /// `codec` is libav's name. `intra_only`: every picture of the codec stands alone.
    pub fn new(codec: &str, extradata: &[u8], intra_only: bool) -> Scanner {
        let codec = match codec {
            "h264" if extradata.first() == Some(&1) && extradata.len() >= 7 => {
                Codec::H264(usize::from(extradata[4] & 3) + 1)
            }
            "h264" => Codec::H264(0),
            // hvcC starts with version 1; some writers left 0 there, and no start code begins with a third byte above 1.
            "hevc"
                if extradata.len() >= 23
                    && !extradata.starts_with(&[0, 0, 1])
                    && !extradata.starts_with(&[0, 0, 0, 1]) =>
            {
                Codec::Hevc(usize::from(extradata[21] & 3) + 1)
            }
            "hevc" => Codec::Hevc(0),
            "vp8" => Codec::Vp8,
            "vp9" => Codec::Vp9,
            "av1" => Codec::Av1,
            "mpeg1video" | "mpeg2video" => Codec::Mpeg12,
            "mpeg4" => Codec::Mpeg4,
            // Its keyframes begin everything anew; what is between them goes on with what the coder has learnt.
            "ffv1" => Codec::IntraOnly,
            _ if intra_only => Codec::IntraOnly,
            _ => Codec::Unknown,
        };
        let mut scanner = Scanner { codec, sets: BTreeMap::new() };
        match codec {
            Codec::H264(0) | Codec::Hevc(0) => {
                for nal in annex_b(extradata) {
                    scanner.keep(nal);
                }
            }
            Codec::H264(_) => {
                for nal in avcc_sets(extradata) {
                    scanner.keep(nal);
                }
            }
            Codec::Hevc(_) => {
                for nal in hvcc_sets(extradata) {
                    scanner.keep(nal);
                }
            }
            _ => {}
        }
        scanner
    }

    /// `key`: the container's flag.
    pub fn look(&mut self, data: &[u8], key: bool) -> Seen {
        match self.codec {
            Codec::H264(length) | Codec::Hevc(length) => self.look_nals(data, length),
            Codec::Vp8 => {
                let Some(&first) = data.first() else { return Seen::default() };
                Seen { closed: key && first & 1 == 0, hidden: first & 0x10 == 0, ..Seen::default() }
            }
            Codec::Vp9 => look_vp9(data, key),
            Codec::Av1 => Seen { closed: key && av1_starts(data), ..Seen::default() },
            // Both keep two reference pictures at most: what is displayed after an I picture refers to it and later ones alone.
            Codec::Mpeg12 => Seen { closed: key && closed_gop(data, 0xb8), recovers: key, ..Seen::default() },
            Codec::Mpeg4 => Seen { closed: key && closed_gop(data, 0xb3), recovers: key, ..Seen::default() },
            Codec::IntraOnly => Seen { closed: key, ..Seen::default() },
            Codec::Unknown => Seen::default(),
        }
    }

    /// Whether a packet holds more than the base layer, which is all that libav decodes: transparency or a second view, of HEVC.
    pub fn has_layers(&self, data: &[u8]) -> bool {
        let layer = |nal: &[u8]| match nal {
            [high, low, ..] => (high & 1) << 5 | low >> 3,
            _ => 0,
        };
        match self.codec {
            Codec::Hevc(0) => annex_b(data).any(|nal| layer(nal) > 0),
            Codec::Hevc(length) => prefixed(data, length).any(|nal| layer(nal) > 0),
            _ => false,
        }
    }

    fn look_nals(&mut self, data: &[u8], length: usize) -> Seen {
        let mut seen = Seen::default();
        let nals: Box<dyn Iterator<Item = &[u8]>> =
            if length == 0 { Box::new(annex_b(data)) } else { Box::new(prefixed(data, length)) };
        for nal in nals {
            let Some(&header) = nal.first() else { continue };
            match self.codec {
                Codec::H264(_) => match header & 31 {
                    // Slices: 5 is IDR. What follows the first slice says nothing new about the picture.
                    kind @ 1..=5 => {
                        seen.closed = kind == 5;
                        return seen;
                    }
                    6 => seen.recovers |= recovers_at_once(nal),
                    7 | 8 => seen.changed |= self.keep(nal),
                    _ => {}
                },
                _ => match (header >> 1) & 63 {
                    // Slices: BLA and IDR pictures; the leading pictures of a BLA are dropped by every decoder.
                    kind @ 0..=31 => {
                        seen.closed = (16..=20).contains(&kind);
                        // CRA.
                        seen.recovers = kind == 21;
                        return seen;
                    }
                    32..=34 => seen.changed |= self.keep(nal),
                    _ => {}
                },
            }
        }
        seen
    }

    /// Remembers a parameter set; true if it replaces a different one.
    fn keep(&mut self, nal: &[u8]) -> bool {
        let nal = without_trailing_zeros(nal);
        let Some(&header) = nal.first() else { return false };
        let (kind, id) = match self.codec {
            Codec::H264(_) => match header & 31 {
                // The id stands behind profile, constraints and level.
                7 => (7, exp_golomb(nal, 4)),
                8 => (8, exp_golomb(nal, 1)),
                _ => return false,
            },
            _ => match (header >> 1) & 63 {
                // A VPS begins with its id; an SPS's stands behind a long profile, so all of them count as one.
                32 => (32, nal.get(2).map(|b| u32::from(b >> 4))),
                33 => (33, Some(0)),
                34 => (34, exp_golomb(nal, 2)),
                _ => return false,
            },
        };
        let Some(id) = id else { return true };
        self.sets.insert((kind, id), nal.to_vec()).is_some_and(|before| before != nal)
    }
}

fn without_trailing_zeros(mut nal: &[u8]) -> &[u8] {
    while let [rest @ .., 0] = nal {
        nal = rest;
    }
    nal
}

/// Reads one ue(v) that starts at a byte. `None` past the end.
fn exp_golomb(bytes: &[u8], start: usize) -> Option<u32> {
    let bit = |i: usize| bytes.get(start + i / 8).map(|byte| u32::from(byte >> (7 - i % 8) & 1));
    let mut zeros = 0;
    while bit(zeros)? == 0 {
        zeros += 1;
        if zeros > 31 {
            return None;
        }
    }
    let mut value = 0;
    for i in 0..=zeros {
        value = value << 1 | bit(zeros + i)?;
    }
    Some(value - 1)
}

/// NAL units between start codes.
pub(crate) fn annex_b(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(data).map(|at| &data[at + 3..]);
    std::iter::from_fn(move || {
        let nal = rest?;
        match start_code(nal) {
            Some(at) => {
                rest = Some(&nal[at + 3..]);
                Some(&nal[..at])
            }
            None => {
                rest = None;
                Some(nal)
            }
        }
    })
}

fn start_code(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|w| w == [0, 0, 1])
}

/// NAL units behind big-endian lengths of `length` bytes.
fn prefixed(mut data: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = data.split_at_checked(length)?;
        let size = prefix.iter().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        let (nal, rest) = rest.split_at_checked(size)?;
        data = rest;
        Some(nal)
    })
}

fn avcc_sets(extradata: &[u8]) -> Vec<&[u8]> {
    let mut sets = Vec::new();
    let mut rest = extradata.get(5..).unwrap_or_default();
    for mask in [31, 255] {
        let Some((count, tail)) = rest.split_first() else { return sets };
        rest = tail;
        for _ in 0..count & mask {
            let Some(nal) = prefixed(rest, 2).next() else { return sets };
            sets.push(nal);
            rest = &rest[2 + nal.len()..];
        }
    }
    sets
}

fn hvcc_sets(extradata: &[u8]) -> Vec<&[u8]> {
    let mut sets = Vec::new();
    let Some((arrays, mut rest)) = extradata.get(22..).and_then(<[u8]>::split_first) else { return sets };
    for _ in 0..*arrays {
        let Some((&[_, high, low], tail)) = rest.split_first_chunk::<3>() else { return sets };
        rest = tail;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let Some(nal) = prefixed(rest, 2).next() else { return sets };
            sets.push(nal);
            rest = &rest[2 + nal.len()..];
        }
    }
    sets
}

/// The uncompressed header of a VP9 frame (or of the first frame of a superframe, of which the last is shown).
fn look_vp9(data: &[u8], key: bool) -> Seen {
    let Some(&first) = data.first() else { return Seen::default() };
    let profile = (first >> 5 & 1) | (first >> 4 & 1) << 1;
    // Profile 3 has a reserved bit in between.
    let shift = if profile == 3 { 1 } else { 0 };
    let bit = |i: u8| first >> (3 - i) & 1;
    let shows_existing = bit(shift) == 1;
    if first >> 6 != 2 || shows_existing {
        return Seen::default();
    }
    let is_key = bit(shift + 1) == 0;
    let shown = bit(shift + 2) == 1;
    // A superframe ends with a marker that stands at both ends of its index.
    let superframe = data.last().is_some_and(|last| last >> 5 == 0b110);
    Seen { closed: key && is_key && shown, hidden: !shown && !superframe, ..Seen::default() }
}

/// A temporal unit that brings its sequence header and a shown key frame.
fn av1_starts(mut data: &[u8]) -> bool {
    let mut has_sequence = false;
    while let Some((&header, rest)) = data.split_first() {
        let kind = header >> 3 & 15;
        let extended = usize::from(header & 4 != 0);
        let Some(rest) = rest.get(extended..) else { return false };
        let (payload, next) = if header & 2 != 0 {
            let Some((size, used)) = leb128(rest) else { return false };
            let Some(rest) = rest.get(used..) else { return false };
            let Some(parts) = rest.split_at_checked(size) else { return false };
            parts
        } else {
            (rest, &[][..])
        };
        match kind {
            1 => has_sequence = true,
            // Frame or frame header: show_existing_frame, frame_type (0 is KEY), show_frame.
            3 | 6 => return has_sequence && payload.first().is_some_and(|b| b >> 4 == 0b0001),
            _ => {}
        }
        data = next;
    }
    false
}

fn leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (i, byte) in data.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

/// A recovery point SEI message (H.264, D.2.8) that takes no frames (`recovery_frame_cnt` 0) and is exact.
fn recovers_at_once(sei: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    // Type and size are sums of bytes, of which the last is not 255.
    fn sum(bytes: &mut std::slice::Iter<'_, u8>) -> Option<usize> {
        let mut sum = 0;
        loop {
            let byte = *bytes.next()?;
            sum += usize::from(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
    }
    let mut bytes = sei.get(1..).unwrap_or_default().iter();
    while let (Some(kind), Some(size)) = (sum(&mut bytes), sum(&mut bytes)) {
        let Some(payload) = bytes.as_slice().get(..size) else { return false };
        if kind == RECOVERY_POINT {
            // ue(v) 0 is one set bit; the next one is exact_match_flag.
            return payload.first().is_some_and(|first| first & 0xc0 == 0xc0);
        }
        bytes = bytes.as_slice()[size..].iter();
    }
    false
}

/// The closed flag of an MPEG-1/2 GOP header (start code B8, behind 25 bits of time code) or of an MPEG-4 group of VOPs (B3,
/// behind 18 bits).
fn closed_gop(data: &[u8], code: u8) -> bool {
    let picture = if code == 0xb8 { 0x00 } else { 0xb6 };
    let mut rest = data;
    while let Some(at) = start_code(rest) {
        rest = &rest[at + 3..];
        match rest.first() {
            Some(&found) if found == code && code == 0xb8 => return rest.get(4).is_some_and(|b| b & 0x40 != 0),
            Some(&found) if found == code => return rest.get(3).is_some_and(|b| b & 0x20 != 0),
            // A picture: no header came before it.
            Some(&found) if found == picture => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
