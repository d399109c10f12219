//! libav's dictionaries: files fill them with any bytes, so they are read lossily.

use std::ffi::CString;
use std::ptr;

use ffmpeg_next::ffi;

use super::names::owned;
use super::{AvError, libc_types::c_int};

/// All entries, in order; bytes that are not UTF-8 become U+FFFD.
///
/// # Safety
/// `dictionary` is null or valid.
pub(crate) unsafe fn read(dictionary: *const ffi::AVDictionary) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut entry: *const ffi::AVDictionaryEntry = ptr::null();
    loop {
        // SAFETY: the empty key with IGNORE_SUFFIX walks the list; `entry` is null or of this dictionary.
        unsafe {
            entry = ffi::av_dict_get(dictionary, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX);
            if entry.is_null() {
                return out;
            }
            out.push((owned((*entry).key).unwrap_or_default(), owned((*entry).value).unwrap_or_default()));
        }
    }
}

/// An owned dictionary of options. A list of them is to libav a list of its own.
#[derive(Debug)]
#[repr(transparent)]
pub struct Dictionary(*mut ffi::AVDictionary);

impl Dictionary {
    pub fn new<K: AsRef<str>, V: AsRef<str>>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Dictionary, AvError> {
        let mut out = Dictionary(ptr::null_mut());
        for (key, value) in entries {
            out.set(key.as_ref(), value.as_ref())?;
        }
        Ok(out)
    }

    pub fn set(&mut self, key: &str, value: &str) -> Result<(), AvError> {
        let (Ok(key), Ok(value)) = (CString::new(key), CString::new(value)) else { return Err(AvError::INVALID) };
        // SAFETY: both strings live through the call, which copies them.
        let answer: c_int = unsafe { ffi::av_dict_set(&raw mut self.0, key.as_ptr(), value.as_ptr(), 0) };
        AvError::check(answer).map(|_| ())
    }

    pub fn entries(&self) -> Vec<(String, String)> {
        // SAFETY: null or valid, as kept.
        unsafe { read(self.0) }
    }

    /// For functions that take used entries out.
    pub(crate) fn as_mut(&mut self) -> *mut *mut ffi::AVDictionary {
        &raw mut self.0
    }

    /// The dictionary itself, to be freed by whom it is given to.
    pub(crate) fn into_raw(mut self) -> *mut ffi::AVDictionary {
        std::mem::replace(&mut self.0, ptr::null_mut())
    }
}

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: null or valid; the call sets it to null.
        unsafe { ffi::av_dict_free(&raw mut self.0) }
    }
}
