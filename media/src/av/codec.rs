//! Decoding.

use std::ptr::NonNull;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};

use super::AvError;
use super::dict::Dictionary;
use super::frame::Frame;
use super::input::Input;
use super::packet::Packet;

/// What a coder or a filter gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    One,
    /// Nothing yet: give it more.
    Again,
    /// Nothing ever again.
    End,
}

impl Received {
    pub(crate) fn from_answer(answer: i32) -> Result<Received, AvError> {
        match AvError::check(answer) {
            Ok(_) => Ok(Received::One),
            Err(AvError::AGAIN) => Ok(Received::Again),
            Err(AvError::END) => Ok(Received::End),
            Err(error) => Err(error),
        }
    }
}

/// An owned codec context.
#[derive(Debug)]
pub(crate) struct Context(NonNull<ffi::AVCodecContext>);

// SAFETY: used through its one owner only; libav's own threads synchronise inside its calls.
unsafe impl Send for Context {}

impl Context {
    /// # Safety
    /// `codec` is null or one of libav's codecs.
    pub(crate) unsafe fn new(codec: *const ffi::AVCodec) -> Result<Context, AvError> {
        // SAFETY: the caller's codec; null means no memory.
        NonNull::new(unsafe { ffi::avcodec_alloc_context3(codec) }).map(Context).ok_or(AvError::NO_MEMORY)
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVCodecContext {
        self.0.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: ours, freed once; libav joins its threads.
        unsafe { ffi::avcodec_free_context(&raw mut context) }
    }
}

/// A decoder of one stream.
#[derive(Debug)]
pub struct Decoder(Context);

impl Decoder {
    /// Opens libav's decoder for a stream, as ffmpeg does: damaged pictures are concealed and told, not hidden.
    ///
    /// # Errors
    /// `no_decoder` (class input) when this libav has none, `undecodable`.
    pub fn open(input: &Input, stream: usize, threads: u16) -> Result<Decoder, Failure> {
        Decoder::open_with(input, stream, threads, &[])
    }

    /// As [`Decoder::open`], but anything wrong in the bitstream is an error: for checking what Spool itself wrote.
    pub fn open_strict(input: &Input, stream: usize, threads: u16) -> Result<Decoder, Failure> {
        Decoder::open_with(input, stream, threads, &[("err_detect", "explode")])
    }

    /// As [`Decoder::open`], for looking at pictures and not for showing them: without what smooths blocks, and, where the codec can be decoded in a
    /// smaller size, in one that is no shorter than `side`.
    pub fn open_rough(input: &Input, stream: usize, threads: u16, side: u32) -> Result<Decoder, Failure> {
        let halvings = input.raw_stream(stream).map_or(0, |raw| {
            // SAFETY: the stream is the input's; the codec is null or static.
            let (most, shorter) = unsafe {
                let parameters = (*raw).codecpar;
                let codec = ffi::avcodec_find_decoder((*parameters).codec_id);
                let most = if codec.is_null() { 0 } else { (*codec).max_lowres };
                (u32::from(most), (*parameters).width.min((*parameters).height))
            };
            let shorter = u32::try_from(shorter).unwrap_or(0);
            (0..=most).rev().find(|halvings| shorter >> halvings >= side).unwrap_or(0)
        });
        let halvings = halvings.to_string();
        Decoder::open_with(input, stream, threads, &[("skip_loop_filter", "all"), ("lowres", &halvings)])
    }

    fn open_with(input: &Input, stream: usize, threads: u16, more: &[(&str, &str)]) -> Result<Decoder, Failure> {
        let (Some(facts), Some(raw)) = (input.streams().get(stream), input.raw_stream(stream)) else {
            return Err(Failure::new(Class::Input, "no_such_stream", format!("the source has no stream {stream}")));
        };
        let failed = |error: AvError| {
            error.failure(Class::Input, "undecodable", format_args!("the decoder refuses {}", facts.label()))
        };
        let mut options = Dictionary::new([
            ("threads", threads.max(1).to_string()),
            ("max_pixels", input.limits().pixels.to_string()),
        ])
        .map_err(failed)?;
        for (name, value) in more {
            options.set(name, value).map_err(failed)?;
        }
        // SAFETY: the stream is the input's, alive during the call; the context copies its parameters and is opened once.
        unsafe {
            let codec = ffi::avcodec_find_decoder((*(*raw).codecpar).codec_id);
            if codec.is_null() {
                return Err(Failure::new(
                    Class::Input,
                    "no_decoder",
                    format!("this machine's libav cannot decode {}", facts.label()),
                ));
            }
            let context = Context::new(codec).map_err(failed)?;
            AvError::check(ffi::avcodec_parameters_to_context(context.as_ptr(), (*raw).codecpar)).map_err(failed)?;
            (*context.as_ptr()).pkt_timebase = (*raw).time_base;
            AvError::check(ffi::avcodec_open2(context.as_ptr(), codec, options.as_mut())).map_err(failed)?;
            Ok(Decoder(context))
        }
    }

    /// Opens a decoder for coded packets that come from no file: those an encoder with these parameters made.
    pub fn for_parameters(parameters: &crate::piece::Parameters, threads: u16) -> Result<Decoder, AvError> {
        let mut options = Dictionary::new([("threads", threads.max(1).to_string())])?;
        // SAFETY: fresh parameters are filled, copied into the context and freed; the context is opened once.
        unsafe {
            let mut raw = ffi::avcodec_parameters_alloc();
            if raw.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            let opened = super::parameters::write(parameters, raw).and_then(|()| {
                let codec = ffi::avcodec_find_decoder((*raw).codec_id);
                if codec.is_null() {
                    return Err(AvError::DECODER_NOT_FOUND);
                }
                let context = Context::new(codec)?;
                AvError::check(ffi::avcodec_parameters_to_context(context.as_ptr(), raw))?;
                (*context.as_ptr()).pkt_timebase = super::av_rational(parameters.time_base);
                AvError::check(ffi::avcodec_open2(context.as_ptr(), codec, options.as_mut()))?;
                Ok(Decoder(context))
            });
            ffi::avcodec_parameters_free(&raw mut raw);
            opened
        }
    }

    /// Gives a packet, or with `None` begins to drain. `AvError::AGAIN`: take frames first.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<(), AvError> {
        let packet = packet.map_or(std::ptr::null(), |p| p.as_ptr().cast_const());
        // SAFETY: an open decoder; the packet is valid or null and is not changed.
        AvError::check(unsafe { ffi::avcodec_send_packet(self.0.as_ptr(), packet) }).map(|_| ())
    }

    pub fn receive(&mut self, frame: &mut Frame) -> Result<Received, AvError> {
        // SAFETY: an open decoder and a valid frame, which libav empties first.
        Received::from_answer(unsafe { ffi::avcodec_receive_frame(self.0.as_ptr(), frame.as_ptr()) })
    }

    /// Forgets everything, for going on elsewhere after a seek.
    pub fn flush(&mut self) {
        // SAFETY: an open decoder.
        unsafe { ffi::avcodec_flush_buffers(self.0.as_ptr()) }
    }

    /// Frames of delay the decoder has found needed for reordering.
    pub fn reorder_frames(&self) -> i32 {
        // SAFETY: an open decoder.
        unsafe { (*self.0.as_ptr()).has_b_frames }
    }

    /// Frame rate of the bitstream and ticks per frame, for ffmpeg's guess of missing timestamps.
    pub fn bitstream_rate(&self) -> Option<(spool_proto::spec::Rational, i32)> {
        // SAFETY: an open decoder.
        unsafe {
            let rate = super::known_rational((*self.0.as_ptr()).framerate)?;
            Some((rate, (*self.0.as_ptr()).ticks_per_frame.max(1)))
        }
    }
}

/// Whether this libav has an encoder of this name.
pub fn has_encoder(name: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(name) else { return false };
    // SAFETY: a C string that outlives the call.
    !unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) }.is_null()
}
