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

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
const SAMPLE_FLAGS: u32 = 0x400;
const COMPOSITION: u32 = 0x800;
/// In `tfhd`.
const DEFAULT_DURATION: u32 = 0x8;
const DEFAULT_SIZE: u32 = 0x10;

/// What is needed of a fragment's `moof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Of the `moof` itself: the data's header follows.
    pub moof_bytes: u64,
    /// Of its first picture or frame.
    pub first_sample_bytes: u64,
    /// When its first picture or frame is decoded, and how long all of them last.
    pub decode_time: u64,
    pub duration: u64,
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
        0 => default(bytes, traf.clone(), DEFAULT_SIZE)?,
        _ => u32_at(bytes, first + 4 * has(DURATION))?,
    };
    let samples = usize::try_from(u32_at(bytes, run.start + 4)?).ok()?;
    let sample_bytes = 4 * (has(DURATION) + has(SIZE) + has(SAMPLE_FLAGS) + has(COMPOSITION));
    let duration = match flags & DURATION {
        0 => u64::try_from(samples).ok()?.checked_mul(default(bytes, traf.clone(), DEFAULT_DURATION)?.into())?,
        _ if samples > run.len() / 4 => return None,
        _ => (0..samples).map(|n| u32_at(bytes, first + n * sample_bytes).map(u64::from)).sum::<Option<u64>>()?,
    };
    let decode_time = u64_at(bytes, find(bytes, traf, DECODE_TIME)?.payload.start + 4)?;
    let moof_bytes = u64::try_from(moof.whole.len()).ok()?;
    Some(Fragment { moof_bytes, first_sample_bytes: first_sample_bytes.into(), decode_time, duration })
}

/// The box of version 1, which is the one that libav writes.
const DECODE_TIME: &[&[u8; 4]] = &[b"tfdt"];

/// Of all samples, as the fragment's header says.
fn default(fragment: &[u8], traf: Range<usize>, which: u32) -> Option<u32> {
    let header = find(fragment, traf, &[b"tfhd"])?.payload;
    let flags = u32_at(fragment, header.start)? & 0x00ff_ffff;
    if flags & which == 0 {
        return None;
    }
    // Base offset (8 bytes), description, duration, size, in this order.
    let fields = [(0x1, 8), (0x2, 4), (DEFAULT_DURATION, 4), (DEFAULT_SIZE, 4)];
    let before = fields.iter().take_while(|(flag, _)| *flag != which).filter(|(flag, _)| flags & flag != 0);
    u32_at(fragment, header.start + 8 + before.map(|(_, bytes)| bytes).sum::<usize>())
}

/// Makes of a fragment's `moof` one that follows `fragments` others, which last until `decode_time`. `None`: it is damaged.
pub fn follow(moof: &mut [u8], fragments: u32, decode_time: u64) -> Option<()> {
    let whole = boxes(moof, 0..moof.len()).next().filter(|first| first.kind == *b"moof")?.payload;
    let number = find(moof, whole.clone(), &[b"mfhd"])?.payload.start + 4;
    let time = find(moof, find(moof, whole, &[b"traf"])?.payload, DECODE_TIME)?.payload.start + 4;
    let (next, later) = (u32_at(moof, number)?.checked_add(fragments)?, u64_at(moof, time)?.checked_add(decode_time)?);
    moof.get_mut(number..number + 4)?.copy_from_slice(&next.to_be_bytes());
    moof.get_mut(time..time + 8)?.copy_from_slice(&later.to_be_bytes());
    Some(())
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
        let time = boxed(b"tfdt", &words(&[0x0100_0000, 1, 3]));
        let traf = boxed(b"traf", &[header, time, boxed(b"trun", &words(run))].concat());
        let moof = [boxed(b"mfhd", &words(&[0, 5])), traf].concat();
        [boxed(b"moof", &moof), boxed(b"mdat", b"data")].concat()
    }

    const TIME: u64 = (1 << 32) + 3;

    #[test]
    fn the_first_sample_is_found_in_the_run() {
        // Data offset, first sample's flags; sizes and offsets of two samples.
        let bytes = moof(&[0xa05, 2, 100, 0, 500, 1024, 400, 3072]);
        let moof_bytes = u64::try_from(bytes.len() - 12).unwrap();
        let told = Fragment { moof_bytes, first_sample_bytes: 500, decode_time: TIME, duration: 1024 };
        assert_eq!(fragment(&bytes), Some(told));
        // Durations before sizes.
        let told = fragment(&moof(&[0x301, 2, 100, 512, 321, 510, 77])).unwrap();
        assert_eq!((told.first_sample_bytes, told.duration), (321, 1022));
    }

    #[test]
    fn a_size_that_all_samples_share_is_in_the_header() {
        assert_eq!(fragment(&moof(&[0x1, 5, 100])).unwrap().first_sample_bytes, 77);
    }

    #[test]
    fn a_fragment_is_made_to_follow_others() {
        let mut bytes = moof(&[0x1, 5, 100]);
        follow(&mut bytes, 7, 1 << 33).unwrap();
        assert_eq!(fragment(&bytes).unwrap().decode_time, TIME + (1 << 33));
        let moof = boxes(&bytes, 0..bytes.len()).next().unwrap().payload;
        let number = find(&bytes, moof, &[b"mfhd"]).unwrap().payload;
        assert_eq!(u32_at(&bytes, number.start + 4), Some(12));
        assert!((0..bytes.len() - 12).all(|end| follow(&mut bytes[..end].to_vec(), 1, 1).is_none()));
    }

    #[test]
    fn a_run_that_tells_more_samples_than_it_has_is_refused() {
        assert_eq!(fragment(&moof(&[0x301, u32::MAX, 100, 512, 321])), None);
    }

    #[test]
    fn a_fragment_cut_anywhere_is_no_panic() {
        let whole = moof(&[0xa05, 2, 100, 0, 500, 1024, 400, 3072]);
        let told: Vec<bool> = (0..whole.len()).map(|end| fragment(&whole[..end]).is_some()).collect();
        assert_eq!(told.iter().position(|told| *told), Some(whole.len() - 12), "not before its moof is whole");
    }
}
