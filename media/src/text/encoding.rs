//! How a subtitle file is encoded: by its mark, else by what it can be.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// A file as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Utf8 {
    pub text: String,
    /// The encoding's usual name.
    pub encoding: &'static str,
    /// Neither a mark nor the bytes themselves are proof.
    pub guessed: bool,
}

/// Bytes looked at for zeros.
const SAMPLE: usize = 4096;

/// A byte order mark decides; else what is valid UTF-8 is UTF-8; else UTF-16 where every other byte is mostly zero; else Windows-1252,
/// which holds Latin-1 and has a character for nearly every byte.
pub fn to_utf8(bytes: &[u8]) -> Utf8 {
    let read = |encoding: &'static Encoding, bytes: &[u8], guessed| Utf8 {
        text: encoding.decode_without_bom_handling(bytes).0.into_owned(),
        encoding: encoding.name(),
        guessed,
    };
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return read(encoding, &bytes[mark..], false);
    }
    if let Some(encoding) = wide(bytes) {
        return read(encoding, bytes, true);
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => read(UTF_8, bytes, false),
        Err(_) => read(WINDOWS_1252, bytes, true),
    }
}

fn wide(bytes: &[u8]) -> Option<&'static Encoding> {
    let pairs = &bytes[..bytes.len().min(SAMPLE) & !1];
    let zeros = |at: usize| pairs.chunks_exact(2).filter(|pair| pair[at] == 0).count();
    // Times, arrows and line ends alone make a good part of any subtitle file.
    let many = pairs.len() / 2 / 3;
    match (zeros(0) > many, zeros(1) > many) {
        (true, false) => Some(UTF_16BE),
        (false, true) => Some(UTF_16LE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "1\n00:00:01,000 --> 00:00:02,000\nZwölf – “Grüße”\n";

    fn utf16(text: &str, big: bool, mark: bool) -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn every_usual_encoding_gives_the_same_text() {
        let (western, _, lost) = WINDOWS_1252.encode(TEXT);
        assert!(!lost);
        for (bytes, encoding, guessed) in [
            (TEXT.as_bytes().to_vec(), "UTF-8", false),
            ([b"\xef\xbb\xbf", TEXT.as_bytes()].concat(), "UTF-8", false),
            (utf16(TEXT, true, true), "UTF-16BE", false),
            (utf16(TEXT, false, true), "UTF-16LE", false),
            (utf16(TEXT, true, false), "UTF-16BE", true),
            (utf16(TEXT, false, false), "UTF-16LE", true),
            (western.into_owned(), "windows-1252", true),
        ] {
            assert_eq!(to_utf8(&bytes), Utf8 { text: TEXT.into(), encoding, guessed });
        }
        assert_eq!(to_utf8(b"").text, "");
        assert_eq!(to_utf8(b"\x00").text, "\0");
    }
}
