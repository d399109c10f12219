//! Quotes and backslashes as libavfilter reads them (`av_get_token`): a backslash takes the next sign as it is, `'…'` all up to the
//! next quote.

/// Parts between plain `at`s, still quoted.
pub fn split(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (place, sign) in plain_signs(text) {
        if sign == at {
            parts.push(&text[start..place]);
            start = place + sign.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The first plain sign that only a filter graph has.
pub fn graph_sign(text: &str) -> Option<char> {
    plain_signs(text).into_iter().map(|(_, sign)| sign).find(|sign| ";[]".contains(*sign))
}

/// Without one layer of quotes, and without the space around. `None`: a quote does not end.
pub fn plain(text: &str) -> Option<String> {
    let mut read = String::with_capacity(text.len());
    // What stands before it was quoted: it is no space around.
    let mut kept = 0;
    let mut signs = text.trim_start_matches([' ', '\n', '\t', '\r']).chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => {
                read.push(signs.next().unwrap_or('\\'));
                kept = read.len();
            }
            '\'' => loop {
                match signs.next()? {
                    '\'' => {
                        kept = read.len();
                        break;
                    }
                    sign => read.push(sign),
                }
            },
            sign => read.push(sign),
        }
    }
    let end = read.trim_end_matches([' ', '\n', '\t', '\r']).len().max(kept);
    read.truncate(end);
    Some(read)
}

/// Signs outside quotes and not behind a backslash, with their places.
fn plain_signs(text: &str) -> Vec<(usize, char)> {
    let mut found = Vec::new();
    let mut signs = text.char_indices();
    let mut in_quotes = false;
    while let Some((place, sign)) = signs.next() {
        match sign {
            '\'' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '\\' => drop(signs.next()),
            sign => found.push((place, sign)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{filters, filters_text};
    use super::*;
    use crate::spec::{BurnIn, Filter};

    #[test]
    fn quotes_come_off_layer_by_layer() {
        for (text, read) in
            [("a", "a"), (" a b ", "a b"), ("a\\ ", "a "), ("'a, b'c", "a, bc"), ("\\'", "'"), ("C\\\\:x", "C\\:x")]
        {
            assert_eq!(plain(text).as_deref(), Some(read), "{text}");
        }
        assert_eq!(plain("'open"), None);
        assert_eq!(split("a='x,y',b\\,c,d", ','), ["a='x,y'", "b\\,c", "d"]);
    }

    #[test]
    fn subtitles_are_read_as_ffmpeg_writes_them_and_read_back() {
        let burn = |file: Option<&str>, stream, style: Option<&str>| BurnIn {
            file: file.map(Into::into),
            stream,
            style: style.map(Into::into),
        };
        for (text, expected) in [
            ("subtitles", burn(None, None, None)),
            ("subtitles=film.srt", burn(Some("film.srt"), None, None)),
            ("subtitles=film.mkv:si=2", burn(Some("film.mkv"), Some(2), None)),
            (
                "subtitles=f=a.srt:force_style='FontName=DejaVu Sans,FontSize=24'",
                burn(Some("a.srt"), None, Some("FontName=DejaVu Sans,FontSize=24")),
            ),
            ("subtitles='it\\'\\''s [1].srt'", burn(Some("it's [1].srt"), None, None)),
            ("subtitles=file\\\\:///a\\\\:b.srt", burn(Some("file:///a:b.srt"), None, None)),
        ] {
            let chain = format!("hflip,{text},scale=320:-2");
            let read = filters(&chain).unwrap_or_else(|error| panic!("{chain}: {error}"));
            assert_eq!(read[1], Filter::Subtitles(expected), "{chain}");
            assert_eq!(filters(&filters_text(&read)), Ok(read.clone()), "{}", filters_text(&read));
        }
        for text in [
            "subtitles=a:b",
            "subtitles=a[b]",
            "subtitles=charenc=cp1250",
            "subtitles=si=x",
            "subtitles='a",
            "hflip='1'",
        ] {
            assert!(filters(text).is_err(), "{text} was taken");
        }
    }
}
