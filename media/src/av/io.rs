//! libav's byte reader over a [`Source`].

use std::io::{self, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use ffmpeg_next::ffi;

use super::AvError;
use super::libc_types::{c_int, c_void};
use crate::Source;

/// libav reads ahead by this much. A multiple of what demuxers ask for in one go.
const BUFFER_BYTES: c_int = 64 << 10;

/// What the callbacks work on.
struct State {
    source: Box<dyn Source>,
    position: u64,
    /// The first error of the source: libav would only say "end of file" or "input/output error".
    error: Option<io::Error>,
}

/// An owned `AVIOContext` and the source under it.
pub(crate) struct Reader {
    context: NonNull<ffi::AVIOContext>,
    /// Pointed to by the context; freed after it.
    state: NonNull<State>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

// SAFETY: the source is Send, and the context is only used through its one owner.
unsafe impl Send for Reader {}

impl Reader {
    pub(crate) fn new(source: Box<dyn Source>) -> Result<Reader, AvError> {
        let state = Box::into_raw(Box::new(State { source, position: 0, error: None }));
        // SAFETY: the buffer comes from libav's allocator, as it demands, and belongs to the context from here on; `state` lives
        // until this Reader is dropped, which frees the context first.
        unsafe {
            let buffer = ffi::av_malloc(usize::try_from(BUFFER_BYTES).unwrap_or_default()).cast::<u8>();
            let context = if buffer.is_null() {
                std::ptr::null_mut()
            } else {
                ffi::avio_alloc_context(buffer, BUFFER_BYTES, 0, state.cast(), Some(read), None, Some(seek))
            };
            match (NonNull::new(context), NonNull::new(state)) {
                (Some(context), Some(state)) => Ok(Reader { context, state }),
                _ => {
                    ffi::av_free(buffer.cast());
                    drop(Box::from_raw(state));
                    Err(AvError::NO_MEMORY)
                }
            }
        }
    }

    pub(crate) fn context(&self) -> *mut ffi::AVIOContext {
        self.context.as_ptr()
    }

    /// The source's first bytes, at most `bytes`, however far it was read. Where it is then, nobody knows: for the last look at a source
    /// that could not be opened.
    pub(crate) fn head(&mut self, bytes: usize) -> Vec<u8> {
        // SAFETY: as in `take_error`.
        let source = unsafe { &mut (*self.state.as_ptr()).source };
        let mut head = vec![0; bytes];
        let read = source.seek(SeekFrom::Start(0)).and_then(|_| source.read(&mut head)).unwrap_or(0);
        head.truncate(read);
        head
    }

    /// The source's error, once.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        // SAFETY: the state is ours; callbacks run only inside libav calls, which need the owner of this Reader too.
        unsafe { (*self.state.as_ptr()).error.take() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: both are ours and freed once: buffer (libav may have replaced it), context, then the state.
        unsafe {
            let mut context = self.context.as_ptr();
            ffi::av_freep((&raw mut (*context).buffer).cast());
            ffi::avio_context_free(&raw mut context);
            drop(Box::from_raw(self.state.as_ptr()));
        }
    }
}

impl State {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn seek(&mut self, offset: i64, whence: c_int) -> io::Result<i64> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "seek outside the file");
        let length = i64::try_from(self.source.len()).map_err(|_| bad())?;
        let target = match whence {
            // The numbers of SEEK_SET, SEEK_CUR, SEEK_END.
            0 => Some(offset),
            1 => i64::try_from(self.position).ok().and_then(|p| p.checked_add(offset)),
            2 => length.checked_add(offset),
            _ => None,
        };
        let target = target.and_then(|t| u64::try_from(t).ok()).ok_or_else(bad)?;
        self.position = self.source.seek(SeekFrom::Start(target))?;
        i64::try_from(self.position).map_err(|_| bad())
    }
}

unsafe extern "C" fn read(state: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    let Ok(length) = usize::try_from(size) else { return AvError::INVALID.0 };
    // SAFETY: libav hands back the pointer given at allocation, and `size` writable bytes; it never runs callbacks of one
    // context at the same time.
    let (state, into) = unsafe { (&mut *state.cast::<State>(), std::slice::from_raw_parts_mut(buffer, length)) };
    // A panic of the source must not unwind into C.
    match catch_unwind(AssertUnwindSafe(|| state.read(into))) {
        Ok(Ok(0)) => AvError::END.0,
        Ok(Ok(read)) => c_int::try_from(read).unwrap_or(size),
        Ok(Err(error)) => {
            state.error.get_or_insert(error);
            AvError::IO.0
        }
        Err(_) => {
            state.error.get_or_insert_with(|| io::Error::other("the source panicked while reading"));
            AvError::IO.0
        }
    }
}

unsafe extern "C" fn seek(state: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read`.
    let state = unsafe { &mut *state.cast::<State>() };
    let whence = whence & !ffi::AVSEEK_FORCE;
    match catch_unwind(AssertUnwindSafe(|| {
        if whence == ffi::AVSEEK_SIZE {
            return i64::try_from(state.source.len()).map_err(io::Error::other);
        }
        state.seek(offset, whence)
    })) {
        Ok(Ok(answer)) => answer,
        // A broken file asks for places that are not there; that is no fault of the source.
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => i64::from(AvError::INVALID.0),
        Ok(Err(error)) => {
            state.error.get_or_insert(error);
            i64::from(AvError::IO.0)
        }
        Err(_) => {
            state.error.get_or_insert_with(|| io::Error::other("the source panicked while seeking"));
            i64::from(AvError::IO.0)
        }
    }
}
