//! libav's numbers to names and back.

use std::ffi::{CStr, CString};

use ffmpeg_next::ffi;

use super::libc_types::{c_char, c_int};

// libav's own declarations take enums; declared here with the int they are in C, so that a number from a bitstream is never made
// into a Rust enum that has no such value.
unsafe extern "C" {
    fn av_get_pix_fmt_name(format: c_int) -> *const c_char;
    fn av_get_pix_fmt(name: *const c_char) -> c_int;
    fn av_get_sample_fmt_name(format: c_int) -> *const c_char;
    fn av_color_range_name(value: c_int) -> *const c_char;
    fn av_color_primaries_name(value: c_int) -> *const c_char;
    fn av_color_transfer_name(value: c_int) -> *const c_char;
    fn av_color_space_name(value: c_int) -> *const c_char;
    fn avcodec_profile_name(codec: c_int, profile: c_int) -> *const c_char;
    fn avcodec_get_name(codec: c_int) -> *const c_char;
}

/// Copies a static or long-lived C string. `None` for null.
///
/// # Safety
/// `text` is null or ends with 0.
pub(crate) unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller promises the end.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

macro_rules! name_of {
    ($(#[$doc:meta])* $name:ident, $function:ident) => {
        $(#[$doc])*
        pub fn $name(value: i32) -> Option<String> {
            // SAFETY: libav checks the number's range and answers null or a static string.
            unsafe { owned($function(value)) }
        }
    };
}

name_of!(
    /// `yuv420p`.
    pixel_format, av_get_pix_fmt_name);
name_of!(
    /// `fltp`.
    sample_format, av_get_sample_fmt_name);
name_of!(color_range, av_color_range_name);
name_of!(color_primaries, av_color_primaries_name);
name_of!(color_transfer, av_color_transfer_name);
name_of!(color_space, av_color_space_name);

/// The number of a pixel format's name.
pub fn pixel_format_number(name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string that outlives the call; the answer is -1 for unknown names.
    let number = unsafe { av_get_pix_fmt(name.as_ptr()) };
    (number >= 0).then_some(number)
}

/// libav's name of a codec number: `h264`.
pub(crate) fn codec(id: c_int) -> String {
    // SAFETY: libav answers a static string for any number.
    unsafe { owned(avcodec_get_name(id)) }.unwrap_or_default()
}

/// `High`, `Main 10`, …
pub(crate) fn profile(codec: c_int, profile: c_int) -> Option<String> {
    // SAFETY: libav answers null or a static string.
    unsafe { owned(avcodec_profile_name(codec, profile)) }
}

/// ffprobe's words for `AVFieldOrder`.
pub fn field_order(value: i32) -> Option<&'static str> {
    Some(match value {
        1 => "progressive",
        2 => "tt",
        3 => "bb",
        4 => "tb",
        5 => "bt",
        _ => return None,
    })
}

/// Names of the bits of a stream's disposition, in libav's order.
pub fn dispositions(bits: i32) -> Vec<String> {
    (0..31)
        .map(|bit| 1 << bit)
        .filter(|bit| bits & bit != 0)
        .filter_map(|bit| {
            // SAFETY: libav answers null for bits it does not know, else a static string.
            unsafe { owned(ffi::av_disposition_to_string(bit)) }
        })
        .collect()
}

/// `stereo`, `5.1(side)`; where only a number is known, `3 channels`.
pub fn channel_layout(mask: u64, channels: i32) -> String {
    // SAFETY: an all-zero layout is a valid empty one; it is filled, described and emptied by libav's own functions.
    unsafe {
        let mut layout: ffi::AVChannelLayout = std::mem::zeroed();
        super::parameters::set_layout(&raw mut layout, channels, mask);
        let name = super::parameters::describe_layout(&raw const layout);
        ffi::av_channel_layout_uninit(&raw mut layout);
        name
    }
}

/// Whether a codec's pictures stand alone (`ProRes`, `MJPEG`, …): the `AV_CODEC_PROP_INTRA_ONLY` of its descriptor.
pub fn is_intra_only(codec: &str) -> bool {
    let Ok(name) = CString::new(codec) else { return false };
    // SAFETY: a C string that outlives the call; the answer is null or static.
    unsafe {
        let descriptor = ffi::avcodec_descriptor_get_by_name(name.as_ptr());
        !descriptor.is_null() && (*descriptor).props & ffi::AV_CODEC_PROP_INTRA_ONLY != 0
    }
}

/// Whether a subtitle codec carries text (else pictures).
pub fn is_text_subtitle(codec: &str) -> bool {
    let Ok(name) = CString::new(codec) else { return false };
    // SAFETY: a C string that outlives the call; the answer is null or static.
    unsafe {
        let descriptor = ffi::avcodec_descriptor_get_by_name(name.as_ptr());
        !descriptor.is_null() && (*descriptor).props & ffi::AV_CODEC_PROP_TEXT_SUB != 0
    }
}

/// Whether a pixel format has an alpha channel, its chroma subsampling as shifts, and bits per component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelShape {
    pub alpha: bool,
    pub log2_chroma_width: u8,
    pub log2_chroma_height: u8,
    pub depth: i32,
}

pub fn pixel_shape(format: i32) -> Option<PixelShape> {
    unsafe extern "C" {
        fn av_pix_fmt_desc_get(format: c_int) -> *const ffi::AVPixFmtDescriptor;
    }
    // SAFETY: libav checks the range; the answer is null or static.
    unsafe {
        let descriptor = av_pix_fmt_desc_get(format);
        if descriptor.is_null() {
            return None;
        }
        Some(PixelShape {
            alpha: (*descriptor).flags & u64::from(ffi::AV_PIX_FMT_FLAG_ALPHA.unsigned_abs()) != 0,
            log2_chroma_width: (*descriptor).log2_chroma_w,
            log2_chroma_height: (*descriptor).log2_chroma_h,
            depth: (*descriptor).comp[0].depth,
        })
    }
}
