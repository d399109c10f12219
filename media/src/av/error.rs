//! libav's error numbers, and what they mean for the one who must act.

use std::fmt;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};

use super::libc_types::{c_char, c_int};

/// A negative answer of libav.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AvError(pub c_int);

// Numbers of errno(3) on Linux, which is where libav's negated ones come from.
const EIO: c_int = 5;
const EAGAIN: c_int = 11;
const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
const ENOSPC: c_int = 28;

impl AvError {
    pub const END: AvError = AvError(ffi::AVERROR_EOF);
    pub const AGAIN: AvError = AvError(ffi::AVERROR(EAGAIN));
    pub const NO_MEMORY: AvError = AvError(ffi::AVERROR(ENOMEM));
    pub const NO_SPACE: AvError = AvError(ffi::AVERROR(ENOSPC));
    pub const IO: AvError = AvError(ffi::AVERROR(EIO));
    pub const INVALID: AvError = AvError(ffi::AVERROR(EINVAL));
    pub const INVALID_DATA: AvError = AvError(ffi::AVERROR_INVALIDDATA);
    pub const DECODER_NOT_FOUND: AvError = AvError(ffi::AVERROR_DECODER_NOT_FOUND);

    /// libav's convention: negative is an error.
    pub fn check(answer: c_int) -> Result<c_int, AvError> {
        if answer < 0 { Err(AvError(answer)) } else { Ok(answer) }
    }

    /// The failure this is, where `class` and `code` say what it means unless it is the machine that failed. `what` says what
    /// was tried, on which stream, and what to do.
    pub fn failure(self, class: Class, code: &str, what: impl fmt::Display) -> Failure {
        match self {
            AvError::NO_MEMORY => {
                Failure::new(Class::Host, "out_of_memory", format!("{what}: the machine has no memory left"))
            }
            AvError::NO_SPACE => {
                Failure::new(Class::Host, "no_space", format!("{what}: the scratch directory's disk is full"))
            }
            _ => Failure::new(class, code, format!("{what}: {self}")),
        }
    }
}

impl fmt::Display for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: [c_char; 128] = [0; 128];
        // SAFETY: the buffer is 128 bytes long, and libav always ends the text with 0 inside it.
        let text = unsafe {
            ffi::av_strerror(self.0, text.as_mut_ptr(), text.len());
            std::ffi::CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
        };
        f.write_str(&text)
    }
}

impl fmt::Debug for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvError({}: {self})", self.0)
    }
}

impl std::error::Error for AvError {}
