//! Encoding.

use std::ffi::CString;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use super::codec::{Context, Received};
use super::dict::Dictionary;
use super::frame::{Colors, Frame};
use super::packet::Packet;
use super::{AvError, av_rational, number, parameters, rational, set_number};
use crate::piece::Parameters;

/// What a video encoder must know before its first picture, as ffmpeg takes it from the filter graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoSetup {
    pub width: i32,
    pub height: i32,
    /// libav's pixel format number.
    pub format: i32,
    pub time_base: Rational,
    pub frame_rate: Rational,
    pub sample_aspect_ratio: Rational,
    pub colors: Colors,
    /// `AVFieldOrder`.
    pub field_order: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSetup {
    pub sample_rate: i32,
    /// libav's sample format number.
    pub format: i32,
    pub channels: i32,
    /// Mask of the native layout; 0: none known.
    pub layout: u64,
}

/// An open encoder.
#[derive(Debug)]
pub struct Encoder {
    context: Context,
    name: String,
    frame_rate: Rational,
    fed: Fed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fed {
    Nothing,
    Frames,
    /// And told that there are no more.
    All,
}

fn find(name: &str) -> Result<*const ffi::AVCodec, Failure> {
    let none = || {
        Failure::new(
            Class::Host,
            "no_encoder",
            format!("this machine's libav has no encoder {name}; install one that has it, or choose another codec"),
        )
    };
    let c_name = CString::new(name).map_err(|_| none())?;
    // SAFETY: a C string that outlives the call; the answer is null or static.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(c_name.as_ptr()) };
    if codec.is_null() { Err(none()) } else { Ok(codec) }
}

/// Encoders of subsampled pictures want whole chroma samples; only libvpx takes any size. Refused here, because they say no more
/// than that something is wrong.
fn check_size(name: &str, setup: &VideoSetup) -> Result<(), Failure> {
    let Some(shape) = super::names::pixel_shape(setup.format) else { return Ok(()) };
    let odd_width = shape.log2_chroma_width > 0 && setup.width % 2 != 0;
    let odd_height = shape.log2_chroma_height > 0 && setup.height % 2 != 0;
    if name == "libvpx-vp9" || !(odd_width || odd_height) {
        return Ok(());
    }
    let (width, height) = (setup.width, setup.height);
    let fit = |add: i32| (width + if odd_width { add } else { 0 }, height + if odd_height { add } else { 0 });
    let ((less_w, less_h), (more_w, more_h)) = (fit(-1), fit(1));
    Err(Failure::new(
        Class::Spec,
        "size_refused",
        format!(
            "{name} does not take width {width} and height {height} with this pixel format: they must be even; add \
             crop={less_w}:{less_h}:0:0 or pad={more_w}:{more_h}:0:0 to -vf"
        ),
    ))
}

impl Encoder {
    /// Opens a video encoder. `options` are libav's names and values (`b`, `g`, `threads`, `preset`, `x264-params`, …).
    ///
    /// # Errors
    /// Class spec: `option_refused` names what the encoder does not know, `size_refused` sizes it cannot take,
    /// `encoder_refused` the rest. Class host: `no_encoder`.
    pub fn video<K: AsRef<str>>(name: &str, setup: &VideoSetup, options: &[(K, String)]) -> Result<Encoder, Failure> {
        let codec = find(name)?;
        check_size(name, setup)?;
        // SAFETY: a codec of libav's; the fresh context's fields are plain numbers, enum fields are set as ints that libav
        // itself gave.
        let context = unsafe {
            let context = Context::new(codec).map_err(|e| e.failure(Class::Internal, "libav", "opening an encoder"))?;
            let raw = context.as_ptr();
            (*raw).width = setup.width;
            (*raw).height = setup.height;
            set_number(&raw mut (*raw).pix_fmt, setup.format);
            (*raw).time_base = av_rational(setup.time_base);
            (*raw).framerate = av_rational(setup.frame_rate);
            (*raw).sample_aspect_ratio = av_rational(setup.sample_aspect_ratio);
            set_number(&raw mut (*raw).color_range, setup.colors.range);
            set_number(&raw mut (*raw).color_primaries, setup.colors.primaries);
            set_number(&raw mut (*raw).color_trc, setup.colors.transfer);
            set_number(&raw mut (*raw).colorspace, setup.colors.space);
            set_number(&raw mut (*raw).chroma_sample_location, setup.colors.chroma_location);
            set_number(&raw mut (*raw).field_order, setup.field_order);
            context
        };
        let encoder = Encoder { context, name: name.to_owned(), frame_rate: setup.frame_rate, fed: Fed::Nothing };
        encoder.open(codec, options, |error| {
            let size = format!("width {} and height {}", setup.width, setup.height);
            error.failure(
                Class::Spec,
                "encoder_refused",
                format_args!("{name} refuses these settings at {size}; check preset, tune, profile, rates and size"),
            )
        })
    }

    /// Opens an audio encoder; its timebase is one sample.
    ///
    /// # Errors
    /// As [`Encoder::video`].
    pub fn audio<K: AsRef<str>>(name: &str, setup: &AudioSetup, options: &[(K, String)]) -> Result<Encoder, Failure> {
        let codec = find(name)?;
        // SAFETY: as in `video`; the layout is set by libav's own functions.
        let context = unsafe {
            let context = Context::new(codec).map_err(|e| e.failure(Class::Internal, "libav", "opening an encoder"))?;
            let raw = context.as_ptr();
            (*raw).sample_rate = setup.sample_rate;
            set_number(&raw mut (*raw).sample_fmt, setup.format);
            parameters::set_layout(&raw mut (*raw).ch_layout, setup.channels, setup.layout);
            (*raw).time_base = ffi::AVRational { num: 1, den: setup.sample_rate.max(1) };
            context
        };
        let encoder = Encoder { context, name: name.to_owned(), frame_rate: Rational::new(0, 1), fed: Fed::Nothing };
        encoder.open(codec, options, |error| {
            error.failure(
                Class::Spec,
                "encoder_refused",
                format_args!(
                    "{name} refuses {} Hz with {} channels and these settings; check -ar, -ac and -b:a",
                    setup.sample_rate, setup.channels
                ),
            )
        })
    }

    fn open<K: AsRef<str>>(
        self,
        codec: *const ffi::AVCodec,
        options: &[(K, String)],
        refused: impl FnOnce(AvError) -> Failure,
    ) -> Result<Encoder, Failure> {
        let mut dictionary = Dictionary::new(options.iter().map(|(k, v)| (k, v)))
            .map_err(|e| e.failure(Class::Spec, "option_refused", "an encoder option holds a zero byte"))?;
        // SAFETY: our context, opened once with its own codec. All containers Spool writes keep the parameter sets apart.
        let answer = unsafe {
            let raw = self.context.as_ptr();
            (*raw).flags |= i32::try_from(ffi::AV_CODEC_FLAG_GLOBAL_HEADER).unwrap_or_default();
            ffi::avcodec_open2(raw, codec, dictionary.as_mut())
        };
        AvError::check(answer).map_err(refused)?;
        let unused: Vec<String> = dictionary.entries().into_iter().map(|(key, _)| key).collect();
        if !unused.is_empty() {
            return Err(Failure::new(
                Class::Spec,
                "option_refused",
                format!("{} has no option {}; leave it out", self.name, unused.join(", ")),
            ));
        }
        Ok(self)
    }

    /// Gives a frame (its pts in the encoder's timebase), or with `None` begins to drain.
    pub fn send(&mut self, frame: Option<&Frame>) -> Result<(), AvError> {
        self.fed = if frame.is_some() { Fed::Frames } else { Fed::All };
        let frame = frame.map_or(std::ptr::null(), |f| f.as_ptr().cast_const());
        // SAFETY: an open encoder; the frame is valid or null and is not changed.
        AvError::check(unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame) }).map(|_| ())
    }

    pub fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        // SAFETY: an open encoder and a valid packet, which libav empties first.
        Received::from_answer(unsafe { ffi::avcodec_receive_packet(self.context.as_ptr(), packet.as_ptr()) })
    }

    /// Samples per frame it wants; 0: any number.
    pub fn frame_size(&self) -> i32 {
        // SAFETY: an open encoder.
        unsafe { (*self.context.as_ptr()).frame_size }
    }

    /// Samples of priming before the first real one.
    pub fn initial_padding(&self) -> i32 {
        // SAFETY: an open encoder.
        unsafe { (*self.context.as_ptr()).initial_padding }
    }

    pub fn time_base(&self) -> Rational {
        // SAFETY: an open encoder.
        rational(unsafe { (*self.context.as_ptr()).time_base })
    }

    /// What the muxer will need of the track.
    pub fn parameters(&self) -> Result<Parameters, AvError> {
        // SAFETY: fresh parameters are filled from an open encoder, copied and freed.
        unsafe {
            let context = self.context.as_ptr();
            let mut raw = ffi::avcodec_parameters_alloc();
            if raw.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            let answer = AvError::check(ffi::avcodec_parameters_from_context(raw, context));
            let side_data = super::side_data((*context).coded_side_data, (*context).nb_coded_side_data);
            let copied = parameters::read(raw, self.time_base(), self.frame_rate, side_data);
            ffi::avcodec_parameters_free(&raw mut raw);
            answer?;
            copied.ok_or(AvError::INVALID)
        }
    }
}

impl Drop for Encoder {
    /// SVT-AV1 waits for the end of its stream when it is closed, and for its first picture: for ever, where they never came.
    fn drop(&mut self) {
        if self.name != "libsvtav1" || self.fed == Fed::All {
            return;
        }
        // SAFETY: an open encoder.
        let (width, height, format) = unsafe {
            let raw = self.context.as_ptr();
            ((*raw).width, (*raw).height, number(&raw const (*raw).pix_fmt))
        };
        let mut end = || -> Result<(), AvError> {
            if self.fed == Fed::Nothing {
                let mut picture = Frame::picture(width, height, format)?;
                picture.set_pts(Some(0));
                self.send(Some(&picture))?;
            }
            self.send(None)?;
            let mut packet = Packet::new()?;
            while self.receive(&mut packet)? == Received::One {}
            Ok(())
        };
        // Nobody is left to be told of an error.
        let _ = end();
    }
}

/// What an encoder takes, in its order of preference. Empty: anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abilities {
    /// libav's numbers.
    pub pixel_formats: Vec<i32>,
    /// libav's numbers.
    pub sample_formats: Vec<i32>,
    pub sample_rates: Vec<i32>,
    /// Masks of native layouts.
    pub layouts: Vec<u64>,
    /// Takes audio frames of any length.
    pub any_frame_size: bool,
}

/// # Errors
/// `no_encoder` (class host).
pub fn abilities(name: &str) -> Result<Abilities, Failure> {
    let codec = find(name)?;
    let mut out = Abilities::default();
    // SAFETY: static tables of the codec: formats end with -1, rates with 0, layouts with one of no channels.
    unsafe {
        collect((*codec).pix_fmts.cast::<i32>(), |v| v == -1, &mut out.pixel_formats);
        collect((*codec).sample_fmts.cast::<i32>(), |v| v == -1, &mut out.sample_formats);
        collect((*codec).supported_samplerates, |v| v == 0, &mut out.sample_rates);
        let mut layout = (*codec).ch_layouts;
        while !layout.is_null() && (*layout).nb_channels > 0 {
            out.layouts.push(parameters::layout_mask(layout));
            layout = layout.add(1);
        }
        out.any_frame_size =
            (*codec).capabilities & i32::try_from(ffi::AV_CODEC_CAP_VARIABLE_FRAME_SIZE).unwrap_or_default() != 0;
    }
    Ok(out)
}

/// # Safety
/// `list` is null or a list that an element satisfying `is_end` ends.
unsafe fn collect(mut list: *const i32, is_end: impl Fn(i32) -> bool, into: &mut Vec<i32>) {
    // SAFETY: the caller's list, never read past its end.
    unsafe {
        while !list.is_null() && !is_end(*list) {
            into.push(*list);
            list = list.add(1);
        }
    }
}
