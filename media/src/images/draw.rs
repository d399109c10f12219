//! From a decoded picture to the bytes of an image file.

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{ImageFormat, Rational};

use crate::av::AvError;
use crate::av::codec::Received;
use crate::av::encoder::{Encoder, VideoSetup};
use crate::av::frame::{Frame, Picture};
use crate::av::graph::{Feed, Graph, Step};
use crate::av::names;
use crate::av::packet::Packet;
use crate::graph::{rotation, rotation_degrees};

/// Pixels, square ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// What a picture does not carry itself.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub time_base: Rational,
    /// The container's display matrix, for pictures without their own.
    pub matrix: Option<[i32; 9]>,
}

/// How a picture is shown: with square pixels, turned.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    width: f64,
    height: f64,
}

impl Shape {
    pub fn of(frame: &Frame, look: &Look) -> Shape {
        let ratio = frame.sample_aspect_ratio();
        let stretch = if ratio.num > 0 && ratio.den > 0 { ratio.as_f64() } else { 1.0 };
        let (width, height) = (f64::from(frame.width()) * stretch, f64::from(frame.height()));
        let degrees = frame.picture_shape().matrix.or(look.matrix).map_or(0.0, |matrix| rotation_degrees(&matrix));
        let upright = (degrees - 90.0).abs() < 1.0 || (degrees - 270.0).abs() < 1.0;
        if upright { Shape { width: height, height: width } } else { Shape { width, height } }
    }

    /// As wide as asked, but no wider than the film; both sides even, as JPEG's and WebP's chroma wants them.
    pub fn scaled(self, width: Option<u32>) -> Size {
        let wide = width.map_or(self.width, |asked| f64::from(asked).min(self.width));
        let high = self.height * wide / self.width.max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded by libav's limits of pictures"
        )]
        let even = |side: f64| ((side / 2.0).round() as u32 * 2).clamp(2, 16_384);
        Size { width: even(wide), height: even(high) }
    }
}

/// Turns, stretches, scales and converts pictures.
#[derive(Debug)]
pub struct Painter {
    size: Size,
    full_range: bool,
    graph: Option<(Picture, Graph)>,
    out: Option<Frame>,
}

/// libav's number of BT.709's matrix, and of none told.
const BT709: i32 = 1;
const UNTOLD: i32 = 2;
/// Lines beyond which an untold matrix is BT.709, as players have it.
const SD_LINES: i32 = 576;

impl Painter {
    /// `full_range`: luma from 0 to 255, as JPEG has it, not from 16 to 235.
    pub fn new(size: Size, full_range: bool) -> Painter {
        Painter { size, full_range, graph: None, out: None }
    }

    /// `pixels`: the format to come, by libav's name.
    ///
    /// # Errors
    /// `filter_refused` (class spec), `filter_failed` (class internal).
    pub fn paint(&mut self, frame: &Frame, look: &Look, pixels: &str) -> Result<&Frame, Failure> {
        let shape = frame.picture_shape();
        if self.graph.as_ref().is_none_or(|(of, _)| *of != shape) {
            let graph = self.build(frame, look, pixels)?;
            self.graph = Some((shape, graph));
        }
        let failed = |error: AvError| {
            error.failure(Class::Internal, "filter_failed", "a picture could not be scaled to its image")
        };
        let mut out = Frame::new().map_err(failed)?;
        if let Some((_, graph)) = &mut self.graph {
            graph.push(Some(frame)).map_err(failed)?;
            if graph.pull(&mut out).map_err(failed)? != Received::One {
                return Err(failed(AvError::AGAIN));
            }
        }
        Ok(self.out.insert(out))
    }

    fn build(&self, frame: &Frame, look: &Look, pixels: &str) -> Result<Graph, Failure> {
        let shape = frame.picture_shape();
        let feed = Feed::Video {
            width: shape.width,
            height: shape.height,
            format: shape.format,
            time_base: look.time_base,
            sample_aspect_ratio: frame.sample_aspect_ratio(),
            frame_rate: None,
        };
        let mut steps = shape.matrix.or(look.matrix).map_or(Vec::new(), |matrix| rotation(&matrix));
        // Images are BT.601: JPEG by JFIF, with full range; WebP with video's range.
        let range = if self.full_range { "pc" } else { "tv" };
        let space = frame.colors().space;
        let from = match space {
            UNTOLD if shape.height > SD_LINES => "bt709",
            BT709 => "bt709",
            _ => "auto",
        };
        let Size { width, height } = self.size;
        steps.push(Step::new(
            "scale",
            format!("{width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int:in_color_matrix={from}:out_color_matrix=bt601:out_range={range}"),
        ));
        steps.push(Step::new("format", format!("pix_fmts={pixels}")));
        steps.push(Step::new("setsar", "1"));
        Graph::new(&feed, &steps, 1)
    }
}

/// Writes image files of one size.
#[derive(Debug)]
pub struct Pen {
    encoder: Encoder,
    format: ImageFormat,
    drawn: i64,
}

fn pixels_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg | ImageFormat::Webp => "yuv420p",
        ImageFormat::Png => "rgb24",
    }
}

impl Pen {
    /// # Errors
    /// `no_encoder` (class host), `encoder_refused` (class spec).
    pub fn new(format: ImageFormat, quality: u8, size: Size) -> Result<Pen, Failure> {
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        let setup = VideoSetup {
            width: side(size.width),
            height: side(size.height),
            format: names::pixel_format_number(pixels_of(format)).unwrap_or(-1),
            time_base: Rational::new(1, 25),
            frame_rate: Rational::new(25, 1),
            sample_aspect_ratio: Rational::new(1, 1),
            colors: crate::av::frame::Colors {
                range: if format == ImageFormat::Jpeg { 2 } else { 1 },
                primaries: UNTOLD,
                transfer: UNTOLD,
                space: UNTOLD,
                chroma_location: 0,
            },
            field_order: 1,
        };
        let (name, options) = match format {
            ImageFormat::Jpeg => {
                let quantizer = jpeg_quantizer(quality).to_string();
                // Optimal tables need to see the whole picture, which is there.
                ("mjpeg", vec![("qmin", quantizer.clone()), ("qmax", quantizer), ("huffman", "optimal".into())])
            }
            ImageFormat::Png => ("png", vec![("pred", "mixed".into())]),
            ImageFormat::Webp => ("libwebp", vec![("quality", quality.to_string())]),
        };
        let options: Vec<(&str, String)> = options.into_iter().chain([("threads", "1".to_owned())]).collect();
        Ok(Pen { encoder: Encoder::video(name, &setup, &options)?, format, drawn: 0 })
    }

    /// Whether the pictures it takes have full range.
    pub fn full_range(&self) -> bool {
        self.format == ImageFormat::Jpeg
    }

    /// Format of the pictures it takes, by libav's name.
    pub fn pixels(&self) -> &'static str {
        pixels_of(self.format)
    }

    /// The file of one picture.
    ///
    /// # Errors
    /// `encode_failed` (class internal).
    pub fn draw(&mut self, picture: &Frame) -> Result<Vec<u8>, Failure> {
        let failed = |error: AvError| error.failure(Class::Internal, "encode_failed", "a picture could not be coded");
        let mut frame = picture.share().map_err(failed)?;
        frame.set_pts(Some(self.drawn));
        frame.set_picture_type(true);
        self.drawn += 1;
        self.encoder.send(Some(&frame)).map_err(failed)?;
        let mut packet = Packet::new().map_err(failed)?;
        match self.encoder.receive(&mut packet).map_err(failed)? {
            Received::One => Ok(packet.data().to_vec()),
            Received::Again | Received::End => Err(failed(AvError::AGAIN)),
        }
    }
}

/// libav's quantizers go from 1 (best) to 31.
fn jpeg_quantizer(quality: u8) -> u32 {
    31 - (u32::from(quality.clamp(1, 100)) - 1) * 30 / 99
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_aspect_and_are_never_enlarged() {
        let shape = Shape { width: 1920.0, height: 1080.0 };
        assert_eq!(shape.scaled(Some(320)), Size { width: 320, height: 180 });
        assert_eq!(shape.scaled(Some(4000)), Size { width: 1920, height: 1080 });
        assert_eq!(shape.scaled(None), Size { width: 1920, height: 1080 });
        assert_eq!(Shape { width: 3.0, height: 4000.0 }.scaled(Some(16)), Size { width: 4, height: 4000 });
    }

    #[test]
    fn quality_is_from_the_worst_quantizer_to_the_best() {
        assert_eq!((jpeg_quantizer(1), jpeg_quantizer(90), jpeg_quantizer(100)), (31, 5, 1));
    }
}
