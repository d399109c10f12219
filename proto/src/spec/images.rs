//! Pictures taken from a film: a poster, thumbnails, sprite sheets with a WebVTT track.

use serde::{Deserialize, Serialize};

use super::check::SIDE_MAX;
use crate::failure::{Class, Failure};
use crate::time::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poster: Option<Poster>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnails: Option<Thumbnails>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sprites: Option<Sprites>,
    #[serde(default)]
    pub format: ImageFormat,
    /// 1 (small) to 100 (good). PNG is always lossless.
    #[serde(default = "quality")]
    pub quality: u8,
    /// The very picture shown at each time. False: the nearest keyframe where that is near enough, which is much faster.
    #[serde(default)]
    pub exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    #[default]
    Jpeg,
    Png,
    Webp,
}

impl ImageFormat {
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Png => "png",
            ImageFormat::Webp => "webp",
        }
    }
}

/// One picture for the whole film: `poster.jpg`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poster {
    /// The picture shown then. `None`: the most telling of some from all over the film, neither dark nor blurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// `None`: as wide as the film is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
}

/// A picture every so often, each a file: `thumb-0001.jpg`, ….
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnails {
    pub every: Span,
    pub width: u32,
}

/// Small pictures side by side in sheets (`sprite-001.jpg`, …), and `sprite.vtt`, which says what is where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sprites {
    pub every: Span,
    pub columns: u16,
    pub rows: u16,
    /// Of one picture.
    pub width: u32,
}

pub const QUALITY_DEFAULT: u8 = 90;
/// Nearer than this, pictures are a film again.
pub const EVERY_MIN: Span = Span::from_millis(100);
/// Smallest side of a picture.
pub const IMAGE_SIDE_MIN: u32 = 16;
pub const GRID_MAX: u16 = 100;

fn quality() -> u8 {
    QUALITY_DEFAULT
}

impl ImageSpec {
    pub fn new() -> ImageSpec {
        ImageSpec {
            poster: None,
            thumbnails: None,
            sprites: None,
            format: ImageFormat::default(),
            quality: QUALITY_DEFAULT,
            exact: false,
        }
    }

    /// Judges all that can be judged without the source.
    ///
    /// # Errors
    /// The first problem found, class `spec`: `option_refused`, `options_conflict`.
    pub fn check(&self) -> Result<(), Failure> {
        let refused = |message: String| Err(Failure::new(Class::Spec, "option_refused", message));
        if self.poster.is_none() && self.thumbnails.is_none() && self.sprites.is_none() {
            let message = "no pictures are asked for: give --poster, --thumbnails 10s or --sprite 5x5";
            return Err(Failure::new(Class::Spec, "options_conflict", message));
        }
        if !(1..=100).contains(&self.quality) {
            return refused(format!("--quality {}: it goes from 1 to 100", self.quality));
        }
        let widths = [
            self.poster.as_ref().and_then(|poster| poster.width),
            self.thumbnails.as_ref().map(|thumbnails| thumbnails.width),
            self.sprites.as_ref().map(|sprites| sprites.width),
        ];
        if let Some(width) = widths.into_iter().flatten().find(|width| !(IMAGE_SIDE_MIN..=SIDE_MAX).contains(width)) {
            return refused(format!("--width {width}: pictures are {IMAGE_SIDE_MIN} to {SIDE_MAX} pixels wide"));
        }
        let times = [self.thumbnails.as_ref().map(|t| t.every), self.sprites.as_ref().map(|s| s.every)];
        if times.into_iter().flatten().any(|every| every < EVERY_MIN) {
            return refused("--thumbnails, --sprite-every: pictures are at least 100ms apart".into());
        }
        if let Some(Sprites { columns, rows, width, .. }) = self.sprites {
            if !(1..=GRID_MAX).contains(&columns) || !(1..=GRID_MAX).contains(&rows) {
                return refused(format!("--sprite {columns}x{rows}: a sheet has 1 to {GRID_MAX} columns and rows"));
            }
            if u32::from(columns) * width > SIDE_MAX {
                return refused(format!(
                    "--sprite {columns}x{rows}: {columns} pictures of {width} pixels are wider than {SIDE_MAX}; take fewer \
                     columns or a smaller --width"
                ));
            }
        }
        Ok(())
    }
}

impl Default for ImageSpec {
    fn default() -> ImageSpec {
        ImageSpec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_refused_by_its_option() {
        let sprites = |every, columns, rows, width| ImageSpec {
            sprites: Some(Sprites { every, columns, rows, width }),
            ..ImageSpec::new()
        };
        let second = Span::from_secs(1);
        assert_eq!(sprites(second, 5, 5, 320).check(), Ok(()));
        for (spec, says) in [
            (ImageSpec::new(), "--poster"),
            (sprites(Span::from_millis(1), 5, 5, 320), "100ms"),
            (sprites(second, 0, 5, 320), "--sprite 0x5"),
            (sprites(second, 100, 5, 320), "wider than"),
            (sprites(second, 5, 5, 8), "--width 8"),
            (ImageSpec { quality: 0, ..sprites(second, 5, 5, 320) }, "--quality 0"),
        ] {
            let failure = spec.check().expect_err(says);
            assert!(failure.message.contains(says), "{failure}");
        }
    }
}
