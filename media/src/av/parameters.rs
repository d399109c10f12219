//! Codec parameters between libav and [`piece::Parameters`](crate::piece::Parameters).

use std::ffi::CString;

use ffmpeg_next::ffi;
use spool_proto::spec::Rational;

use super::libc_types::{c_char, c_int};
use super::names::owned;
use super::{AvError, av_rational, length, number, rational, set_number};
use crate::piece::{Kind, Parameters};

/// Name of a layout as libav's filters take it; empty when libav cannot say.
///
/// # Safety
/// `layout` points to a valid layout.
pub(crate) unsafe fn describe_layout(layout: *const ffi::AVChannelLayout) -> String {
    let mut text: [c_char; 256] = [0; 256];
    // SAFETY: the caller's layout; the buffer's length is given, and libav ends the text inside it.
    unsafe {
        if ffi::av_channel_layout_describe(layout, text.as_mut_ptr(), text.len()) < 0 {
            return String::new();
        }
        owned(text.as_ptr()).unwrap_or_default()
    }
}

/// libav's parameters as plain values. `None` for streams that are neither video, audio nor subtitles.
///
/// # Safety
/// `raw` points to valid parameters.
pub(crate) unsafe fn read(
    raw: *const ffi::AVCodecParameters,
    time_base: Rational,
    frame_rate: Rational,
    side_data: Vec<(i32, Vec<u8>)>,
) -> Option<Parameters> {
    // SAFETY: the caller's parameters; enum fields are read as ints; extradata has its own length.
    unsafe {
        let kind = match number(&raw const (*raw).codec_type) {
            0 => Kind::Video {
                width: (*raw).width,
                height: (*raw).height,
                format: (*raw).format,
                sample_aspect_ratio: rational((*raw).sample_aspect_ratio),
                frame_rate,
                field_order: number(&raw const (*raw).field_order),
                color_range: number(&raw const (*raw).color_range),
                color_primaries: number(&raw const (*raw).color_primaries),
                color_transfer: number(&raw const (*raw).color_trc),
                color_space: number(&raw const (*raw).color_space),
                chroma_location: number(&raw const (*raw).chroma_location),
                video_delay: (*raw).video_delay,
            },
            1 => Kind::Audio {
                sample_rate: (*raw).sample_rate,
                channels: (*raw).ch_layout.nb_channels,
                layout: layout_mask(&raw const (*raw).ch_layout),
                format: (*raw).format,
                frame_size: (*raw).frame_size,
                block_align: (*raw).block_align,
                bits_per_coded_sample: (*raw).bits_per_coded_sample,
                bits_per_raw_sample: (*raw).bits_per_raw_sample,
                initial_padding: (*raw).initial_padding,
                trailing_padding: (*raw).trailing_padding,
                seek_preroll: (*raw).seek_preroll,
            },
            3 => Kind::Subtitle,
            _ => return None,
        };
        Some(Parameters {
            codec: super::names::codec(number(&raw const (*raw).codec_id)),
            codec_tag: (*raw).codec_tag,
            extradata: extradata(raw),
            time_base,
            bit_rate: (*raw).bit_rate,
            profile: (*raw).profile,
            level: (*raw).level,
            kind,
            side_data,
        })
    }
}

/// # Safety
/// `raw` points to valid parameters.
pub(crate) unsafe fn extradata(raw: *const ffi::AVCodecParameters) -> Vec<u8> {
    // SAFETY: libav keeps extradata_size readable bytes at extradata.
    unsafe {
        match usize::try_from((*raw).extradata_size) {
            Ok(size) if size > 0 && !(*raw).extradata.is_null() => {
                std::slice::from_raw_parts((*raw).extradata, size).to_vec()
            }
            _ => Vec::new(),
        }
    }
}

/// The mask of a native layout, 0 for the others.
///
/// # Safety
/// `layout` points to a valid layout.
pub(crate) unsafe fn layout_mask(layout: *const ffi::AVChannelLayout) -> u64 {
    // SAFETY: order 1 is NATIVE, for which the union holds a mask.
    unsafe { if number(&raw const (*layout).order) == 1 { (*layout).u.mask } else { 0 } }
}

/// Fills libav's parameters. The other way round of [`read`].
///
/// # Errors
/// A codec name libav does not know (`INVALID`), or no memory.
///
/// # Safety
/// `raw` points to valid parameters that nobody else uses.
pub(crate) unsafe fn write(from: &Parameters, raw: *mut ffi::AVCodecParameters) -> Result<(), AvError> {
    let name = CString::new(from.codec.as_str()).map_err(|_| AvError::INVALID)?;
    // SAFETY: the caller's parameters; each enum field takes a number that libav itself once gave; extradata is allocated with
    // libav's allocator and zero padding, as it demands.
    unsafe {
        let descriptor = ffi::avcodec_descriptor_get_by_name(name.as_ptr());
        if descriptor.is_null() {
            return Err(AvError::INVALID);
        }
        set_number(&raw mut (*raw).codec_id, number(&raw const (*descriptor).id));
        (*raw).codec_tag = from.codec_tag;
        (*raw).bit_rate = from.bit_rate;
        (*raw).profile = from.profile;
        (*raw).level = from.level;
        set_extradata(raw, &from.extradata)?;
        match &from.kind {
            Kind::Video {
                width,
                height,
                format,
                sample_aspect_ratio,
                frame_rate: _,
                field_order,
                color_range,
                color_primaries,
                color_transfer,
                color_space,
                chroma_location,
                video_delay,
            } => {
                set_number(&raw mut (*raw).codec_type, 0);
                (*raw).width = *width;
                (*raw).height = *height;
                (*raw).format = *format;
                (*raw).sample_aspect_ratio = av_rational(*sample_aspect_ratio);
                set_number(&raw mut (*raw).field_order, *field_order);
                set_number(&raw mut (*raw).color_range, *color_range);
                set_number(&raw mut (*raw).color_primaries, *color_primaries);
                set_number(&raw mut (*raw).color_trc, *color_transfer);
                set_number(&raw mut (*raw).color_space, *color_space);
                set_number(&raw mut (*raw).chroma_location, *chroma_location);
                (*raw).video_delay = *video_delay;
            }
            Kind::Audio {
                sample_rate,
                channels,
                layout,
                format,
                frame_size,
                block_align,
                bits_per_coded_sample,
                bits_per_raw_sample,
                initial_padding,
                trailing_padding,
                seek_preroll,
            } => {
                set_number(&raw mut (*raw).codec_type, 1);
                (*raw).sample_rate = *sample_rate;
                set_layout(&raw mut (*raw).ch_layout, *channels, *layout);
                (*raw).format = *format;
                (*raw).frame_size = *frame_size;
                (*raw).block_align = *block_align;
                (*raw).bits_per_coded_sample = *bits_per_coded_sample;
                (*raw).bits_per_raw_sample = *bits_per_raw_sample;
                (*raw).initial_padding = *initial_padding;
                (*raw).trailing_padding = *trailing_padding;
                (*raw).seek_preroll = *seek_preroll;
            }
            Kind::Subtitle => set_number(&raw mut (*raw).codec_type, 3),
        }
    }
    Ok(())
}

/// Fills libav's parameters for an attached file, whose bytes are the extradata.
///
/// # Errors
/// No memory, or more bytes than libav counts.
///
/// # Safety
/// `raw` points to valid parameters that nobody else uses.
pub(crate) unsafe fn write_attachment(
    codec: ffi::AVCodecID,
    bytes: &[u8],
    raw: *mut ffi::AVCodecParameters,
) -> Result<(), AvError> {
    const ATTACHMENT: c_int = 4;
    // SAFETY: the caller's parameters.
    unsafe {
        (*raw).codec_id = codec;
        set_number(&raw mut (*raw).codec_type, ATTACHMENT);
        set_extradata(raw, bytes)
    }
}

/// A native layout by its mask, else just that many channels.
///
/// # Safety
/// `layout` points to a valid layout, ours alone.
pub(crate) unsafe fn set_layout(layout: *mut ffi::AVChannelLayout, channels: c_int, mask: u64) {
    // SAFETY: the layout is emptied and filled by libav's own functions; an unknown mask (negative answer) leaves it empty.
    unsafe {
        ffi::av_channel_layout_uninit(layout);
        if mask == 0 || ffi::av_channel_layout_from_mask(layout, mask) < 0 {
            set_number(&raw mut (*layout).order, 0);
            (*layout).nb_channels = channels;
        }
    }
}

unsafe fn set_extradata(raw: *mut ffi::AVCodecParameters, bytes: &[u8]) -> Result<(), AvError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let size = length(bytes.len())?;
    // SAFETY: valid parameters of the caller's; an old buffer is freed by libav's allocator, the new one is zeroed and longer than
    // the bytes by libav's padding.
    unsafe {
        let padding = usize::try_from(ffi::AV_INPUT_BUFFER_PADDING_SIZE).unwrap_or(64);
        ffi::av_freep((&raw mut (*raw).extradata).cast());
        let place = ffi::av_mallocz(bytes.len() + padding).cast::<u8>();
        if place.is_null() {
            return Err(AvError::NO_MEMORY);
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        (*raw).extradata = place;
        (*raw).extradata_size = size;
    }
    Ok(())
}
