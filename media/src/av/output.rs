//! The muxer: streams described by [`Parameters`], packets in, a finished file out.
//!
//! What ffmpeg does between its encoders and libavformat happens here too: times are rescaled to the stream's timebase once, a
//! dts that rounding made go backwards is put right, `faststart` for MP4 and MOV. Equal input gives equal bytes: Matroska's
//! random identifiers are switched off, and no clock is asked.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Container, Rational};

use super::dict::Dictionary;
use super::libc_types::{c_int, c_void};
use super::packet::{FLAG_KEY, Packet as AvPacket};
use super::{AvError, av_rational, parameters, rational};
use crate::piece::{Kind, Packet, Parameters};

/// One stream of the file to be.
#[derive(Debug)]
pub struct StreamSetup<'a> {
    pub parameters: &'a Parameters,
    /// The packets come from another file as they are: its codec tag is kept where the container knows it.
    pub copied: bool,
    /// Keys and values; a later key replaces an equal earlier one. No zero bytes.
    pub tags: &'a [(String, String)],
    /// libav's `AV_DISPOSITION_*` bits.
    pub disposition: i32,
}

/// One chapter, in its own timebase.
#[derive(Debug, Clone, PartialEq)]
pub struct ChapterSetup {
    pub id: i64,
    pub time_base: Rational,
    pub start: i64,
    pub end: i64,
    pub tags: Vec<(String, String)>,
}

struct Stream {
    time_base: ffi::AVRational,
    last_dts: Option<i64>,
    sparse: bool,
}

/// A file being written. Dropped before [`Output::finish`], it leaves a broken file behind.
pub struct Output {
    context: NonNull<ffi::AVFormatContext>,
    streams: Vec<Stream>,
    layout: Layout,
}

/// How the file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Matroska: as it comes.
    Stream,
    /// MP4 and MOV, the index in front.
    Faststart,
    /// CMAF: header and fragments, each ended by [`Output::fragment`].
    Fragments { begun: bool },
}

impl Layout {
    fn of(container: Container) -> Layout {
        match container {
            Container::Mkv | Container::Webm => Layout::Stream,
            Container::Mp4 | Container::Mov => Layout::Faststart,
        }
    }

    /// The muxer's own options.
    fn options(self) -> &'static [(&'static CStr, &'static CStr)] {
        match self {
            Layout::Stream => &[],
            Layout::Faststart => &[(c"movflags", c"+faststart")],
            // The header waits for the first packets, which say how much of a track's start is not shown; `use_editlist` lets it
            // keep that.
            Layout::Fragments { .. } => &[
                (c"movflags", c"+cmaf+frag_custom+delay_moov+default_base_moof+skip_trailer"),
                (c"use_editlist", c"1"),
            ],
        }
    }

    /// `dts` may repeat: most containers ask only that it never falls.
    fn repeats(self) -> bool {
        self == Layout::Stream
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

/// Stream side data that a re-encoded stream must not inherit, by libav's packet side-data numbers.
pub const SIDE_BUFFER_SIZES: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_CPB_PROPERTIES as i32;
pub const SIDE_DOLBY_VISION: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_DOVI_CONF as i32;

pub const DEFAULT: i32 = ffi::AV_DISPOSITION_DEFAULT;
pub const ATTACHED_PICTURE: i32 = ffi::AV_DISPOSITION_ATTACHED_PIC;

/// The bits of dispositions named as libav names them; unknown names have none.
pub fn disposition_bits(names: &[String]) -> i32 {
    let bit = |name: &String| {
        let name = c_string(name);
        // SAFETY: a C string that outlives the call; a negative answer means unknown.
        unsafe { ffi::av_disposition_from_string(name.as_ptr()) }.max(0)
    };
    names.iter().map(bit).fold(0, |all, bit| all | bit)
}

/// `Lavc59.37.100`: what ffmpeg puts before an encoder's name in the tag `encoder`.
pub fn codec_library() -> String {
    // SAFETY: takes nothing and answers a constant.
    let version = unsafe { ffi::avcodec_version() };
    format!("Lavc{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

/// libav's name of a container's muxer.
fn muxer(container: Container) -> &'static CStr {
    match container {
        Container::Mp4 => c"mp4",
        Container::Mov => c"mov",
        Container::Mkv => c"matroska",
        Container::Webm => c"webm",
    }
}

/// Whether the container takes the codec (libav's name).
pub fn takes(container: Container, codec: &str) -> bool {
    let (Some(codec), Some(format)) = (descriptor(codec), format(container)) else { return false };
    // SAFETY: `format` points to one of libav's static tables; the call only reads it.
    unsafe { ffi::avformat_query_codec(format, codec.id, ffi::FF_COMPLIANCE_EXPERIMENTAL) == 1 }
}

fn format(container: Container) -> Option<*const ffi::AVOutputFormat> {
    // SAFETY: all arguments are null or C strings; the result is null or a static table.
    let format = unsafe { ffi::av_guess_format(muxer(container).as_ptr(), ptr::null(), ptr::null()) };
    (!format.is_null()).then_some(format)
}

fn descriptor(codec: &str) -> Option<&'static ffi::AVCodecDescriptor> {
    let name = CString::new(codec).ok()?;
    // SAFETY: `name` is a C string; the result is null or an entry of a static table.
    unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }
}

fn check(answer: i32, what: &str) -> Result<(), Failure> {
    AvError::check(answer).map(|_| ()).map_err(|error| error.failure(Class::Internal, "mux_failed", what))
}

fn out_of_memory(what: &str) -> Failure {
    AvError::NO_MEMORY.failure(Class::Host, "out_of_memory", what)
}

/// A libav dictionary of these tags, to be owned by what it is given to.
fn dictionary(tags: &[(String, String)]) -> Result<*mut ffi::AVDictionary, Failure> {
    let made = Dictionary::new(tags.iter().map(|(key, value)| (key, value)));
    Ok(made.map_err(|error| error.failure(Class::Internal, "mux_failed", "setting tags"))?.into_raw())
}

fn c_string(text: &str) -> CString {
    let until = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..until]).expect("cut before the first NUL")
}

/// `SEEK_CUR`.
const SEEK_CURRENT: c_int = 1;

unsafe extern "C" {
    // Declared with the int the enum is in C: the number comes from a file.
    fn av_stream_new_side_data(stream: *mut ffi::AVStream, kind: c_int, size: usize) -> *mut u8;
}

impl Output {
    /// Starts a file at `path` (made or replaced). Streams, chapters and tags follow, then [`Output::begin`].
    pub fn create(path: &Path, container: Container) -> Result<Output, Failure> {
        Output::open(path, muxer(container), Layout::of(container))
    }

    /// As [`Output::create`]: a CMAF track, of one stream.
    pub fn create_fragmented(path: &Path) -> Result<Output, Failure> {
        Output::open(path, muxer(Container::Mp4), Layout::Fragments { begun: false })
    }

    fn open(path: &Path, muxer: &CStr, layout: Layout) -> Result<Output, Failure> {
        let text = path.to_str().ok_or_else(|| {
            Failure::new(Class::Host, "scratch_path", format!("the path {} is not UTF-8", path.display()))
        })?;
        let url = c_string(&format!("file:{text}"));
        let mut context = ptr::null_mut();
        // SAFETY: `context` is a valid out pointer, the strings live through the call.
        let code =
            unsafe { ffi::avformat_alloc_output_context2(&raw mut context, ptr::null(), muxer.as_ptr(), url.as_ptr()) };
        check(code, "making the muxer")?;
        let context = NonNull::new(context).ok_or_else(|| out_of_memory("making the muxer"))?;
        let mut output = Output { context, streams: Vec::new(), layout };
        // SAFETY: the context is valid and owned by `output`; `pb` is null until it is opened here.
        unsafe {
            let context = output.context.as_mut();
            // FLAC in MP4 counts as experimental in FFmpeg 5.1; it has been standard since 2021.
            context.strict_std_compliance = ffi::FF_COMPLIANCE_EXPERIMENTAL;
            if layout == Layout::Stream {
                // Without it the segment and its tracks get random numbers.
                context.flags |= ffi::AVFMT_FLAG_BITEXACT;
            }
            let code = ffi::avio_open(&raw mut context.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE);
            check(code, &format!("opening {text}"))?;
        }
        Ok(output)
    }

    /// Adds the next stream; its number is how many there were.
    pub fn add_stream(&mut self, setup: &StreamSetup<'_>) -> Result<usize, Failure> {
        let from = setup.parameters;
        let index = self.streams.len();
        let codec = descriptor(&from.codec).ok_or_else(|| {
            let message = format!("stream {index}: libav knows no codec named {:?}", from.codec);
            Failure::new(Class::Internal, "unknown_codec", message)
        })?;
        let time_base = av_rational(from.time_base);
        // SAFETY: the context is valid and its header not yet written; the new stream belongs to it. `codecpar` of a new
        // stream is allocated and zeroed; enum fields are written as the numbers they are and never read here.
        unsafe {
            let stream = ffi::avformat_new_stream(self.context.as_ptr(), ptr::null());
            let stream = stream.as_mut().ok_or_else(|| out_of_memory("adding a stream"))?;
            stream.time_base = time_base;
            stream.disposition = setup.disposition;
            stream.metadata = dictionary(setup.tags)?;
            for (kind, bytes) in &from.side_data {
                let data = av_stream_new_side_data(stream, *kind, bytes.len());
                if data.is_null() {
                    return Err(out_of_memory("adding stream side data"));
                }
                ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
            }
            let tag = match (setup.copied, self.layout) {
                // Players of Apple's take no other; it says that all parameter sets are in the header.
                (_, Layout::Fragments { .. }) if codec.id == ffi::AVCodecID::AV_CODEC_ID_HEVC => {
                    u32::from_le_bytes(*b"hvc1")
                }
                (true, _) => kept_tag(self.context.as_ref().oformat, codec.id, from.codec_tag),
                (false, _) => 0,
            };
            parameters::write(from, stream.codecpar)
                .map_err(|error| error.failure(Class::Internal, "mux_failed", format!("describing stream {index}")))?;
            (*stream.codecpar).codec_tag = tag;
            if let Kind::Video { sample_aspect_ratio, frame_rate, .. } = &from.kind {
                stream.sample_aspect_ratio = av_rational(*sample_aspect_ratio);
                stream.avg_frame_rate = av_rational(*frame_rate);
            }
        }
        let sparse = matches!(from.kind, Kind::Subtitle);
        self.streams.push(Stream { time_base, last_dts: None, sparse });
        Ok(index)
    }

    /// Adds a stream that is a file of its own (a font), with its name and type as tags; after all other streams.
    pub fn attach(&mut self, from: &super::Stream) -> Result<(), Failure> {
        let codec = descriptor(&from.codec).map_or(ffi::AVCodecID::AV_CODEC_ID_NONE, |codec| codec.id);
        // SAFETY: as in `add_stream`; the type number is AVMEDIA_TYPE_ATTACHMENT.
        unsafe {
            let stream = ffi::avformat_new_stream(self.context.as_ptr(), ptr::null());
            let stream = stream.as_mut().ok_or_else(|| out_of_memory("adding an attachment"))?;
            stream.disposition = from.disposition;
            stream.metadata = dictionary(&from.tags)?;
            parameters::write_attachment(codec, &from.extradata, stream.codecpar)
                .map_err(|error| error.failure(Class::Internal, "mux_failed", "adding an attachment"))?;
        }
        self.streams.push(Stream { time_base: av_rational(Rational::new(1, 1000)), last_dts: None, sparse: true });
        Ok(())
    }

    /// Tags of the whole file, in place of those set before.
    pub fn set_tags(&mut self, tags: &[(String, String)]) -> Result<(), Failure> {
        let new = dictionary(tags)?;
        // SAFETY: the context is valid and owned; it frees the new dictionary, the old one is freed here.
        unsafe {
            let place = &raw mut self.context.as_mut().metadata;
            ffi::av_dict_free(place);
            *place = new;
        }
        Ok(())
    }

    pub fn add_chapter(&mut self, chapter: &ChapterSetup) -> Result<(), Failure> {
        // SAFETY: chapter and list are allocated by libav's allocator and freed with the context, which owns them as soon as
        // the count tells so; the reallocation keeps the `nb_chapters` pointers that were there.
        unsafe {
            let new = ffi::av_mallocz(size_of::<ffi::AVChapter>()).cast::<ffi::AVChapter>();
            if new.is_null() {
                return Err(out_of_memory("adding a chapter"));
            }
            let context = self.context.as_mut();
            let count = context.nb_chapters as usize;
            let bytes = (count + 1) * size_of::<*mut ffi::AVChapter>();
            let list = ffi::av_realloc(context.chapters.cast(), bytes).cast::<*mut ffi::AVChapter>();
            if list.is_null() {
                ffi::av_free(new.cast());
                return Err(out_of_memory("adding a chapter"));
            }
            context.chapters = list;
            *list.add(count) = new;
            context.nb_chapters += 1;
            let new = &mut *new;
            new.id = chapter.id;
            new.time_base = av_rational(chapter.time_base);
            new.start = chapter.start;
            new.end = chapter.end;
            new.metadata = dictionary(&chapter.tags)?;
        }
        Ok(())
    }

    /// Writes the header. From here on only packets.
    pub fn begin(&mut self) -> Result<(), Failure> {
        let mut options = ptr::null_mut();
        // SAFETY: the context has its streams and an open `pb`; `options` is a dictionary of our own, freed below.
        unsafe {
            for (name, value) in self.layout.options() {
                ffi::av_dict_set(&raw mut options, name.as_ptr(), value.as_ptr(), 0);
            }
            let code = ffi::avformat_write_header(self.context.as_ptr(), &raw mut options);
            ffi::av_dict_free(&raw mut options);
            check(code, "writing the film's header")?;
            let context = self.context.as_ref();
            for (index, stream) in self.streams.iter_mut().enumerate() {
                // The muxer has chosen its own timebase by now.
                stream.time_base = (**context.streams.add(index)).time_base;
            }
        }
        Ok(())
    }

    /// The timebase the container keeps a stream's times in. Known after [`Output::begin`].
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn time_base(&self, stream: usize) -> Rational {
        rational(self.streams[stream].time_base)
    }

    /// Writes one packet of `stream`, its times in `time_base`. Packets of one stream come in dts order; those of several are
    /// interleaved here, within libavformat's window of 10 s.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn write(&mut self, stream: usize, packet: &Packet, time_base: Rational) -> Result<(), Failure> {
        let place = || format!("stream {stream}: writing the packet at dts {:?}", packet.dts);
        let target = &mut self.streams[stream];
        let make = || -> Result<AvPacket, AvError> {
            let mut made = AvPacket::from_bytes(&packet.data)?;
            for (kind, bytes) in &packet.side_data {
                made.add_side_data(*kind, bytes)?;
            }
            made.set_times(packet.pts, packet.dts, packet.duration);
            made.set_flags(packet.flags | if packet.key { FLAG_KEY } else { 0 });
            made.set_stream(stream);
            Ok(made)
        };
        let made = make().map_err(|error| error.failure(Class::Internal, "mux_failed", place()))?;
        // SAFETY: the packet is ours alone; the interleaving call takes its reference over and leaves it blank.
        unsafe {
            let to = &mut *made.as_ptr();
            ffi::av_packet_rescale_ts(to, av_rational(time_base), target.time_base);
            order(to, target, self.layout.repeats());
            check(ffi::av_interleaved_write_frame(self.context.as_ptr(), to), &place())
        }
    }

    /// Ends a fragment: what was written since the last one. Answers where the file ends: `(header, fragment)`, the first of
    /// interest only once.
    ///
    /// # Panics
    /// When the file was not made by [`Output::create_fragmented`].
    pub fn fragment(&mut self) -> Result<(u64, u64), Failure> {
        let Layout::Fragments { begun } = &mut self.layout else { panic!("only a CMAF track has fragments") };
        let first = !std::mem::replace(begun, true);
        let flush = || -> Result<u64, Failure> {
            // SAFETY: the header was written, and `pb` is open until the file is finished. A null packet flushes the muxer.
            unsafe {
                check(ffi::av_interleaved_write_frame(self.context.as_ptr(), ptr::null_mut()), "ending a fragment")?;
                check(ffi::av_write_frame(self.context.as_ptr(), ptr::null_mut()), "ending a fragment")?;
                let pb = self.context.as_ref().pb;
                ffi::avio_flush(pb);
                let at = ffi::avio_seek(pb, 0, SEEK_CURRENT);
                check(i32::try_from(at.min(0)).unwrap_or(i32::MIN), "asking for the position")?;
                Ok(at.unsigned_abs())
            }
        };
        // The first flush writes the header that was held back, and nothing else.
        let header = if first { flush()? } else { 0 };
        Ok((header, flush()?))
    }

    /// Writes what is still held back and the trailer, and closes the file. `faststart` copies the whole file within itself:
    /// `alive` is called again and again meanwhile.
    pub fn finish(mut self, mut alive: &mut dyn FnMut()) -> Result<(), Failure> {
        unsafe extern "C" fn tick(alive: *mut c_void) -> c_int {
            // SAFETY: `alive` is the local of `finish`, which outlives the one libav call that the callback is set for.
            unsafe { (*alive.cast::<&mut dyn FnMut()>())() };
            0
        }
        // SAFETY: the header was written. The callback is set for the trailer alone, during which `alive` is lent to it. Afterwards
        // `pb` is closed and null, so that `drop` leaves it alone.
        unsafe {
            let context = self.context.as_mut();
            context.interrupt_callback = ffi::AVIOInterruptCB { callback: Some(tick), opaque: (&raw mut alive).cast() };
            let answer = ffi::av_write_trailer(context);
            context.interrupt_callback = ffi::AVIOInterruptCB { callback: None, opaque: ptr::null_mut() };
            check(answer, "finishing the film")?;
            check(ffi::avio_closep(&raw mut context.pb), "closing the film")
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: both are ours; `avio_closep` takes a null pointee.
        unsafe {
            ffi::avio_closep(&raw mut self.context.as_mut().pb);
            ffi::avformat_free_context(self.context.as_ptr());
        }
    }
}

/// Rounding to a coarse timebase can put dts behind pts or before the last one: moved as ffmpeg moves it.
fn order(packet: &mut ffi::AVPacket, stream: &mut Stream, repeats: bool) {
    const NONE: i64 = ffi::AV_NOPTS_VALUE;
    let next = |last: i64| if repeats { last } else { last + 1 };
    if packet.dts != NONE && packet.pts != NONE && packet.dts > packet.pts {
        // The middle one of three.
        let last = stream.last_dts.map_or(packet.pts, |last| last + 1);
        let mut three = [packet.pts, packet.dts, last];
        three.sort_unstable();
        packet.pts = three[1];
        packet.dts = three[1];
    }
    if let Some(last) = stream.last_dts
        && packet.dts != NONE
        && packet.dts < next(last)
    {
        let least = next(last);
        if packet.pts >= packet.dts {
            packet.pts = packet.pts.max(least);
        }
        packet.dts = least;
        if stream.sparse {
            tracing::debug!(dts = packet.dts, "subtitle packets at the same time");
        }
    }
    if packet.dts != NONE {
        stream.last_dts = Some(packet.dts);
    }
}

/// The codec tag a copied stream keeps: its own where the container uses it for the same codec or for none.
///
/// # Safety
/// `format` is a valid output format.
unsafe fn kept_tag(format: *const ffi::AVOutputFormat, codec: ffi::AVCodecID, tag: u32) -> u32 {
    // SAFETY: by this function's contract; tag lists are static and null-terminated.
    unsafe {
        let tags = (*format).codec_tag;
        let mut other = 0;
        let keep = tags.is_null()
            || ffi::av_codec_get_id(tags, tag) == codec
            || ffi::av_codec_get_tag2(tags, codec, &raw mut other) == 0;
        if keep { tag } else { 0 }
    }
}
