//! Sound decoded, filtered and encoded in one go: priming and padding allow no seams.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use spool_proto::call::TrackArgs;
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{AudioSpec, Rational};

use super::clock::Clock;
use super::loudness::{self, Treatment};
use super::shape::{Form, Shaper};
use super::{Made, Window, open_input, product};
use crate::av::audio::rescale_delta;
use crate::av::codec::Decoder;
use crate::av::encoder::{AudioSetup, Encoder};
use crate::av::frame::Frame;
use crate::av::input::{MediaKind, Read, Stream};
use crate::av::packet::{FLAG_CORRUPT, FLAG_KEY, Packet as AvPacket};
use crate::av::{AvError, MICROSECONDS, Received, rescale};
use crate::damage::{Damage, seconds};
use crate::jumps::Times;
use crate::piece::{Packet, PieceWriter, Summary};
use crate::probe::scan::encrypted;
use crate::{Host, Product, params};

pub fn run(
    args: &TrackArgs,
    asked: &AudioSpec,
    encoder: &params::Encoder,
    host: &mut dyn Host,
) -> Result<Product, Failure> {
    let path = host.scratch().join("track");
    let window = Window::new(&args.spec.trim);
    let form = Form { asked, encoder: encoder.name, window, edits: &args.edits };
    let (treatment, loudness, mut warnings) = match asked.loudness {
        Some(wanted) => loudness::settle(args, &form, wanted, host)?,
        None => (Treatment::default(), None, Vec::new()),
    };
    let mut sink = SoundSink::new(&form, treatment, encoder, path.clone())?;
    let heard = listen(args, host, &mut sink)?;
    warnings.extend(heard.warnings);
    let ((summary, time_base), units) = sink.finish(&heard.stream)?;
    let made = Made { summary, time_base, units, decoded: heard.decoded, entry: "linear", loudness };
    Ok(product(args, made, path, warnings))
}

/// Who is given the sound of a track.
pub trait Ear {
    fn hear(&mut self, frame: &mut Frame) -> Result<(), Failure>;
    /// Which of the film's sources is wanted, from 0.
    fn input(&self) -> u32;
    /// Nothing more is wanted, for now.
    fn is_full(&self) -> bool;
    /// The track has ended, or the ear is full: is the track wanted from its start once more?
    fn again(&mut self, stream: &Stream) -> Result<bool, Failure>;
    /// Bytes made, microseconds of the output.
    fn so_far(&self) -> (u64, u64);
}

/// What is known when a track has been decoded.
pub struct Heard {
    pub stream: Stream,
    /// Frames.
    pub decoded: u64,
    pub warnings: Vec<Warning>,
}

/// Decodes the track, from its start until `ear` is full, as often as the ear wants.
///
/// # Errors
/// Those of opening the source and its decoder.
pub fn listen(args: &TrackArgs, host: &mut dyn Host, ear: &mut dyn Ear) -> Result<Heard, Failure> {
    let mut heard = listen_once(args, host, ear)?;
    while ear.again(&heard.stream)? {
        let once_more = listen_once(args, host, ear)?;
        heard.decoded += once_more.decoded;
        for warning in once_more.warnings {
            if !heard.warnings.contains(&warning) {
                heard.warnings.push(warning);
            }
        }
    }
    Ok(heard)
}

fn listen_once(args: &TrackArgs, host: &mut dyn Host, ear: &mut dyn Ear) -> Result<Heard, Failure> {
    let number = ear.input();
    let args = &args.of_input(number);
    let (mut input, clock) = open_input(args, number, MediaKind::Audio, host)?;
    let index = usize::try_from(args.stream).expect("checked when opened");
    let stream = input.streams()[index].clone();
    let mut decoder = Decoder::open(&input, index, 1)?;
    let mut listener = Listener { clock, last_delta: None, last_pts: None, decoded: 0 };
    let mut damage = Damage::new(args.stream, args.spec.on_damage);
    let mut packet = AvPacket::new().map_err(libav)?;
    let mut packets = 0u64;
    loop {
        let more = match input.read(&mut packet)? {
            Read::Packet if packet.stream() != index || packet.data().is_empty() => continue,
            Read::Packet => true,
            Read::End => false,
            Read::Broken(error) => {
                let what = || format!("the source breaks off after packet {packets} ({error})");
                damage.note(what, "what came before is kept")?;
                false
            }
        };
        if more && packet.is_encrypted() {
            return Err(encrypted(&stream.label()));
        }
        packets += u64::from(more);
        if more && packet.flags() & FLAG_CORRUPT != 0 {
            damage.note(
                || format!("packet {packets} is marked corrupt by the demuxer"),
                "it was decoded as well as can be",
            )?;
        }
        let given = if more { Some(&mut packet) } else { None };
        listener.decode(&mut decoder, given, stream.time_base, &mut damage, &mut |frame| ear.hear(frame))?;
        let (bytes, out_time_us) = ear.so_far();
        host.progress(0, bytes, out_time_us);
        if !more || ear.is_full() {
            break;
        }
    }
    Ok(Heard { stream, decoded: listener.decoded, warnings: damage.into_warnings() })
}

pub fn libav(error: AvError) -> Failure {
    error.failure(Class::Internal, "libav", "working on sound")
}

// ---- decoding ----

/// Gives decoded sound its times, as ffmpeg's `decode_audio` does.
struct Listener {
    clock: Clock,
    last_delta: Option<i64>,
    /// pts of the packet before.
    last_pts: Option<i64>,
    /// Frames.
    decoded: u64,
}

impl Listener {
    /// Decodes one packet, or with `None` what the decoder still holds. A packet that cannot be decoded is skipped and noted.
    fn decode(
        &mut self,
        decoder: &mut Decoder,
        packet: Option<&mut AvPacket>,
        time_base: Rational,
        damage: &mut Damage,
        give: &mut dyn FnMut(&mut Frame) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut from = None;
        let sent = match packet {
            Some(packet) => {
                let times = self.clock.packet(Times { pts: packet.pts(), dts: packet.dts() }, false);
                packet.set_times(times.pts, times.dts, packet.duration());
                from = Some((times.pts, packet.duration()));
                decoder.send(Some(packet))
            }
            None => decoder.send(None),
        };
        match sent {
            Ok(()) | Err(AvError::END) => {}
            Err(AvError::NO_MEMORY) => return Err(libav(AvError::NO_MEMORY)),
            Err(error) => {
                return damage.note(|| self.undecodable(error), "it is left out");
            }
        }
        let mut frame = Frame::new().map_err(libav)?;
        loop {
            self.clock.settle();
            match decoder.receive(&mut frame) {
                Ok(Received::One) => {}
                Ok(Received::Again | Received::End) => return Ok(()),
                Err(AvError::NO_MEMORY) => return Err(libav(AvError::NO_MEMORY)),
                Err(error) => {
                    return damage.note(|| self.undecodable(error), "it is left out");
                }
            }
            if frame.is_damaged() {
                damage.note(|| format!("sound at {} is damaged", seconds(self.clock.pts_us())), "it was kept")?;
            }
            self.time(&mut frame, from, time_base);
            // A packet's own times count for its first frame only.
            from = None;
            give(&mut frame)?;
        }
    }

    fn time(&mut self, frame: &mut Frame, from: Option<(Option<i64>, i64)>, time_base: Rational) {
        self.decoded += 1;
        let sample = Rational::new(1, frame.sample_rate().max(1));
        self.clock.passed(1_000_000 * i64::from(frame.samples()) / i64::from(sample.den));
        let (packet_pts, duration) = from.unwrap_or((None, 0));
        let (pts, base) = match frame.pts().or(packet_pts) {
            Some(pts) => (pts, time_base),
            None => (self.clock.dts_us(), MICROSECONDS),
        };
        if let (Some(packet), Some(last)) = (packet_pts, self.last_pts)
            && duration != 0
            && packet - last > duration
        {
            self.last_delta = None;
        }
        if from.is_some() {
            self.last_pts = packet_pts;
        }
        let pts = rescale_delta(base, pts, sample, frame.samples(), &mut self.last_delta, sample);
        frame.set_pts(Some(pts));
    }

    fn undecodable(&self, error: AvError) -> String {
        format!("sound at {} cannot be decoded ({error})", seconds(self.clock.pts_us()))
    }
}

// ---- encoding ----

/// The encoder and the piece it fills.
struct Coder {
    encoder: Encoder,
    time_base: Rational,
    writer: PieceWriter<BufWriter<File>>,
    packet: AvPacket,
    /// Where the next frame would start, in `time_base`.
    next: i64,
    samples: u64,
}

/// Takes decoded sound, leaves coded packets.
struct SoundSink<'a> {
    settings: &'a params::Encoder,
    shaper: Shaper<'a>,
    window: Window,
    path: PathBuf,
    coder: Option<Coder>,
    /// The film's end is reached.
    closed: bool,
    bytes: u64,
}

impl Ear for SoundSink<'_> {
    fn hear(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        self.shaper.push(frame)?;
        self.drain()
    }

    fn input(&self) -> u32 {
        self.shaper.input()
    }

    fn is_full(&self) -> bool {
        self.closed || self.shaper.is_full()
    }

    fn again(&mut self, stream: &Stream) -> Result<bool, Failure> {
        let again = self.shaper.again(stream)?;
        self.drain()?;
        Ok(again)
    }

    fn so_far(&self) -> (u64, u64) {
        let until = |coder: &Coder| rescale(coder.next, coder.time_base, MICROSECONDS);
        (self.bytes, self.coder.as_ref().map_or(0, |coder| u64::try_from(until(coder)).unwrap_or(0)))
    }
}

impl<'a> SoundSink<'a> {
    fn new(
        form: &Form<'a>,
        treatment: Treatment,
        settings: &'a params::Encoder,
        path: PathBuf,
    ) -> Result<SoundSink<'a>, Failure> {
        let shaper = Shaper::new(form, treatment)?;
        Ok(SoundSink { settings, shaper, window: form.window, path, coder: None, closed: false, bytes: 0 })
    }

    /// Opens the encoder for what the filters give.
    fn open(&mut self) -> Result<(), Failure> {
        let Some(out) = self.shaper.sink() else { return Ok(()) };
        let setup =
            AudioSetup { sample_rate: out.sample_rate, format: out.format, channels: out.channels, layout: out.layout };
        let options: Vec<(String, String)> =
            self.settings.options.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
        let encoder = Encoder::audio(self.settings.name, &setup, &options)?;
        let parameters = encoder.parameters().map_err(libav)?;
        let time_base = encoder.time_base();
        let writer = PieceWriter::create(&self.path, &parameters)?;
        let packet = AvPacket::new().map_err(libav)?;
        self.shaper.set_frame_size(encoder.frame_size());
        self.coder = Some(Coder { encoder, time_base, writer, packet, next: 0, samples: 0 });
        Ok(())
    }

    /// Encodes what the filters have ready.
    fn drain(&mut self) -> Result<(), Failure> {
        if self.coder.is_none() {
            self.open()?;
        }
        let (Some(coder), Some(out)) = (&mut self.coder, self.shaper.sink()) else { return Ok(()) };
        let mut frame = Frame::new().map_err(libav)?;
        loop {
            match self.shaper.pull(&mut frame)? {
                Received::One if self.closed => {}
                Received::One => {
                    self.closed = !coder.encode(&mut frame, out.time_base, self.window)?;
                    self.bytes += coder.receive()?;
                }
                Received::Again => return Ok(()),
                Received::End => {
                    self.closed = true;
                    return Ok(());
                }
            }
        }
    }

    /// Flushes filters and encoder.
    fn finish(mut self, stream: &Stream) -> Result<((Summary, Rational), u64), Failure> {
        self.shaper.end(stream)?;
        self.drain()?;
        let mut coder = self.coder.take().expect("opened with the filters");
        coder.encoder.send(None).map_err(libav)?;
        coder.receive()?;
        let summary = coder.writer.finish()?;
        Ok(((summary, coder.time_base), coder.samples))
    }
}

impl Coder {
    /// Gives the encoder a frame; `false` when the film is over before it.
    fn encode(&mut self, frame: &mut Frame, base: Rational, window: Window) -> Result<bool, Failure> {
        let start = rescale(window.start_us.unwrap_or(0), MICROSECONDS, self.time_base);
        let end = window.duration_us.map(|us| rescale(us, MICROSECONDS, self.time_base));
        if end.is_some_and(|end| self.next >= end) {
            return Ok(false);
        }
        let pts = frame.pts().map_or(self.next, |pts| rescale(pts, base, self.time_base) - start);
        frame.set_pts(Some(pts));
        self.next = pts + i64::from(frame.samples());
        self.samples += u64::try_from(frame.samples()).unwrap_or(0);
        self.encoder.send(Some(frame)).map_err(|error| {
            error.failure(Class::Internal, "encode_failed", format!("encoding the sound at sample {pts}"))
        })?;
        Ok(true)
    }

    /// Writes the packets that are ready; answers their bytes.
    fn receive(&mut self) -> Result<u64, Failure> {
        let mut bytes = 0;
        while let Received::One = self.encoder.receive(&mut self.packet).map_err(libav)? {
            let packet = &self.packet;
            bytes += crate::wire::len(packet.data());
            self.writer.write(&Packet {
                pts: packet.pts(),
                dts: packet.dts(),
                duration: packet.duration(),
                key: packet.is_key(),
                flags: packet.flags() & !FLAG_KEY,
                side_data: packet.side_data(),
                data: packet.data().to_vec(),
            })?;
        }
        Ok(bytes)
    }
}
