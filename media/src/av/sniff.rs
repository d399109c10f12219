//! What a file that no demuxer opens seems to be: for the message, not for a decision.

/// Says it by the first bytes.
pub(super) fn what_it_is(head: &[u8]) -> &'static str {
    let starts = |text: &[u8]| head.starts_with(text);
    let text = std::str::from_utf8(head).or_else(|e| std::str::from_utf8(&head[..e.valid_up_to()])).unwrap_or_default();
    match () {
        () if head.get(4..8).is_some_and(|kind| matches!(kind, b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free")) => {
            "it is an MP4 or MOV without a whole index (moov): a recording or a copy that was cut off"
        }
        () if starts(b"\x1a\x45\xdf\xa3") => "it is Matroska or WebM whose head is damaged",
        () if starts(b"#EXTM3U") || starts(b"ffconcat") || text.contains("<MPD") => {
            "it is a playlist, which names other files: give the film itself"
        }
        () if starts(b"\x89PNG") || starts(b"\xff\xd8\xff") || starts(b"GIF8") || starts(b"BM") => {
            "it is a picture, not a film"
        }
        () if starts(b"PK\x03\x04") || starts(b"\x1f\x8b") || starts(b"7z\xbc\xaf") => {
            "it is an archive: unpack it first"
        }
        () if starts(b"%PDF") => "it is a PDF",
        () if text.len() >= head.len().saturating_sub(4) && !text.contains('\0') => "it is text",
        () => "its container is none that Spool reads",
    }
}

#[cfg(test)]
mod tests {
    use super::what_it_is;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (head, said) in [
            (&b"\0\0\0\x20ftypisom\0\0\x02\0"[..], "moov"),
            (b"#EXTM3U\n#EXT-X-VERSION:3", "playlist"),
            (b"ffconcat version 1.0\nfile x", "playlist"),
            (b"\x89PNG\r\n\x1a\n\0\0", "picture"),
            (b"import { a } from \"b\";\n", "text"),
            ("gr\u{fc}\u{df}e \u{fc}".as_bytes(), "text"),
            (b"\x00\x93\xf1\x02\x88\xee", "none that Spool reads"),
            (b"PK\x03\x04", "archive"),
        ] {
            assert!(what_it_is(head).contains(said), "{:?}: {}", String::from_utf8_lossy(head), what_it_is(head));
        }
    }
}
