//! A WebVTT file (W3C, "WebVTT: The Web Video Text Tracks Format").

use std::fmt::Write as _;

use spool_proto::call::CueTimes;

use crate::av::packet::{Packet, SIDE_WEBVTT_SETTINGS};

/// How long the last cue is shown where nothing says it.
const LAST_US: i64 = 4_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    start_us: i64,
    end_us: i64,
    settings: String,
    text: String,
}

impl Cue {
    pub fn times(&self) -> CueTimes {
        CueTimes { start_us: self.start_us, end_us: self.end_us }
    }
}

/// Cues as they come: one whose end is not known is shown until the next event.
#[derive(Debug, Default)]
pub struct Page {
    cues: Vec<Cue>,
    /// The last cue's end is not known.
    open: bool,
}

impl Page {
    /// An event; an empty `text` only ends what is shown.
    pub fn add(&mut self, start_us: i64, duration_us: Option<i64>, settings: &str, text: &str) {
        if let (true, Some(last)) = (std::mem::take(&mut self.open), self.cues.last_mut()) {
            last.end_us = start_us.max(last.start_us);
        }
        let text = lines(text);
        if text.is_empty() {
            return;
        }
        self.open = duration_us.is_none();
        let end_us = start_us.saturating_add(duration_us.unwrap_or(LAST_US));
        self.cues.push(Cue { start_us, end_us, settings: settings.into(), text });
    }

    /// In order of time, without what is never shown; nothing lasts beyond the film's end.
    pub fn finish(mut self, length_us: Option<i64>) -> Vec<Cue> {
        for cue in &mut self.cues {
            cue.start_us = cue.start_us.max(0);
            cue.end_us = cue.end_us.min(length_us.unwrap_or(i64::MAX));
        }
        self.cues.retain(|cue| cue.end_us > cue.start_us);
        self.cues.sort_by_key(|cue| cue.start_us);
        self.cues
    }
}

/// The payload of a cue: without empty lines, which would end it, and without arrows, which would begin one.
fn lines(text: &str) -> String {
    let kept: Vec<&str> =
        text.split(['\n', '\r', '\0']).map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    kept.join("\n").replace("-->", "--&gt;")
}

/// libav's encoder leaves ampersands as they are.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        out.push(char);
        if char == '&' && !is_entity(&text[at + 1..]) {
            out.push_str("amp;");
        }
    }
    out
}

fn is_entity(rest: &str) -> bool {
    let name = rest.split(';').next().unwrap_or_default();
    rest.len() > name.len() && matches!(name, "amp" | "lt" | "gt" | "lrm" | "rlm" | "nbsp" | "quot")
}

/// Where a cue of a WebVTT source stands, as its packet carries it.
pub fn settings(packet: &Packet) -> String {
    let found = packet.side_data().into_iter().find(|(kind, _)| *kind == SIDE_WEBVTT_SETTINGS);
    let text = found.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.trim_end_matches('\0').split(['\n', '\r']).next().unwrap_or_default().replace("-->", "")
}

pub fn file(cues: &[Cue]) -> String {
    let mut text = String::from("WEBVTT\n");
    for cue in cues {
        let gap = if cue.settings.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n{} --> {}{gap}{}\n{}\n", clock(cue.start_us), clock(cue.end_us), cue.settings, cue.text);
    }
    text
}

/// `00:01:02.345`, to the nearest millisecond.
pub fn clock(us: i64) -> String {
    let ms = (us.max(0) + 500) / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_cue_is_taken_out_of_it() {
        let mut page = Page::default();
        page.add(1_000_000, Some(1_000_000), "line:0", "One\r\n\r\n--> & two\n");
        page.add(3_600_000_000, Some(1_500), "", &escape("A & B &amp; C &lt;"));
        assert_eq!(
            file(&page.finish(None)),
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.000 line:0\nOne\n--&gt; & two\n\n\
             01:00:00.000 --> 01:00:00.002\nA &amp; B &amp; C &lt;\n"
        );
    }

    #[test]
    fn a_cue_without_an_end_lasts_until_the_next_event() {
        let mut page = Page::default();
        page.add(1, None, "", "a");
        page.add(5, None, "", "");
        page.add(7, None, "", "b");
        page.add(9, None, "", "c");
        let times = |page: Page, length| page.finish(length).iter().map(Cue::times).collect::<Vec<_>>();
        let at = |start_us, end_us| CueTimes { start_us, end_us };
        assert_eq!(times(page, Some(100)), [at(1, 5), at(7, 9), at(9, 100)]);
    }

    #[test]
    fn cues_come_in_order_and_only_those_that_are_shown() {
        let mut page = Page::default();
        for (start, length) in [(50, 10), (20, 10), (-30, 40), (-30, 10), (200, 5)] {
            page.add(start, Some(length), "", "x");
        }
        let starts: Vec<i64> = page.finish(Some(100)).iter().map(|cue| cue.start_us).collect();
        assert_eq!(starts, [0, 20, 50]);
    }
}
