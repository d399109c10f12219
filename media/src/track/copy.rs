//! `-c copy`: packets as they are, on the film's clock.

use spool_proto::call::TrackArgs;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Container, Rational};

use super::clock::Clock;
use super::{Made, Window, open, product};
use crate::av::audio::{packet_samples, rescale_delta};
use crate::av::input::{Input, MediaKind, Read, Stream};
use crate::av::packet::{FLAG_CORRUPT, FLAG_KEY, Packet as AvPacket};
use crate::av::{MICROSECONDS, output, rescale};
use crate::damage::Damage;
use crate::jumps::Times;
use crate::piece::{Kind, Packet, Parameters, PieceWriter};
use crate::probe::scan::encrypted;
use crate::{Host, Product};

pub fn run(args: &TrackArgs, kind: MediaKind, host: &mut dyn Host) -> Result<Product, Failure> {
    let (mut input, clock) = open(args, kind, host)?;
    let index = usize::try_from(args.stream).expect("checked when opened");
    let stream = input.streams()[index].clone();
    let parameters = parameters(&stream, args.spec.container)?;
    if !output::takes(args.spec.container, &parameters.codec) {
        let message = format!(
            "{} cannot be copied into {:?}: the container does not take it; choose another container{}",
            stream.label(),
            args.spec.container,
            if kind == MediaKind::Audio { " or an audio encoder" } else { " or leave subtitles out (-sn)" }
        );
        let code = if kind == MediaKind::Audio { "audio_refused" } else { "subtitles_refused" };
        return Err(Failure::new(Class::Spec, code, message));
    }
    let path = host.scratch().join("track");
    let mut writer = PieceWriter::create(&path, &parameters)?;
    let mut copier = Copier::new(clock, &stream, &parameters, Window::new(&args.spec.trim));
    let mut damage = Damage::new(args.stream, args.spec.on_damage);
    let mut packet = AvPacket::new().map_err(|error| error.failure(Class::Internal, "libav", "reading packets"))?;
    let (mut packets, mut bytes) = (0u64, 0u64);
    loop {
        match input.read(&mut packet)? {
            Read::Packet if packet.stream() != index || packet.data().is_empty() => continue,
            Read::Packet => {}
            Read::End => break,
            Read::Broken(error) => {
                damage.note(
                    || format!("the source breaks off after packet {packets} ({error})"),
                    "what came before is kept",
                )?;
                break;
            }
        }
        if packet.is_encrypted() {
            return Err(encrypted(&stream.label()));
        }
        packets += 1;
        if packet.flags() & FLAG_CORRUPT != 0 {
            damage.note(|| format!("packet {packets} is marked corrupt by the demuxer"), "it was copied as it is")?;
        }
        match copier.take(&input, &packet) {
            Taken::Skip => {}
            Taken::Stop => break,
            Taken::Write(copy) => {
                bytes += crate::wire::len(&copy.data);
                writer.write(&copy)?;
            }
        }
        host.progress(0, bytes, u64::try_from(copier.clock.pts_us()).unwrap_or(0));
    }
    let units = match parameters.kind {
        Kind::Audio { sample_rate, .. } if sample_rate > 0 => {
            let ticks = rescale(copier.length, parameters.time_base, Rational::new(1, sample_rate));
            u64::try_from(ticks).unwrap_or(0)
        }
        _ => copier.written,
    };
    let summary = writer.finish()?;
    let made = Made { summary, time_base: parameters.time_base, units, decoded: 0, entry: "copy", loudness: None };
    Ok(product(args, made, path, damage.into_warnings()))
}

/// Codec parameters as ffmpeg hands them to the muxer of a copied stream, in the timebase that its container will keep.
fn parameters(stream: &Stream, container: Container) -> Result<Parameters, Failure> {
    let mut parameters = stream.parameters.clone().ok_or_else(|| {
        Failure::new(Class::Input, "not_copyable", format!("{} is neither sound nor subtitles", stream.label()))
    })?;
    parameters.time_base = match (&parameters.kind, container) {
        (_, Container::Mkv | Container::Webm) => Rational::new(1, 1000),
        (Kind::Audio { sample_rate, .. }, _) if *sample_rate > 0 => Rational::new(1, *sample_rate),
        _ => parameters.time_base,
    };
    if let Kind::Audio { block_align, .. } = &mut parameters.kind {
        // Left over from containers that count blocks; it would be wrong in others.
        let blocks = parameters.codec == "mp3" && matches!(*block_align, 1 | 576 | 1152);
        if blocks || parameters.codec == "ac3" {
            *block_align = 0;
        }
    }
    Ok(parameters)
}

enum Taken {
    Write(Packet),
    Skip,
    /// The film ends before this packet.
    Stop,
}

struct Copier {
    clock: Clock,
    window: Window,
    /// The source's and the piece's.
    from: Rational,
    to: Rational,
    /// Rate and nominal packet length of sound; `None` for subtitles.
    sound: Option<(i32, i32)>,
    index: usize,
    last_delta: Option<i64>,
    started: bool,
    written: u64,
    /// Sum of durations, in `to`.
    length: i64,
}

impl Copier {
    fn new(clock: Clock, stream: &Stream, parameters: &Parameters, window: Window) -> Copier {
        let sound = match parameters.kind {
            Kind::Audio { sample_rate, frame_size, .. } if sample_rate > 0 => Some((sample_rate, frame_size)),
            _ => None,
        };
        Copier {
            clock,
            window,
            from: stream.time_base,
            to: parameters.time_base,
            sound,
            index: stream.index,
            last_delta: None,
            started: false,
            written: 0,
            length: 0,
        }
    }

    fn take(&mut self, input: &Input, packet: &AvPacket) -> Taken {
        let times = self.clock.packet(Times { pts: packet.pts(), dts: packet.dts() }, true);
        let step_us = match self.sound {
            Some((rate, size)) => 1_000_000 * i64::from(size) / i64::from(rate),
            None => 0,
        };
        self.clock.copied(step_us);
        let start_us = self.window.start_us.unwrap_or(0);
        if self.window.start_us.is_some() && self.clock.pts_us() < start_us {
            return Taken::Skip;
        }
        if !self.started && packet.flags() & FLAG_KEY == 0 {
            return Taken::Skip;
        }
        if self.window.duration_us.is_some_and(|length| self.clock.pts_us() >= start_us.saturating_add(length)) {
            return Taken::Stop;
        }
        let start = rescale(start_us, MICROSECONDS, self.to);
        let mut pts = times.pts.map(|pts| rescale(pts, self.from, self.to) - start);
        let dts = match (times.dts, self.sound) {
            (None, _) => rescale(self.clock.dts_us(), MICROSECONDS, self.to),
            (Some(dts), Some((rate, size))) => {
                let told = packet_samples(input, self.index, packet.data().len());
                let samples = if told == 0 { size } else { told };
                let sample = Rational::new(1, rate);
                let dts = rescale_delta(self.from, dts, sample, samples, &mut self.last_delta, self.to);
                pts = Some(dts - start);
                dts
            }
            (Some(dts), None) => rescale(dts, self.from, self.to),
        };
        let duration = rescale(packet.duration(), self.from, self.to);
        self.started = true;
        self.written += 1;
        self.length += duration;
        Taken::Write(Packet {
            pts,
            dts: Some(dts - start),
            duration,
            key: packet.is_key(),
            flags: packet.flags() & !FLAG_KEY,
            side_data: packet.side_data(),
            data: packet.data().to_vec(),
        })
    }
}
