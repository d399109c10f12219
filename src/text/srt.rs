//! WebVTT as SubRip: what players without the web take.

/// The cues of a WebVTT file, numbered. SubRip knows bold, italic and underlined text and no places on the picture: other tags and settings
/// are left out.
pub fn of_webvtt(file: &str) -> String {
    let mut srt = String::new();
    let mut number = 0;
    for block in file.split("\n\n") {
        let mut lines = block.lines().skip_while(|line| !line.contains(" --> "));
        let Some((start, rest)) = lines.next().and_then(|timing| timing.split_once(" --> ")) else { continue };
        let end = rest.split_whitespace().next().unwrap_or_default();
        number += 1;
        srt += &format!("{number}\n{} --> {}\n", clock(start), clock(end));
        for line in lines {
            srt += &plain(line);
            srt.push('\n');
        }
        srt.push('\n');
    }
    srt
}

/// `01:02.500` as `00:01:02,500`.
fn clock(time: &str) -> String {
    let hours = if time.matches(':').count() == 1 { "00:" } else { "" };
    format!("{hours}{}", time.trim().replace('.', ","))
}

fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('<') {
        out += before;
        let Some((tag, after)) = behind.split_once('>') else {
            out.push('<');
            rest = behind;
            continue;
        };
        let name = tag.split(['.', ' ']).next().unwrap_or_default();
        if matches!(name, "b" | "i" | "u" | "/b" | "/i" | "/u") {
            out += &format!("<{name}>");
        }
        rest = after;
    }
    out += rest;
    // The ampersand last: what it escapes is text.
    [("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\u{a0}"), ("&lrm;", "\u{200e}"), ("&rlm;", "\u{200f}"), ("&amp;", "&")]
        .iter()
        .fold(out, |text, (entity, char)| text.replace(entity, char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_are_numbered_and_keep_what_subrip_knows() {
        let file = "WEBVTT\n\nNOTE nothing\n\nintro\n00:00:01.000 --> 00:00:02.500 align:start\n<v Ann>Hi <i.x>you</i> &amp;lt; me</v>\n\
                    second &lt;line\n\n01:02.250 --> 01:00:03.000\n<b>2</b> < 3\n";
        let expected = "1\n00:00:01,000 --> 00:00:02,500\nHi <i>you</i> &lt; me\nsecond <line\n\n\
                        2\n00:01:02,250 --> 01:00:03,000\n<b>2</b> < 3\n\n";
        assert_eq!(of_webvtt(file), expected);
        assert_eq!(of_webvtt("WEBVTT\n"), "");
    }
}
