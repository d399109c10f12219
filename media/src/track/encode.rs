//! Sound decoded, filtered and encoded in one go: priming and padding allow no seams.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use spool_proto::call::TrackArgs;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{AudioSpec, Rational};

use super::clock::Clock;
use super::{Made, Window, open, product};
use crate::av::audio::{default_layout, guess_layout, rescale_delta};
use crate::av::codec::Decoder;
use crate::av::encoder::{Abilities, AudioSetup, Encoder, abilities};
use crate::av::frame::Frame;
use crate::av::graph::{Feed, Graph, Step};
use crate::av::input::{MediaKind, Read, Stream};
use crate::av::packet::{FLAG_CORRUPT, FLAG_KEY, Packet as AvPacket};
use crate::av::{AvError, MICROSECONDS, Received, names, rescale};
use crate::damage::{Damage, seconds};
use crate::jumps::Times;
use crate::piece::{Kind, Packet, PieceWriter};
use crate::probe::scan::encrypted;
use crate::{Host, Product, params};

pub fn run(
    args: &TrackArgs,
    asked: &AudioSpec,
    encoder: &params::Encoder,
    host: &mut dyn Host,
) -> Result<Product, Failure> {
    let (mut input, clock) = open(args, MediaKind::Audio, host)?;
    let index = usize::try_from(args.stream).expect("checked when opened");
    let stream = input.streams()[index].clone();
    let mut decoder = Decoder::open(&input, index, 1)?;
    let mut listener = Listener { clock, last_delta: None, last_pts: None, decoded: 0 };
    let path = host.scratch().join("track");
    let mut sink = SoundSink::new(asked, encoder, Window::new(&args.spec.trim), path.clone())?;
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
        listener.decode(&mut decoder, given, stream.time_base, &mut damage, &mut |frame| sink.frame(frame))?;
        host.progress(0, sink.bytes, sink.out_time_us());
        if !more || sink.closed {
            break;
        }
    }
    let decoded = listener.decoded;
    let (summary, units) = sink.finish(&stream)?;
    let time_base = summary.1;
    let made = Made { summary: summary.0, time_base, units, decoded, entry: "linear" };
    Ok(product(args, made, path, damage.into_warnings()))
}

fn libav(error: AvError) -> Failure {
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

// ---- filtering and encoding ----

/// What a graph was built for.
#[derive(PartialEq, Eq, Clone)]
struct Sound {
    sample_rate: i32,
    format: i32,
    layout: String,
}

impl Sound {
    fn of(frame: &Frame) -> Sound {
        Sound { sample_rate: frame.sample_rate(), format: frame.format(), layout: frame.channel_layout() }
    }
}

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
    asked: &'a AudioSpec,
    settings: &'a params::Encoder,
    abilities: Abilities,
    window: Window,
    path: PathBuf,
    graph: Option<(Sound, Graph)>,
    coder: Option<Coder>,
    /// The film's end is reached.
    closed: bool,
    bytes: u64,
}

impl<'a> SoundSink<'a> {
    fn new(
        asked: &'a AudioSpec,
        settings: &'a params::Encoder,
        window: Window,
        path: PathBuf,
    ) -> Result<SoundSink<'a>, Failure> {
        let abilities = abilities(settings.name)?;
        Ok(SoundSink { asked, settings, abilities, window, path, graph: None, coder: None, closed: false, bytes: 0 })
    }

    fn out_time_us(&self) -> u64 {
        self.coder
            .as_ref()
            .map_or(0, |coder| u64::try_from(rescale(coder.next, coder.time_base, MICROSECONDS)).unwrap_or(0))
    }

    fn frame(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        guess_layout(frame);
        let sound = Sound::of(frame);
        if self.graph.as_ref().is_none_or(|(of, _)| *of != sound) {
            self.open(sound)?;
        }
        let Some((_, graph)) = &mut self.graph else { return Ok(()) };
        match graph.push(Some(frame)) {
            // The trim filter takes nothing more.
            Ok(()) | Err(AvError::END) => {}
            Err(error) => return Err(libav(error)),
        }
        self.drain()
    }

    /// Builds the graph for this sound, anew when it changes, and at the first time the encoder. What the old graph still held is
    /// dropped, as ffmpeg drops it.
    fn open(&mut self, sound: Sound) -> Result<(), Failure> {
        let feed = Feed::Audio {
            sample_rate: sound.sample_rate,
            format: names::sample_format(sound.format).unwrap_or_default(),
            layout: sound.layout.clone(),
            time_base: Rational::new(1, sound.sample_rate.max(1)),
        };
        let mut graph = Graph::new(&feed, &self.steps(), 1)?;
        if self.coder.is_none() {
            let out = graph.sink();
            let setup = AudioSetup {
                sample_rate: out.sample_rate,
                format: out.format,
                channels: out.channels,
                layout: out.layout,
            };
            let options: Vec<(String, String)> =
                self.settings.options.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
            let encoder = Encoder::audio(self.settings.name, &setup, &options)?;
            let parameters = encoder.parameters().map_err(libav)?;
            let time_base = encoder.time_base();
            let writer = PieceWriter::create(&self.path, &parameters)?;
            let packet = AvPacket::new().map_err(libav)?;
            self.coder = Some(Coder { encoder, time_base, writer, packet, next: 0, samples: 0 });
        }
        if let Some(coder) = &self.coder
            && !self.abilities.any_frame_size
        {
            graph.set_frame_size(u32::try_from(coder.encoder.frame_size()).unwrap_or(0));
        }
        self.graph = Some((sound, graph));
        Ok(())
    }

    /// What ffmpeg puts between decoder and encoder: a format the encoder takes, then the trim.
    fn steps(&self) -> Vec<Step> {
        let list = |items: Vec<String>| items.join("|");
        let mut args = Vec::new();
        if !self.abilities.sample_formats.is_empty() {
            let formats = self.abilities.sample_formats.iter().filter_map(|format| names::sample_format(*format));
            args.push(format!("sample_fmts={}", list(formats.collect())));
        }
        match self.asked.sample_rate_hz {
            Some(rate) => args.push(format!("sample_rates={rate}")),
            None if self.abilities.sample_rates.is_empty() => {}
            None => {
                let rates = self.abilities.sample_rates.iter().map(ToString::to_string);
                args.push(format!("sample_rates={}", list(rates.collect())));
            }
        }
        let mask = |mask: u64| format!("{mask:#x}");
        match self.asked.channels {
            Some(channels) => args.push(format!("channel_layouts={}", mask(self.layout_of(channels)))),
            None if self.abilities.layouts.is_empty() => {}
            None => {
                let layouts = self.abilities.layouts.iter().map(|layout| mask(*layout));
                args.push(format!("channel_layouts={}", list(layouts.collect())));
            }
        }
        let mut steps = Vec::new();
        if !args.is_empty() {
            steps.push(Step::new("aformat", args.join(":")));
        }
        let trim: Vec<String> = [("durationi", self.window.duration_us), ("starti", self.window.start_us)]
            .into_iter()
            .filter_map(|(name, us)| us.map(|us| format!("{name}={us}us")))
            .collect();
        if !trim.is_empty() {
            steps.push(Step::new("atrim", trim.join(":")));
        }
        steps
    }

    /// The first layout of the encoder's own list with so many channels, else the usual one.
    fn layout_of(&self, channels: u16) -> u64 {
        let channels = i32::from(channels);
        let count = |mask: &&u64| i32::try_from(mask.count_ones()) == Ok(channels);
        self.abilities.layouts.iter().find(count).copied().unwrap_or_else(|| default_layout(channels))
    }

    /// Encodes what the graph has ready.
    fn drain(&mut self) -> Result<(), Failure> {
        let (Some((_, graph)), Some(coder)) = (&mut self.graph, &mut self.coder) else { return Ok(()) };
        let base = graph.sink().time_base;
        let mut frame = Frame::new().map_err(libav)?;
        loop {
            match graph.pull(&mut frame).map_err(libav)? {
                Received::One if self.closed => {}
                Received::One => {
                    self.closed = !coder.encode(&mut frame, base, self.window)?;
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

    /// Flushes graph and encoder.
    fn finish(mut self, stream: &Stream) -> Result<((crate::piece::Summary, Rational), u64), Failure> {
        if self.graph.is_none() {
            // Nothing could be decoded: an empty track, if at least its format is known.
            self.open(told(stream)?)?;
        }
        if let Some((_, graph)) = &mut self.graph {
            match graph.push(None) {
                Ok(()) | Err(AvError::END) => {}
                Err(error) => return Err(libav(error)),
            }
        }
        self.drain()?;
        let mut coder = self.coder.take().expect("opened with the graph");
        coder.encoder.send(None).map_err(libav)?;
        coder.receive()?;
        let summary = coder.writer.finish()?;
        Ok(((summary, coder.time_base), coder.samples))
    }
}

/// The format a stream claims to have.
fn told(stream: &Stream) -> Result<Sound, Failure> {
    match stream.parameters.as_ref().map(|parameters| &parameters.kind) {
        Some(Kind::Audio { sample_rate, format, layout, channels, .. })
            if *sample_rate > 0 && *format >= 0 && *channels > 0 =>
        {
            let mask = if *layout == 0 { default_layout(*channels) } else { *layout };
            Ok(Sound { sample_rate: *sample_rate, format: *format, layout: format!("{mask:#x}") })
        }
        _ => {
            let message =
                format!("{} holds no sound that can be decoded; leave it out with -map or -an", stream.label());
            Err(Failure::new(Class::Input, "no_sound", message))
        }
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
