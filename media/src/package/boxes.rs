//! The boxes of an ISO base media file (ISO/IEC 14496-12), as far as a CMAF track of libav's muxer needs to be read.

use std::ops::Range;

/// One box: its kind, all of it, and what is behind its size and kind. Ranges are of the bytes it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: [u8; 4],
    pub whole: Range<usize>,
    pub payload: Range<usize>,
}

/// The boxes that lie one behind the other in a range; ends at the first that does not fit in it.
pub fn boxes(bytes: &[u8], within: Range<usize>) -> impl Iterator<Item = Found> + '_ {
    let mut at = within.start;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at.checked_add(8)?)?;
        let size = usize::try_from(u32::from_be_bytes(head[..4].try_into().ok()?)).ok()?;
        let kind = head[4..].try_into().ok()?;
        let (size, header) = match size {
            1 => {
                let large = bytes.get(at + 8..at + 16)?;
                (usize::try_from(u64::from_be_bytes(large.try_into().ok()?)).ok()?, 16)
            }
            size => (size, 8),
        };
        let end = at.checked_add(size)?;
        if size < header || end > within.end.min(bytes.len()) {
            return None;
        }
        let found = Found { kind, whole: at..end, payload: at + header..end };
        at = end;
        Some(found)
    })
}

/// The first box at a path from the top: `["moov", "trak", …]`.
pub fn find(bytes: &[u8], within: Range<usize>, path: &[&[u8; 4]]) -> Option<Found> {
    let (first, rest) = path.split_first()?;
    let found = boxes(bytes, within).find(|found| found.kind == **first)?;
    if rest.is_empty() { Some(found) } else { find(bytes, found.payload, rest) }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
/// In `tfhd`.
const DEFAULT_SIZE: u32 = 0x10;

/// What is needed of a fragment's `moof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Of the `moof` itself: the data's header follows.
    pub moof_bytes: u64,
    /// Of its first picture or frame.
    pub first_sample_bytes: u64,
}

/// Reads a fragment that begins with its `moof`. `None`: it is damaged.
pub fn fragment(bytes: &[u8]) -> Option<Fragment> {
    let moof = boxes(bytes, 0..bytes.len()).next().filter(|first| first.kind == *b"moof")?;
    let traf = find(bytes, moof.payload.clone(), &[b"traf"])?.payload;
    let run = find(bytes, traf.clone(), &[b"trun"])?.payload;
    let flags = u32_at(bytes, run.start)? & 0x00ff_ffff;
    let has = |flag: u32| usize::from(flags & flag != 0);
    let first = run.start + 8 + 4 * (has(DATA_OFFSET) + has(FIRST_FLAGS));
    let first_sample_bytes = match flags & SIZE {
        0 => default_size(bytes, traf)?,
        _ => u32_at(bytes, first + 4 * has(DURATION))?,
    };
    let moof_bytes = u64::try_from(moof.whole.len()).ok()?;
    Some(Fragment { moof_bytes, first_sample_bytes: first_sample_bytes.into() })
}

/// Of all samples, as the fragment's header says.
fn default_size(fragment: &[u8], traf: Range<usize>) -> Option<u32> {
    let header = find(fragment, traf, &[b"tfhd"])?.payload;
    let flags = u32_at(fragment, header.start)? & 0x00ff_ffff;
    if flags & DEFAULT_SIZE == 0 {
        return None;
    }
    // Base offset (8 bytes), description, duration come before it.
    let before = [(0x1, 8), (0x2, 4), (0x8, 4)].iter().filter(|(flag, _)| flags & flag != 0).map(|(_, bytes)| bytes);
    u32_at(fragment, header.start + 8 + before.sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len() + 8).unwrap();
        [&size.to_be_bytes()[..], kind, payload].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn moof(run: &[u32]) -> Vec<u8> {
        let header = boxed(b"tfhd", &words(&[0x02_0038, 1, 512, 77, 0]));
        let traf = boxed(b"traf", &[header, boxed(b"trun", &words(run))].concat());
        [boxed(b"moof", &traf), boxed(b"mdat", b"data")].concat()
    }

    #[test]
    fn the_first_sample_is_found_in_the_run() {
        // Data offset, first sample's flags; sizes and offsets of two samples.
        let bytes = moof(&[0xa05, 2, 100, 0, 500, 1024, 400, 3072]);
        let moof_bytes = u64::try_from(bytes.len() - 12).unwrap();
        assert_eq!(fragment(&bytes), Some(Fragment { moof_bytes, first_sample_bytes: 500 }));
        // Durations before sizes.
        assert_eq!(fragment(&moof(&[0x301, 1, 100, 512, 321])).unwrap().first_sample_bytes, 321);
    }

    #[test]
    fn a_size_that_all_samples_share_is_in_the_header() {
        assert_eq!(fragment(&moof(&[0x1, 5, 100])).unwrap().first_sample_bytes, 77);
    }

    #[test]
    fn a_fragment_cut_anywhere_is_no_panic() {
        let whole = moof(&[0xa05, 2, 100, 0, 500, 1024, 400, 3072]);
        let told: Vec<bool> = (0..whole.len()).map(|end| fragment(&whole[..end]).is_some()).collect();
        assert_eq!(told.iter().position(|told| *told), Some(whole.len() - 12), "not before its moof is whole");
    }
}
