//! Small real encodes that prove a backend usable: linked is not the same as working.

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Rational, VideoCodec};

use crate::av::codec::{Decoder, Received};
use crate::av::encoder::{Encoder, VideoSetup};
use crate::av::frame::{Colors, Frame};
use crate::av::packet::Packet;
use crate::av::{AvError, log, names};
use crate::params::encoder_name;
use crate::piece::Parameters;

const SIDE: i32 = 128;
const FRAMES: i64 = 5;
/// Mean difference of luma after coding that a working codec stays under at these settings. Of 255.
const ERROR_MAX: u64 = 12;

const BACKENDS: [(&str, VideoCodec); 4] = [
    ("cpu/libx264", VideoCodec::Libx264),
    ("cpu/libx265", VideoCodec::Libx265),
    ("cpu/libsvtav1", VideoCodec::Libsvtav1),
    ("cpu/libvpx-vp9", VideoCodec::LibvpxVp9),
];

/// Every backend Spool knows, usable here or not.
pub fn backends() -> Vec<&'static str> {
    BACKENDS.iter().map(|(name, _)| *name).collect()
}

/// Encodes a few pictures, decodes them, and compares.
///
/// # Errors
/// Class host: `no_backend` (unknown name), `no_encoder`, or `golden_failed` with what went wrong.
pub fn golden(backend: &str) -> Result<(), Failure> {
    log::init();
    let Some((_, codec)) = BACKENDS.iter().find(|(name, _)| *name == backend) else {
        let message = format!("there is no backend {backend}; there are {}", backends().join(", "));
        return Err(Failure::new(Class::Host, "no_backend", message));
    };
    let failed = |error: AvError| error.failure(Class::Host, "golden_failed", format_args!("trying {backend}"));
    let format = names::pixel_format_number("yuv420p").ok_or_else(|| failed(AvError::INVALID))?;
    let setup = VideoSetup {
        width: SIDE,
        height: SIDE,
        format,
        time_base: Rational::new(1, 25),
        frame_rate: Rational::new(25, 1),
        sample_aspect_ratio: Rational::new(1, 1),
        // Unspecified throughout.
        colors: Colors { range: 0, primaries: 2, transfer: 2, space: 2, chroma_location: 0 },
        field_order: 1,
    };
    let encoder = Encoder::video(encoder_name(*codec), &setup, &fastest(*codec))?;
    let (parameters, packets) = encode(encoder, format).map_err(failed)?;
    let shown = decode(&parameters, &packets).map_err(failed)?;
    if shown.len() != usize::try_from(FRAMES).unwrap_or(0) {
        let message = format!("{backend} gave {} pictures for {FRAMES}", shown.len());
        return Err(Failure::new(Class::Host, "golden_failed", message));
    }
    for (number, pixels) in (0..FRAMES).zip(&shown) {
        let error = luma_error(&picture(number, format).and_then(|f| f.pixels()).map_err(failed)?, pixels);
        if error > ERROR_MAX {
            let message = format!("{backend} coded picture {number} wrongly: luma is off by {error} of 255 on average");
            return Err(Failure::new(Class::Host, "golden_failed", message));
        }
    }
    Ok(())
}

fn fastest(codec: VideoCodec) -> Vec<(&'static str, String)> {
    let options: &[(&'static str, &str)] = match codec {
        VideoCodec::Libx264 => &[("preset", "ultrafast"), ("crf", "18"), ("threads", "1")],
        VideoCodec::Libx265 => {
            &[("preset", "ultrafast"), ("crf", "18"), ("x265-params", "log-level=error:pools=none:frame-threads=1")]
        }
        VideoCodec::Libsvtav1 => &[("preset", "12"), ("crf", "20"), ("svtav1-params", "lp=1")],
        VideoCodec::LibvpxVp9 => {
            &[("deadline", "realtime"), ("cpu-used", "8"), ("crf", "10"), ("b", "0"), ("threads", "1")]
        }
    };
    options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// A gradient that moves.
fn picture(number: i64, format: i32) -> Result<Frame, AvError> {
    let mut frame = Frame::picture(SIDE, SIDE, format)?;
    let shift = usize::try_from(number).unwrap_or(0) * 4;
    let side = usize::try_from(SIDE).unwrap_or(0);
    let byte = |value: usize| u8::try_from(value % 220 + 16).unwrap_or(16);
    frame.paint(0, side, |row, bytes| {
        for (column, pixel) in bytes.iter_mut().enumerate() {
            *pixel = byte((row + column + shift) / 2);
        }
    })?;
    for plane in [1, 2] {
        frame.paint(plane, side / 2, |_, bytes| bytes.fill(128))?;
    }
    frame.set_pts(Some(number));
    Ok(frame)
}

type Coded = (Parameters, Vec<Packet>);

fn encode(mut encoder: Encoder, format: i32) -> Result<Coded, AvError> {
    let parameters = encoder.parameters()?;
    let mut packets = Vec::new();
    for number in 0..=FRAMES {
        let frame = if number < FRAMES { Some(picture(number, format)?) } else { None };
        encoder.send(frame.as_ref())?;
        let mut packet = Packet::new()?;
        while encoder.receive(&mut packet)? == Received::One {
            packets.push(std::mem::replace(&mut packet, Packet::new()?));
        }
    }
    Ok((parameters, packets))
}

fn decode(parameters: &Parameters, packets: &[Packet]) -> Result<Vec<Vec<u8>>, AvError> {
    let mut decoder = Decoder::for_parameters(parameters, 1)?;
    let mut frame = Frame::new()?;
    let mut shown = Vec::new();
    for packet in packets.iter().map(Some).chain([None]) {
        decoder.send(packet)?;
        while decoder.receive(&mut frame)? == Received::One {
            shown.push(frame.pixels()?);
        }
    }
    Ok(shown)
}

/// Mean absolute difference of the luma plane.
fn luma_error(expected: &[u8], found: &[u8]) -> u64 {
    let side = u64::from(SIDE.unsigned_abs());
    let luma = usize::try_from(side * side).unwrap_or(0);
    let (Some(expected), Some(found)) = (expected.get(..luma), found.get(..luma)) else { return u64::MAX };
    expected.iter().zip(found).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() / (side * side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_of_a_debian_machine_works() {
        for backend in backends() {
            let start = std::time::Instant::now();
            golden(backend).unwrap();
            assert!(start.elapsed().as_secs() < 5, "{backend} took {:?}", start.elapsed());
        }
    }

    #[test]
    fn an_unknown_backend_is_named_in_the_failure() {
        let failure = golden("gpu/none").unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "no_backend"));
        assert!(failure.message.contains("cpu/libx264"), "{failure}");
    }

    #[test]
    fn a_wrong_picture_is_seen() {
        let format = names::pixel_format_number("yuv420p").unwrap();
        let pixels = picture(0, format).unwrap().pixels().unwrap();
        assert_eq!(luma_error(&pixels, &pixels), 0);
        assert!(luma_error(&pixels, &vec![128; pixels.len()]) > ERROR_MAX);
    }
}
