//! An opened film: streams, packets, seeking.

use std::ffi::CString;
use std::fmt::Write as _;
use std::io;
use std::ptr;

use ffmpeg_next::ffi;
use spool_proto::call::Jump;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use super::dict::{self, Dictionary};
use super::io::Reader;
use super::libc_types::c_int;
use super::names::{self, owned};
use super::packet::{Packet, SIDE_DISPLAY_MATRIX};
use super::{AvError, known_rational, log, number, parameters, rational, sniff, timestamp};
use crate::Source;
use crate::jumps::ShiftSetup;
use crate::piece::{Kind, Parameters};

/// Containers and raw streams that Spool takes, by libav's names. Missing on purpose: everything that opens other files
/// (playlists, concat, image sequences), devices, and formats with no video, sound or subtitles.
pub const FORMATS: &str = "mov,mp4,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,mxf,ogg,wav,w64,aiff,flac,mp3,aac,ac3,eac3,dts,\
                       h264,hevc,m4v,ivf,obu,asf,gif,dv,nut,rm,yuv4mpegpipe,caf,gxf,swf,amr,apng";

/// Still pictures: an overlay's. Never a film's.
const STILLS: &str = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif,apng";
/// Subtitle files that Spool takes.
const TEXT_FORMATS: &str = "srt,webvtt,ass";

/// Bounds on what a file may make us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub streams: u32,
    /// Pixels of one picture.
    pub pixels: i64,
}

impl Default for Limits {
    /// 64 streams are more than any film has; 16384x16384 is the largest picture of any encoder Spool drives.
    fn default() -> Limits {
        Limits { streams: 64, pixels: 16_384 * 16_384 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Video,
    Audio,
    Subtitle,
    Data,
    Attachment,
}

/// What libav knows of one stream after looking.
#[derive(Debug, Clone)]
pub struct Stream {
    pub index: usize,
    pub kind: MediaKind,
    pub codec: String,
    pub profile: Option<String>,
    pub time_base: Rational,
    pub start_pts: Option<i64>,
    pub duration: Option<i64>,
    /// `AV_DISPOSITION_*` bits.
    pub disposition: i32,
    pub tags: Vec<(String, String)>,
    /// `av_guess_frame_rate`.
    pub frame_rate: Option<Rational>,
    pub average_frame_rate: Option<Rational>,
    pub real_frame_rate: Option<Rational>,
    /// The container's own, which goes before the codec's. `num` 0 where it has none.
    pub sample_aspect_ratio: Rational,
    /// libav type number and bytes.
    pub side_data: Vec<(i32, Vec<u8>)>,
    pub extradata: Vec<u8>,
    /// For video, audio and subtitles.
    pub parameters: Option<Parameters>,
    pub bit_rate: i64,
    /// Bits after which timestamps wrap; 64: never.
    pub pts_wrap_bits: i32,
}

impl Stream {
    pub fn is_attached_picture(&self) -> bool {
        self.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0
    }

    /// The container or the first pictures say that the film has fields.
    pub fn is_interlaced(&self) -> bool {
        // Above AV_FIELD_PROGRESSIVE: the four orders of fields.
        matches!(&self.parameters, Some(Parameters { kind: Kind::Video { field_order: 2.., .. }, .. }))
    }

    /// The display matrix of the container.
    pub fn matrix(&self) -> Option<[i32; 9]> {
        super::frame::matrix(&self.side_data.iter().find(|(kind, _)| *kind == SIDE_DISPLAY_MATRIX)?.1)
    }

    /// `stream 0 (h264)`.
    pub fn label(&self) -> String {
        format!("stream {} ({})", self.index, self.codec)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputChapter {
    pub start_us: i64,
    pub end_us: i64,
    pub tags: Vec<(String, String)>,
}

/// What [`Input::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Packet,
    End,
    /// The demuxer cannot go on here. ffmpeg ends the film at such a place.
    Broken(AvError),
}

/// An open film. Freed in order: libav's context, then the reader under it.
#[derive(Debug)]
pub struct Input {
    context: *mut ffi::AVFormatContext,
    reader: Reader,
    streams: Vec<Stream>,
    limits: Limits,
}

// SAFETY: the context is only used through its one owner; libav's own threads are joined inside its calls.
unsafe impl Send for Input {}

/// Bytes that are looked at to say why a source is no film.
const SNIFFED: usize = 512;

fn not_media(what: &str, error: AvError) -> Failure {
    error.failure(
        Class::Input,
        "not_media",
        format_args!("the source is not a film that can be read ({what}); give a video or audio file"),
    )
}

fn too_many_streams(has: impl std::fmt::Display, limits: &Limits) -> Failure {
    let text =
        format!("the source has {has}; at most {} streams are taken: keep those that are wanted", limits.streams);
    Failure::new(Class::Input, "too_many_streams", text)
}

fn source_failed(error: &io::Error) -> Failure {
    Failure::new(
        Class::Transient,
        "source_unreadable",
        format!("reading the source failed ({error}); check the file and the disk or network it is on"),
    )
}

impl Input {
    /// Opens a film and looks at its streams. Opens nothing but `source`: other files that a film names are never followed.
    ///
    /// # Errors
    /// `not_media` (class input) for what libav cannot read, `too_many_streams`, `source_unreadable` (class transient).
    pub fn open(source: Box<dyn Source>, limits: &Limits) -> Result<Input, Failure> {
        Input::open_one_of(FORMATS, source, limits)
    }

    /// Opens a still picture, in the same way.
    ///
    /// # Errors
    /// Those of [`Input::open`].
    pub fn open_still(source: Box<dyn Source>, limits: &Limits) -> Result<Input, Failure> {
        Input::open_one_of(STILLS, source, limits)
    }

    /// Opens a subtitle file, in the same way.
    ///
    /// # Errors
    /// Those of [`Input::open`].
    pub fn open_text(source: Box<dyn Source>, limits: &Limits) -> Result<Input, Failure> {
        Input::open_one_of(TEXT_FORMATS, source, limits)
    }

    fn open_one_of(formats: &str, source: Box<dyn Source>, limits: &Limits) -> Result<Input, Failure> {
        log::init();
        if source.is_empty() {
            return Err(Failure::new(Class::Input, "not_media", "the source is empty (0 bytes)"));
        }
        let setup = |error: AvError| error.failure(Class::Internal, "libav", "setting up libav");
        let mut reader = Reader::new(source).map_err(setup)?;
        let mut options = Dictionary::new([
            ("format_whitelist", formats),
            // No protocol has this name: libav may open nothing itself.
            ("protocol_whitelist", "none"),
            // As the ffmpeg program: a table of programs that comes late in an MPEG-TS changes which rates are guessed.
            ("scan_all_pmts", "1"),
        ])
        .map_err(setup)?;
        options.set("max_streams", &limits.streams.to_string()).map_err(setup)?;
        // SAFETY: a fresh context reads through our reader, which outlives it; on failure libav frees the context and leaves the
        // reader alone (AVFMT_FLAG_CUSTOM_IO is set by a non-null pb).
        let context = unsafe {
            let mut context = ffi::avformat_alloc_context();
            if context.is_null() {
                return Err(setup(AvError::NO_MEMORY));
            }
            (*context).pb = reader.context();
            let answer = ffi::avformat_open_input(&raw mut context, ptr::null(), ptr::null(), options.as_mut());
            if let Err(error) = AvError::check(answer) {
                return Err(match reader.take_error() {
                    Some(error) => source_failed(&error),
                    // What a demuxer hears when it asks for one stream more than `max_streams`.
                    None if error == AvError::NO_MEMORY => too_many_streams(
                        format_args!("more than {} streams, or tables larger than memory", limits.streams),
                        limits,
                    ),
                    None => not_media(sniff::what_it_is(&reader.head(SNIFFED)), error),
                });
            }
            context
        };
        // From here on `Drop` closes the context.
        let mut input = Input { context, reader, streams: Vec::new(), limits: *limits };
        // SAFETY: an open context.
        let streams = unsafe { (*context).nb_streams };
        // It decodes a little of each stream: within the bounds that hold later too.
        let within = || Dictionary::new([("max_pixels", limits.pixels.to_string())]);
        let mut looks = (0..streams).map(|_| within()).collect::<Result<Vec<Dictionary>, AvError>>().map_err(setup)?;
        // SAFETY: an open context, and a dictionary for each of its streams; of those that appear meanwhile libav knows that they
        // have none. It takes used entries out and leaves the rest ours.
        let answer =
            unsafe { ffi::avformat_find_stream_info(context, looks.as_mut_ptr().cast::<*mut ffi::AVDictionary>()) };
        drop(looks);
        if let Some(error) = input.reader.take_error() {
            return Err(source_failed(&error));
        }
        AvError::check(answer).map_err(|error| not_media("its streams could not be read", error))?;
        input.streams = input.look();
        if input.streams.is_empty() {
            return Err(not_media("no streams in it", AvError::INVALID_DATA));
        }
        if input.streams.len() > usize::try_from(limits.streams).unwrap_or(usize::MAX) {
            return Err(too_many_streams(format_args!("{} streams", input.streams.len()), limits));
        }
        Ok(input)
    }

    fn look(&self) -> Vec<Stream> {
        // SAFETY: an open context holds nb_streams valid streams, each with valid parameters.
        unsafe {
            let count = usize::try_from((*self.context).nb_streams).unwrap_or(0);
            (0..count).map(|i| self.look_at(i, *(*self.context).streams.add(i))).collect()
        }
    }

    /// # Safety
    /// `stream` is a stream of this context.
    unsafe fn look_at(&self, index: usize, stream: *mut ffi::AVStream) -> Stream {
        // SAFETY: the caller's stream; enum fields are read as ints.
        unsafe {
            let raw = (*stream).codecpar;
            let codec_id = number(&raw const (*raw).codec_id);
            let kind = match number(&raw const (*raw).codec_type) {
                0 => MediaKind::Video,
                1 => MediaKind::Audio,
                3 => MediaKind::Subtitle,
                4 => MediaKind::Attachment,
                _ => MediaKind::Data,
            };
            let time_base = rational((*stream).time_base);
            let frame_rate = known_rational(ffi::av_guess_frame_rate(self.context, stream, ptr::null_mut()));
            let side_data = super::side_data((*stream).side_data, (*stream).nb_side_data);
            Stream {
                index,
                kind,
                codec: names::codec(codec_id),
                profile: names::profile(codec_id, (*raw).profile),
                time_base,
                start_pts: timestamp((*stream).start_time),
                duration: timestamp((*stream).duration).filter(|d| *d > 0),
                disposition: (*stream).disposition,
                tags: dict::read((*stream).metadata),
                frame_rate,
                average_frame_rate: known_rational((*stream).avg_frame_rate),
                real_frame_rate: known_rational((*stream).r_frame_rate),
                sample_aspect_ratio: rational((*stream).sample_aspect_ratio),
                parameters: parameters::read(
                    raw,
                    time_base,
                    frame_rate.unwrap_or(Rational::new(0, 1)),
                    side_data.clone(),
                ),
                side_data,
                extradata: parameters::extradata(raw),
                bit_rate: (*raw).bit_rate,
                pts_wrap_bits: (*stream).pts_wrap_bits,
            }
        }
    }

    /// As they were after opening. A stream that appears later (MPEG-TS) is not among them, as in ffmpeg.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// libav's name of the format: `mov,mp4,m4a,3gp,3g2,mj2`.
    pub fn format(&self) -> String {
        // SAFETY: an open context has a format with a static name.
        unsafe { owned((*(*self.context).iformat).name) }.unwrap_or_default()
    }

    /// Timestamps of the format may jump (MPEG-TS, MPEG-PS): `AVFMT_TS_DISCONT`.
    pub fn may_jump(&self) -> bool {
        // SAFETY: an open context has a format.
        unsafe { (*(*self.context).iformat).flags & ffi::AVFMT_TS_DISCONT != 0 }
    }

    /// Microseconds.
    pub fn start_us(&self) -> Option<i64> {
        // SAFETY: an open context.
        timestamp(unsafe { (*self.context).start_time })
    }

    /// Microseconds.
    pub fn duration_us(&self) -> Option<i64> {
        // SAFETY: an open context.
        timestamp(unsafe { (*self.context).duration }).filter(|d| *d > 0)
    }

    /// The length that the file itself tells, not one that libav guesses from bit rates or the last timestamps. Microseconds.
    pub fn header_duration_us(&self) -> Option<i64> {
        const FROM_STREAM: c_int = 1;
        // SAFETY: an open context; the enum is read as a number.
        let method = unsafe { number(&raw const (*self.context).duration_estimation_method) };
        self.duration_us().filter(|_| method == FROM_STREAM && !self.may_jump())
    }

    pub fn bit_rate_bps(&self) -> Option<u64> {
        // SAFETY: an open context.
        u64::try_from(unsafe { (*self.context).bit_rate }).ok().filter(|r| *r > 0)
    }

    pub fn tags(&self) -> Vec<(String, String)> {
        // SAFETY: an open context's own dictionary.
        unsafe { dict::read((*self.context).metadata) }
    }

    /// What ffmpeg adds to every timestamp of this film when it uses the streams `used`: minus the start. In formats whose
    /// timestamps jump, the start is that of the used streams alone. Microseconds.
    pub fn ts_offset_us(&self, used: &[usize]) -> i64 {
        let Some(start) = self.start_us() else { return 0 };
        if !self.may_jump() {
            return -start;
        }
        let first = self
            .streams
            .iter()
            .filter(|s| used.contains(&s.index) && s.pts_wrap_bits < 64)
            .filter_map(|s| Some(super::rescale(s.start_pts?, s.time_base, super::MICROSECONDS)))
            .min();
        -first.map_or(start, |first| first.max(start))
    }

    /// How a stream of this film counts. `offset_us`: [`Input::ts_offset_us`] of the streams in use.
    pub fn shift_of(&self, stream: &Stream, offset_us: i64, jumps: Vec<Jump>) -> ShiftSetup {
        ShiftSetup {
            time_base: stream.time_base,
            offset_us,
            start_us: self.start_us(),
            wrap_bits: stream.pts_wrap_bits,
            jumps,
        }
    }

    pub fn chapters(&self) -> Vec<InputChapter> {
        // SAFETY: an open context holds nb_chapters valid chapters.
        unsafe {
            let count = usize::try_from((*self.context).nb_chapters).unwrap_or(0);
            (0..count)
                .map(|i| {
                    let chapter = *(*self.context).chapters.add(i);
                    let base = rational((*chapter).time_base);
                    let time = |t| super::rescale(t, base, super::MICROSECONDS);
                    InputChapter {
                        start_us: time((*chapter).start),
                        end_us: time((*chapter).end),
                        tags: dict::read((*chapter).metadata),
                    }
                })
                .collect()
        }
    }

    /// Lets the demuxer skip all streams but these, as ffmpeg does with streams it does not use.
    pub fn select(&mut self, used: &[usize]) {
        for stream in &self.streams {
            // AVDISCARD_ALL and AVDISCARD_DEFAULT.
            let discard = if used.contains(&stream.index) { 0 } else { 48 };
            // SAFETY: the index is one of this context's streams.
            unsafe {
                let raw = *(*self.context).streams.add(stream.index);
                super::set_number(&raw mut (*raw).discard, discard);
            }
        }
    }

    /// The next packet, in file order.
    ///
    /// # Errors
    /// `source_unreadable`: the bytes could not be had. What is wrong with the film itself is [`Read::Broken`].
    pub fn read(&mut self, packet: &mut Packet) -> Result<Read, Failure> {
        packet.clear();
        // SAFETY: an open context and an empty packet.
        let answer = unsafe { ffi::av_read_frame(self.context, packet.as_ptr()) };
        if let Some(error) = self.reader.take_error() {
            return Err(source_failed(&error));
        }
        match AvError::check(answer) {
            Ok(_) => Ok(Read::Packet),
            Err(AvError::END) => Ok(Read::End),
            // Packets are small: only a broken length field makes one too large for the memory.
            Err(AvError::NO_MEMORY) => Err(Failure::new(
                Class::Input,
                "source_damaged",
                "a packet of the source claims to be larger than the memory there is: the file is damaged or made to do harm",
            )),
            Err(error) => Ok(Read::Broken(error)),
        }
    }

    /// Goes to a keyframe at or before `timestamp` (in the stream's timebase; most demuxers mean dts). Where that really is, the next
    /// packet tells.
    pub fn seek(&mut self, stream: usize, timestamp: i64) -> Result<(), AvError> {
        self.seek_frame(stream, timestamp, ffi::AVSEEK_FLAG_BACKWARD)
    }

    /// Goes to a byte position, for streams that can be entered anywhere (MPEG-TS, raw H.264).
    pub fn seek_byte(&mut self, position: u64) -> Result<(), AvError> {
        let position = i64::try_from(position).map_err(|_| AvError::INVALID)?;
        self.seek_frame(usize::MAX, position, ffi::AVSEEK_FLAG_BYTE)
    }

    fn seek_frame(&mut self, stream: usize, target: i64, flags: c_int) -> Result<(), AvError> {
        let stream = c_int::try_from(stream).unwrap_or(-1);
        // SAFETY: an open context; libav checks the stream's number.
        AvError::check(unsafe { ffi::av_seek_frame(self.context, stream, target, flags) }).map(|_| ())
    }

    /// Where the demuxer's index has a keyframe at or before `timestamp`, and one after it, in the stream's timebase. `None` where it
    /// does not reach: many containers' index is only of what was read.
    pub fn keyframes_around(&self, stream: usize, timestamp: i64) -> (Option<i64>, Option<i64>) {
        let Some(stream) = self.raw_stream(stream) else { return (None, None) };
        let find = |timestamp: i64, flags: c_int| {
            // SAFETY: a stream of this context; the entry is read before anything else touches the stream.
            unsafe {
                let entry = ffi::avformat_index_get_entry_from_timestamp(stream, timestamp, flags);
                if entry.is_null() { None } else { Some((*entry).timestamp) }
            }
        };
        (find(timestamp, ffi::AVSEEK_FLAG_BACKWARD), find(timestamp.saturating_add(1), 0))
    }

    /// One line about the film for evidence.
    pub fn summary(&self) -> String {
        let mut text = self.format();
        for stream in &self.streams {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {}", stream.label());
        }
        text
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The stream's parameters, for opening a decoder. Valid while self is borrowed.
    pub(crate) fn raw_stream(&self, index: usize) -> Option<*mut ffi::AVStream> {
        // SAFETY: the index is checked against the streams seen at opening, which libav never removes.
        (index < self.streams.len()).then(|| unsafe { *(*self.context).streams.add(index) })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: ours, closed once; with AVFMT_FLAG_CUSTOM_IO the reader stays ours and is freed after this.
        unsafe { ffi::avformat_close_input(&raw mut self.context) }
    }
}

/// Whether a muxer takes a codec, by libav's names. `None`: libav cannot say.
pub fn muxer_takes(muxer: &str, codec: &str) -> Option<bool> {
    let (Ok(muxer), Ok(codec)) = (CString::new(muxer), CString::new(codec)) else { return Some(false) };
    // SAFETY: C strings that outlive the calls; the tables are static.
    unsafe {
        let format = ffi::av_guess_format(muxer.as_ptr(), ptr::null(), ptr::null());
        let descriptor = ffi::avcodec_descriptor_get_by_name(codec.as_ptr());
        if format.is_null() || descriptor.is_null() {
            return Some(false);
        }
        match ffi::avformat_query_codec(format, (*descriptor).id, ffi::FF_COMPLIANCE_NORMAL) {
            1 => Some(true),
            0 => Some(false),
            _ => None,
        }
    }
}
