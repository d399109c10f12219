//! Text subtitles drawn into the picture, as libavfilter's `subtitles` draws them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of `-vf`: what of which text is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BurnIn {
    /// URI of a subtitle file (SubRip, WebVTT, ASS), whose times count from the film's start. `None`: the source's own text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `si`: which of the source's subtitle streams, from 0. `None`: the one marked as default, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    /// `force_style`: `FontName=DejaVu Sans,FontSize=28`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

/// What a style may set, by the names of ASS.
const STYLES: [&str; 25] = [
    "FontName",
    "Fontname",
    "FontSize",
    "Fontsize",
    "PrimaryColour",
    "SecondaryColour",
    "OutlineColour",
    "BackColour",
    "Bold",
    "Italic",
    "Underline",
    "StrikeOut",
    "ScaleX",
    "ScaleY",
    "Spacing",
    "Angle",
    "BorderStyle",
    "Outline",
    "Shadow",
    "Alignment",
    "MarginL",
    "MarginR",
    "MarginV",
    "Encoding",
    "Blur",
];

impl BurnIn {
    /// With the URI of its file, as `uri` makes it of the name given; the file that is encoded itself stands for its own text.
    ///
    /// # Errors
    /// That of `uri`.
    pub fn settle<E>(&mut self, source: &str, uri: impl FnOnce(&str) -> Result<String, E>) -> Result<(), E> {
        if let Some(name) = &self.file {
            self.file = Some(uri(name)?).filter(|uri| uri != source);
        }
        Ok(())
    }

    /// # Errors
    /// What is wrong, and what is taken.
    pub fn check(&self) -> Result<(), String> {
        if let (Some(file), Some(stream)) = (&self.file, self.stream) {
            return Err(format!(
                "si={stream} chooses among the source's own subtitles, {file} is a file of its own with one: leave one of them out"
            ));
        }
        if let Some(file) = self.file.as_ref().filter(|file| !file.contains("://")) {
            return Err(format!("{file}: the subtitle file must be a URI here, such as file:///films/{file}"));
        }
        let Some(style) = &self.style else { return Ok(()) };
        for setting in style.split(',') {
            let known = |name: &str| STYLES.iter().any(|style| style.eq_ignore_ascii_case(name));
            match setting.split_once('=') {
                Some((name, value)) if known(name) && !value.is_empty() && !value.chars().any(char::is_control) => {}
                Some((name, _)) if known(name) => {
                    return Err(format!("force_style: {name} has no value that can be used"));
                }
                Some((name, _)) => {
                    return Err(format!(
                        "force_style: ASS has no {name:?}; such are FontName, FontSize, PrimaryColour, MarginV"
                    ));
                }
                None => {
                    return Err(format!(
                        "force_style: {setting:?} is not NAME=VALUE, such as FontSize=28,PrimaryColour=&H00FFFF&"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A value as libavfilter reads it back from `name=value:…`.
pub fn quoted(value: &str) -> String {
    escaped(value, |sign| ":'\\".contains(sign) || sign.is_ascii_whitespace())
}

fn escaped(text: &str, is_sign: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        if is_sign(sign) {
            escaped.push('\\');
        }
        escaped.push(sign);
    }
    escaped
}

impl fmt::Display for BurnIn {
    /// ffmpeg's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.stream.map(|stream| stream.to_string());
        let given = [("filename", &self.file), ("si", &stream), ("force_style", &self.style)];
        let given: Vec<String> =
            given.iter().filter_map(|(name, value)| Some(format!("{name}={}", quoted(value.as_deref()?)))).collect();
        f.write_str("subtitles")?;
        if !given.is_empty() {
            // Once more for the chain.
            write!(f, "={}", escaped(&given.join(":"), |sign| ",;[]'\\".contains(sign)))?;
        }
        Ok(())
    }
}
