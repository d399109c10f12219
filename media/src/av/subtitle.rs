//! Subtitles decoded to events and coded anew. libav keeps an older interface for them.

use std::ffi::CString;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};

use super::codec::Context;
use super::input::Input;
use super::libc_types::c_int;
use super::packet::Packet;
use super::{AvError, MICROSECONDS, av_rational, parameters, timestamp};
use crate::piece::Parameters;

/// What ffmpeg gives an encoder of subtitles for one event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Some lines shown together.
pub struct Event(ffi::AVSubtitle);

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("pts_us", &self.pts_us()).field("duration_ms", &self.duration_ms()).finish()
    }
}

impl Event {
    /// Microseconds.
    pub fn pts_us(&self) -> Option<i64> {
        timestamp(self.0.pts)
    }

    /// 0 where unknown.
    pub fn duration_ms(&self) -> i64 {
        i64::from(self.0.end_display_time) - i64::from(self.0.start_display_time)
    }

    /// `None` where nothing says when it ends: with the next event.
    pub fn known_duration_us(&self) -> Option<i64> {
        let known = self.0.end_display_time != u32::MAX && self.0.end_display_time > self.0.start_display_time;
        known.then(|| self.duration_ms().saturating_mul(1000))
    }

    /// Nothing is shown: some codecs end an event so.
    pub fn is_empty(&self) -> bool {
        self.0.num_rects == 0
    }

    /// Moves the event to `pts_us`, from which on it is shown: encoders take no delay between both. Answers when it is shown.
    pub fn settle(&mut self, pts_us: i64) -> i64 {
        let event = &mut self.0;
        event.pts = pts_us.saturating_add(i64::from(event.start_display_time) * 1000);
        event.end_display_time = event.end_display_time.saturating_sub(event.start_display_time);
        event.start_display_time = 0;
        event.pts
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: filled by libav or all zero, ours alone, freed once.
        unsafe { ffi::avsubtitle_free(&raw mut self.0) }
    }
}

/// A decoder of one subtitle stream.
#[derive(Debug)]
pub struct Decoder(Context);

impl Decoder {
    /// # Errors
    /// `no_decoder`, `undecodable` (class input).
    pub fn open(input: &Input, stream: usize) -> Result<Decoder, Failure> {
        let (Some(facts), Some(raw)) = (input.streams().get(stream), input.raw_stream(stream)) else {
            return Err(Failure::new(Class::Input, "no_such_stream", format!("the source has no stream {stream}")));
        };
        let failed = |error: AvError| {
            error.failure(Class::Input, "undecodable", format_args!("the decoder refuses {}", facts.label()))
        };
        // SAFETY: the stream is the input's, alive during the call; the context copies its parameters and is opened once.
        unsafe {
            let codec = ffi::avcodec_find_decoder((*(*raw).codecpar).codec_id);
            if codec.is_null() {
                let message = format!("this machine's libav cannot decode {}", facts.label());
                return Err(Failure::new(Class::Input, "no_decoder", message));
            }
            let context = Context::new(codec).map_err(failed)?;
            AvError::check(ffi::avcodec_parameters_to_context(context.as_ptr(), (*raw).codecpar)).map_err(failed)?;
            (*context.as_ptr()).pkt_timebase = (*raw).time_base;
            AvError::check(ffi::avcodec_open2(context.as_ptr(), codec, std::ptr::null_mut())).map_err(failed)?;
            Ok(Decoder(context))
        }
    }

    /// The event a packet holds; `None` where it holds none.
    pub fn decode(&mut self, packet: &Packet) -> Result<Option<Event>, AvError> {
        let mut got: c_int = 0;
        // SAFETY: an open decoder and a valid packet, which stays the caller's; the event is zeroed and owned from here on, whatever the
        // answer.
        unsafe {
            let mut event = Event(std::mem::zeroed());
            let answer =
                ffi::avcodec_decode_subtitle2(self.0.as_ptr(), &raw mut event.0, &raw mut got, packet.as_ptr());
            AvError::check(answer)?;
            Ok((got != 0).then_some(event))
        }
    }

    /// ASS header: styles and size of what is decoded to.
    pub fn header(&self) -> Vec<u8> {
        // SAFETY: an open decoder keeps subtitle_header_size readable bytes there.
        unsafe {
            let context = self.0.as_ptr();
            match usize::try_from((*context).subtitle_header_size) {
                Ok(size) if size > 0 && !(*context).subtitle_header.is_null() => {
                    std::slice::from_raw_parts((*context).subtitle_header, size).to_vec()
                }
                _ => Vec::new(),
            }
        }
    }
}

/// An encoder of text. Its times are microseconds.
#[derive(Debug)]
pub struct Encoder(Context);

impl Encoder {
    /// `header`: the decoder's.
    ///
    /// # Errors
    /// `no_encoder` (class host), `encoder_refused` (class spec).
    pub fn open(name: &str, header: &[u8]) -> Result<Encoder, Failure> {
        let failed = |error: AvError| {
            error.failure(Class::Spec, "encoder_refused", format_args!("{name} cannot be opened for these subtitles"))
        };
        let c_name = CString::new(name).map_err(|_| failed(AvError::INVALID))?;
        // SAFETY: the codec is null or static; the fresh context gets a header of its own from libav's allocator, with the zero behind
        // it that the ASS code wants, and frees it.
        unsafe {
            let codec = ffi::avcodec_find_encoder_by_name(c_name.as_ptr());
            if codec.is_null() {
                let message = format!("this machine's libav has no encoder {name}; choose another with -c:s");
                return Err(Failure::new(Class::Host, "no_encoder", message));
            }
            let context = Context::new(codec).map_err(failed)?;
            let raw = context.as_ptr();
            (*raw).time_base = av_rational(MICROSECONDS);
            (*raw).flags |= i32::try_from(ffi::AV_CODEC_FLAG_GLOBAL_HEADER).unwrap_or_default();
            if !header.is_empty() {
                let size = super::length(header.len()).map_err(failed)?;
                let place = ffi::av_mallocz(header.len() + 1).cast::<u8>();
                if place.is_null() {
                    return Err(failed(AvError::NO_MEMORY));
                }
                std::ptr::copy_nonoverlapping(header.as_ptr(), place, header.len());
                (*raw).subtitle_header = place;
                (*raw).subtitle_header_size = size;
            }
            AvError::check(ffi::avcodec_open2(raw, codec, std::ptr::null_mut())).map_err(failed)?;
            Ok(Encoder(context))
        }
    }

    /// The bytes of one packet. The event must be [settled](Event::settle).
    pub fn encode(&mut self, event: &Event) -> Result<Vec<u8>, AvError> {
        let mut bytes = vec![0u8; EVENT_BYTES_MAX];
        let size = super::length(bytes.len())?;
        // SAFETY: an open encoder writes at most `size` bytes and only reads the event.
        let answer =
            unsafe { ffi::avcodec_encode_subtitle(self.0.as_ptr(), bytes.as_mut_ptr(), size, &raw const event.0) };
        let written = AvError::check(answer)?;
        bytes.truncate(usize::try_from(written).unwrap_or(0));
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// What the muxer will need of the track.
    pub fn parameters(&self) -> Result<Parameters, AvError> {
        // SAFETY: fresh parameters are filled from an open encoder, copied and freed.
        unsafe {
            let mut raw = ffi::avcodec_parameters_alloc();
            if raw.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            let answer = AvError::check(ffi::avcodec_parameters_from_context(raw, self.0.as_ptr()));
            let no_rate = spool_proto::spec::Rational::new(0, 1);
            let copied = parameters::read(raw, MICROSECONDS, no_rate, Vec::new());
            ffi::avcodec_parameters_free(&raw mut raw);
            answer?;
            copied.ok_or(AvError::INVALID)
        }
    }
}
