//! What becomes of the picture besides `-vf`: options of Spool's own, worked out once the source was seen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::parse::ParseError;
use super::{Filter, filter::Named};
use crate::time::Span;

/// HDR to SDR: how brightness beyond SDR's is bent into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToneMap {
    /// Keeps detail in dark and bright parts.
    Hable,
    /// Keeps colours and mid tones, bends only the brightest.
    Mobius,
    /// Simple, brighter mid tones.
    Reinhard,
}

impl ToneMap {
    /// The chain that is usual with ffmpeg: linear light, BT.709 primaries, the curve, BT.709 in limited range. `format`: what comes
    /// out.
    pub fn filters(self, format: &str) -> Vec<Filter> {
        let named = |filter: &str, arguments: &[(&str, &str)]| {
            let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Filter::Named(Named { filter: filter.into(), arguments })
        };
        vec![
            named("zscale", &[("transfer", "linear"), ("npl", "100")]),
            Filter::Format(vec!["gbrpf32le".into()]),
            named("zscale", &[("primaries", "bt709")]),
            named("tonemap", &[("tonemap", self.name()), ("desat", "0")]),
            named("zscale", &[("transfer", "bt709"), ("matrix", "bt709"), ("range", "limited")]),
            Filter::Format(vec![format.into()]),
        ]
    }
}

/// A still picture over the film, such as a logo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// URI of a PNG, JPEG, WebP or other still picture.
    pub image: String,
    #[serde(default)]
    pub at: Place,
    /// 1 to 100.
    pub opacity_percent: u8,
    /// Shown from here on, counted from the source's start. `None`: from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Span>,
    /// Shown until here. `None`: to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Span>,
}

/// A corner and the distance from it, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    pub corner: Corner,
    pub x: u32,
    pub y: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corner {
    #[default]
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
    /// The distances are from the middle, to the right and down.
    Center,
}

impl Place {
    /// As libavfilter's `overlay` computes them: x and y.
    pub fn expressions(self) -> (String, String) {
        let Place { corner, x, y } = self;
        let (left, top) = (x.to_string(), y.to_string());
        let (right, bottom) = (format!("main_w-overlay_w-{x}"), format!("main_h-overlay_h-{y}"));
        match corner {
            Corner::TopLeft => (left, top),
            Corner::TopRight => (right, top),
            Corner::BottomLeft => (left, bottom),
            Corner::BottomRight => (right, bottom),
            Corner::Center => (format!("(main_w-overlay_w)/2+{x}"), format!("(main_h-overlay_h)/2+{y}")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.corner, self.x, self.y)
    }
}

impl FromStr for Place {
    type Err = ParseError;

    /// `top-right`, `top-right:16:16`, or `16:16` from the top left.
    fn from_str(text: &str) -> Result<Place, ParseError> {
        let bad = || {
            let why = "expected X:Y from the top left, or a corner (top-left, top-right, bottom-left, bottom-right, center) and \
                       its distance: top-right:16:16";
            ParseError::new("a place", text, why)
        };
        let pixels =
            |text: &str| text.parse::<u32>().ok().filter(|n| *n <= 16_384 && !text.starts_with('+')).ok_or_else(bad);
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [x, y] => Ok(Place { corner: Corner::TopLeft, x: pixels(x)?, y: pixels(y)? }),
            [corner] => Ok(Place { corner: corner.parse().map_err(|_| bad())?, x: 0, y: 0 }),
            [corner, x, y] => Ok(Place { corner: corner.parse().map_err(|_| bad())?, x: pixels(x)?, y: pixels(y)? }),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_what_they_print() {
        for (text, printed) in [
            ("16:9", "top-left:16:9"),
            ("bottom-right", "bottom-right:0:0"),
            ("top-right:16:12", "top-right:16:12"),
            ("center:0:40", "center:0:40"),
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(place.to_string(), printed);
            assert_eq!(printed.parse::<Place>(), Ok(place));
        }
        for text in ["", "16", "middle", "left:1:2", "1:2:3", "-1:2", "top-left:1", "1:+2", "99999:0"] {
            assert!(text.parse::<Place>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn every_step_of_a_tone_map_is_in_the_table() {
        for curve in ToneMap::ALL {
            for filter in curve.filters("yuv420p") {
                if let Filter::Named(named) = filter {
                    assert!(named.step().is_ok(), "{named}");
                }
            }
        }
    }
}
