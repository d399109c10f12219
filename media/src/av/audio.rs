//! What ffmpeg asks of libav about sound besides coding it.

use ffmpeg_next::ffi;
use spool_proto::spec::Rational;

use super::frame::Frame;
use super::input::Input;
use super::libc_types::c_int;
use super::{AvError, NO_PTS, av_rational, number, timestamp};

/// `av_rescale_delta`: brings timestamps of a coarse clock into a fine one, counting on in samples while the coarse clock agrees
/// within its own precision. `last` is its memory between calls; `None` starts anew.
pub fn rescale_delta(
    from: Rational,
    ts: i64,
    sample: Rational,
    samples: i32,
    last: &mut Option<i64>,
    to: Rational,
) -> i64 {
    let mut memory = last.unwrap_or(NO_PTS);
    // SAFETY: numbers in, numbers out; `memory` is ours. libav asserts a known `ts` and a positive timebase.
    let scaled = unsafe {
        ffi::av_rescale_delta(av_rational(from), ts, av_rational(sample), samples, &raw mut memory, av_rational(to))
    };
    *last = timestamp(memory);
    scaled
}

/// Samples a coded packet of this many bytes holds, where its codec tells; else 0.
pub fn packet_samples(input: &Input, stream: usize, bytes: usize) -> i32 {
    let (Some(raw), Ok(bytes)) = (input.raw_stream(stream), c_int::try_from(bytes)) else { return 0 };
    // SAFETY: the stream is the input's and alive; the call only reads its parameters.
    unsafe { ffi::av_get_audio_frame_duration2((*raw).codecpar, bytes) }.max(0)
}

/// Gives a frame whose channels have no known places the usual ones for their number, as ffmpeg guesses.
pub fn guess_layout(frame: &mut Frame) {
    // SAFETY: a valid frame, ours alone; its layout is emptied and filled by libav's own functions. Order 0 is UNSPEC.
    unsafe {
        let layout = &raw mut (*frame.as_ptr()).ch_layout;
        let channels = (*layout).nb_channels;
        if number(&raw const (*layout).order) == 0 && channels > 0 {
            ffi::av_channel_layout_uninit(layout);
            ffi::av_channel_layout_default(layout, channels);
            (*frame.as_ptr()).channel_layout = super::parameters::layout_mask(layout);
        }
    }
}

/// The usual layout of so many channels, as a mask; 0 where there is none.
pub fn default_layout(channels: i32) -> u64 {
    // SAFETY: an empty layout of ours, filled, read and emptied by libav's own functions.
    unsafe {
        let mut layout: ffi::AVChannelLayout = std::mem::zeroed();
        ffi::av_channel_layout_default(&raw mut layout, channels);
        let mask = super::parameters::layout_mask(&raw const layout);
        ffi::av_channel_layout_uninit(&raw mut layout);
        mask
    }
}

/// What a filter noted about a frame under this name.
pub fn tag(frame: &Frame, name: &str) -> Option<String> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a valid frame's own dictionary (null is an empty one) and a C string; the entry is copied before the frame changes.
    unsafe {
        let entry = ffi::av_dict_get((*frame.as_ptr()).metadata, name.as_ptr(), std::ptr::null(), 0);
        if entry.is_null() { None } else { super::names::owned((*entry).value) }
    }
}

/// A frame of packed doubles. `layout`: a mask, 0 where the channels have no known places.
pub fn of_doubles(rate: i32, layout: u64, channels: i32, values: &[f64]) -> Result<Frame, AvError> {
    let frame = Frame::new()?;
    let per_channel = values.len() / usize::try_from(channels).ok().filter(|n| *n > 0).ok_or(AvError::INVALID)?;
    // SAFETY: a fresh frame: libav sets its layout and allocates one plane of nb_samples * channels doubles, which is then filled within
    // that length.
    unsafe {
        let raw = frame.as_ptr();
        super::set_number(&raw mut (*raw).format, number(&raw const DOUBLES));
        (*raw).sample_rate = rate;
        (*raw).nb_samples = super::length(per_channel)?;
        let place = &raw mut (*raw).ch_layout;
        if layout == 0 || ffi::av_channel_layout_from_mask(place, layout) < 0 {
            (*place).nb_channels = channels;
        }
        (*raw).channel_layout = layout;
        AvError::check(ffi::av_frame_get_buffer(raw, 0))?;
        let count = per_channel * usize::try_from(channels).unwrap_or(0);
        std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), (*raw).data[0], count * size_of::<f64>());
    }
    Ok(frame)
}

/// The samples of a frame of packed doubles, interleaved; `None` of any other.
pub fn doubles(frame: &Frame) -> Option<&[f64]> {
    // SAFETY: a valid frame of packed doubles has nb_samples * channels of them in its first plane, which libav aligns for any type; they
    // live as long as the frame is borrowed.
    unsafe {
        let raw = frame.as_ptr();
        let count = usize::try_from(i64::from(frame.samples()) * i64::from(frame.channels())).ok()?;
        let data = (*raw).data[0].cast::<f64>();
        if frame.format() != number(&raw const DOUBLES) || data.is_null() || !data.is_aligned() {
            return None;
        }
        Some(std::slice::from_raw_parts(data, count))
    }
}

static DOUBLES: ffi::AVSampleFormat = ffi::AVSampleFormat::AV_SAMPLE_FMT_DBL;
