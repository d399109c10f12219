//! Small safe owners over libav (FFmpeg 5.1). All `unsafe` and all ffi of Spool live in this folder.
//!
//! Rules kept here: an owner holds one libav object and frees it; nothing borrowed leaves an owner without a lifetime; enum
//! fields are read as the numbers they are, because bitstreams put values there that a Rust enum does not know; user
//! strings never reach a libav parser (filters are made one by one from known fields).
//!
//! Reading order: `error`, `names`, `dict`, `packet`, `frame`, `io`, `input`, `codec`, `encoder`, `graph`, `pair`.

pub mod audio;
pub mod codec;
pub mod dict;
pub mod encoder;
pub mod error;
pub mod frame;
pub mod graph;
pub mod input;
mod io;
pub mod log;
pub mod names;
pub mod output;
pub mod packet;
pub mod pair;
pub mod parameters;
mod sniff;
pub mod subtitle;

use ffmpeg_next::ffi;
use libc_types::c_int;
use spool_proto::spec::Rational;

/// C's types, by the names libav uses.
pub(crate) mod libc_types {
    pub use std::ffi::{c_char, c_int, c_void};
}

pub use codec::Received;
pub use error::AvError;
pub use input::Stream;

/// libav's "no timestamp".
pub const NO_PTS: i64 = ffi::AV_NOPTS_VALUE;

pub(crate) fn timestamp(value: i64) -> Option<i64> {
    (value != NO_PTS).then_some(value)
}

pub(crate) fn rational(value: ffi::AVRational) -> Rational {
    Rational::new(value.num, value.den)
}

/// As [`rational`], `None` for libav's ways of saying unknown (0/0, 0/1, 1/0).
pub(crate) fn known_rational(value: ffi::AVRational) -> Option<Rational> {
    (value.num > 0 && value.den > 0).then(|| rational(value))
}

pub(crate) fn av_rational(value: Rational) -> ffi::AVRational {
    ffi::AVRational { num: value.num, den: value.den }
}

/// Reads a libav enum field as a number.
///
/// # Safety
/// `field` must point to a readable C enum (four bytes).
pub(crate) unsafe fn number<T>(field: *const T) -> c_int {
    const { assert!(size_of::<T>() == size_of::<c_int>()) };
    // SAFETY: the caller's promise; C enums of libav have the size of int, checked above.
    unsafe { field.cast::<c_int>().read() }
}

/// Writes a number into a libav enum field, which only C will read.
///
/// # Safety
/// `field` must point to a writable C enum (four bytes).
pub(crate) unsafe fn set_number<T>(field: *mut T, value: c_int) {
    const { assert!(size_of::<T>() == size_of::<c_int>()) };
    // SAFETY: the caller's promise; C enums of libav have the size of int, checked above.
    unsafe { field.cast::<c_int>().write(value) }
}

/// A length as libav's functions take it.
///
/// # Errors
/// More than `c_int` holds: no such buffer is made here, so it is told as a failed allocation.
pub(crate) fn length(bytes: usize) -> Result<c_int, AvError> {
    c_int::try_from(bytes).map_err(|_| AvError::NO_MEMORY)
}

/// A side-data list of libav, copied.
///
/// # Safety
/// `list` must point to `count` valid entries, or `count` be 0.
pub(crate) unsafe fn side_data(list: *const ffi::AVPacketSideData, count: c_int) -> Vec<(i32, Vec<u8>)> {
    let count = usize::try_from(count).unwrap_or(0);
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: i < count, and each entry owns `size` bytes at `data`.
        unsafe {
            let entry = list.add(i);
            let bytes = if (*entry).data.is_null() || (*entry).size == 0 {
                Vec::new()
            } else {
                std::slice::from_raw_parts((*entry).data, (*entry).size).to_vec()
            };
            out.push((number(&raw const (*entry).type_), bytes));
        }
    }
    out
}

/// libav's `AV_TIME_BASE_Q`.
pub const MICROSECONDS: Rational = Rational::new(1, 1_000_000);

/// `av_rescale_q`: to the nearest, halves away from zero.
pub fn rescale(value: i64, from: Rational, to: Rational) -> i64 {
    // SAFETY: numbers in, number out.
    unsafe { ffi::av_rescale_q(value, av_rational(from), av_rational(to)) }
}

/// The libav libraries this process runs with, and their versions: (`libavcodec`, `59.37.100`), …
pub fn versions() -> Vec<(&'static str, String)> {
    // SAFETY: no arguments, a number each.
    let numbers = unsafe {
        [
            ("libavutil", ffi::avutil_version()),
            ("libavcodec", ffi::avcodec_version()),
            ("libavformat", ffi::avformat_version()),
            ("libavfilter", ffi::avfilter_version()),
            ("libswscale", ffi::swscale_version()),
        ]
    };
    numbers.map(|(name, v)| (name, format!("{}.{}.{}", v >> 16, v >> 8 & 255, v & 255))).to_vec()
}
