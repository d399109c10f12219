//! The `codecs` string of a track, from its sample entry: RFC 6381, and the codecs' own bindings to ISO BMFF (ISO/IEC 14496-15 annex E for
//! HEVC, "AV1 in ISOBMFF" section 5, "VP in ISOBMFF").

use super::boxes::{Found, boxes, find};

/// Bytes of a visual sample entry before its boxes, size and kind counted.
const VISUAL_ENTRY: usize = 86;
/// Of a sound entry.
const AUDIO_ENTRY: usize = 36;

/// `None`: there is no sample entry, or it is of no codec known here.
pub fn of(header: &[u8]) -> Option<String> {
    let table = find(header, 0..header.len(), &[b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"])?;
    // Version, flags, number of entries.
    let entry = boxes(header, table.payload.start + 8..table.payload.end).next()?;
    let config = |kind: &[u8; 4], skipped: usize| {
        let within = entry.whole.start + skipped..entry.whole.end;
        find(header, within, &[kind]).map(|Found { payload, .. }| &header[payload])
    };
    match &entry.kind {
        b"avc1" | b"avc3" => {
            let avc = config(b"avcC", VISUAL_ENTRY)?.get(1..4)?;
            Some(format!("{}.{:02x}{:02x}{:02x}", name(&entry), avc[0], avc[1], avc[2]))
        }
        b"hvc1" | b"hev1" => hevc(&name(&entry), config(b"hvcC", VISUAL_ENTRY)?),
        b"av01" => av1(config(b"av1C", VISUAL_ENTRY)?),
        b"vp09" => {
            // Version and flags come first.
            let vp = config(b"vpcC", VISUAL_ENTRY)?.get(4..7)?;
            Some(format!("vp09.{:02}.{:02}.{:02}", vp[0], vp[1], vp[2] >> 4))
        }
        b"mp4a" => mpeg4_audio(config(b"esds", AUDIO_ENTRY)?),
        b"Opus" => Some("opus".into()),
        b"fLaC" => Some("fLaC".into()),
        b"ac-3" | b"ec-3" => Some(name(&entry)),
        _ => None,
    }
}

fn name(entry: &Found) -> String {
    String::from_utf8_lossy(&entry.kind).into_owned()
}

fn hevc(name: &str, config: &[u8]) -> Option<String> {
    let config = config.get(..13)?;
    let space = ["", "A", "B", "C"][usize::from(config[1] >> 6)];
    let tier = if config[1] & 0x20 == 0 { 'L' } else { 'H' };
    let compatible = u32::from_be_bytes(config[2..6].try_into().ok()?).reverse_bits();
    let (profile, level) = (config[1] & 0x1f, config[12]);
    let mut text = format!("{name}.{space}{profile}.{compatible:x}.{tier}{level}");
    let constraints = &config[6..12];
    let told = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..told] {
        text.push_str(&format!(".{byte:x}"));
    }
    Some(text)
}

fn av1(config: &[u8]) -> Option<String> {
    let config = config.get(..3)?;
    let (profile, level) = (config[1] >> 5, config[1] & 0x1f);
    let tier = if config[2] & 0x80 == 0 { 'M' } else { 'H' };
    let (high, twelve) = (config[2] & 0x40 != 0, config[2] & 0x20 != 0);
    let depth = match (high, twelve) {
        (false, _) => 8,
        (true, true) if profile == 2 => 12,
        (true, _) => 10,
    };
    Some(format!("av01.{profile}.{level:02}{tier}.{depth:02}"))
}

const DECODER_CONFIG: u8 = 0x04;
const DECODER_SPECIFIC: u8 = 0x05;
const MPEG4_AUDIO: u8 = 0x40;

/// `mp4a.OO` or, for MPEG-4 audio, `mp4a.40.A` with the audio object type.
fn mpeg4_audio(esds: &[u8]) -> Option<String> {
    // Version and flags; ES_Descriptor with its id and flags.
    let elementary = descriptor(esds.get(4..)?)?.1;
    let (tag, config) = descriptor(elementary.get(3..)?)?;
    let object = *config.first().filter(|_| tag == DECODER_CONFIG)?;
    if object != MPEG4_AUDIO {
        return Some(format!("mp4a.{object:02x}"));
    }
    let (tag, specific) = descriptor(config.get(13..)?)?;
    let first = u16::from_be_bytes(specific.get(..2).filter(|_| tag == DECODER_SPECIFIC)?.try_into().ok()?);
    let audio = match first >> 11 {
        31 => 32 + (first >> 5 & 0x3f),
        audio => audio,
    };
    Some(format!("mp4a.40.{audio}"))
}

/// The first descriptor of ISO/IEC 14496-1: its tag and what is in it.
fn descriptor(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&tag, mut rest) = bytes.split_first()?;
    let mut size = 0usize;
    for _ in 0..4 {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        size = size << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((tag, rest.get(..size).unwrap_or(rest)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hevc_leaves_out_what_is_zero() {
        // Main, level 3.1, progressive and frame-only.
        let main = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
        assert_eq!(hevc("hvc1", &main).unwrap(), "hvc1.1.6.L93.90");
        let main10 = [1, 0x22, 0x20, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 150];
        assert_eq!(hevc("hvc1", &main10).unwrap(), "hvc1.2.4.H150.b0");
        let none = [1, 0x01, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30];
        assert_eq!(hevc("hev1", &none).unwrap(), "hev1.1.6.L30");
        assert_eq!(hevc("hvc1", &main[..12]), None);
    }

    #[test]
    fn av1_tells_tier_and_depth() {
        assert_eq!(av1(&[0x81, 0x05, 0x0c]).unwrap(), "av01.0.05M.08");
        assert_eq!(av1(&[0x81, 0x08, 0x4c]).unwrap(), "av01.0.08M.10");
        assert_eq!(av1(&[0x81, 0x4d, 0xe0]).unwrap(), "av01.2.13H.12");
    }

    #[test]
    fn aac_tells_its_object_type() {
        let esds = |object: u8, specific: &[u8]| {
            let size = u8::try_from(specific.len()).unwrap();
            let mut config = vec![4, 0x80, 0x80, 0x80, 15 + size, object];
            config.extend([0x15; 12]);
            config.extend([5, size]);
            config.extend(specific);
            let mut all = vec![0, 0, 0, 0, 3, u8::try_from(config.len()).unwrap() + 3, 0, 1, 0];
            all.extend(config);
            mpeg4_audio(&all)
        };
        assert_eq!(esds(0x40, &[0x12, 0x10]).unwrap(), "mp4a.40.2");
        assert_eq!(esds(0x40, &[0xf9, 0x40]).unwrap(), "mp4a.40.42");
        assert_eq!(esds(0x6b, &[]).unwrap(), "mp4a.6b");
        assert_eq!(esds(0x40, &[]), None);
    }
}
