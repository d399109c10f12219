//! Every packet of the streams in use, read once; and, where packets alone do not tell the frames, every picture decoded.

use spool_proto::call::Jump;
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{AudioCodec, EncodeSpec, OnDamage, Rational};

use crate::Host;
use crate::av::audio::packet_samples;
use crate::av::frame::{Frame, Picture};
use crate::av::input::{Input, Limits, MediaKind, Read};
use crate::av::packet::{FLAG_CORRUPT, FLAG_DISCARD, Packet, SIDE_NEW_EXTRADATA};
use crate::av::{MICROSECONDS, Stream, names, rescale};
use crate::bitstream::Scanner;
use crate::choose::Choice;
use crate::damage::{Damage, seconds};
use crate::decode::{Clock, Frames, no_memory};
use crate::jumps::{JumpScan, Paced, Shift, ShiftSetup, Times};
use crate::packets::{self, PacketFlags, PacketIndex};
use crate::piece::Kind;

/// Packets and frames between two reports of progress.
const REPORT_EVERY: u64 = 256;
/// Bounds the index in memory (56 bytes a packet): 77 hours at 60 frames a second.
const PACKETS_MAX: usize = 1 << 24;

const LEFT_OUT: &str = "it is left out";

/// What the packets tell.
#[derive(Default)]
pub(super) struct Scanned {
    /// `None`: no video in the output.
    pub index: Option<PacketIndex>,
    /// The video stream, when it turned out to hold nothing and the film has sound.
    pub empty: Option<u32>,
    pub warnings: Vec<Warning>,
    jumps: Vec<(usize, Vec<Jump>)>,
}

impl Scanned {
    pub fn jumps_of(&self, stream: u32) -> Vec<Jump> {
        let of = |(index, _): &&(usize, Vec<Jump>)| u32::try_from(*index) == Ok(stream);
        self.jumps.iter().find(of).map(|(_, jumps)| jumps.clone()).unwrap_or_default()
    }
}

/// Reads every packet of the video stream, and of all chosen ones where timestamps may jump; decodes all of the video where packets
/// alone do not tell its frames.
pub(super) fn scan(
    mut input: Input,
    spec: &EncodeSpec,
    choice: &Choice,
    host: &mut dyn Host,
) -> Result<Scanned, Failure> {
    let chosen = choice.streams();
    let offset_us = input.ts_offset_us(&chosen);
    let video = choice.video.and_then(|video| input.streams().get(usize::try_from(video).ok()?).cloned());
    let used: Vec<usize> = match (&video, input.may_jump()) {
        (_, true) => chosen,
        (Some(video), false) => vec![video.index],
        (None, false) => return Ok(Scanned::default()),
    };
    let mut reading = Reading {
        video: video.as_ref().map(|stream| VideoScan::new(stream, offset_us, spec.on_damage)),
        jumps: JumpScan::new(offset_us, paced(&input, spec, &used, offset_us)),
        end_us: None,
        packets: 0,
        bytes: 0,
    };
    // A header that tells only of the whole film is held against all its streams.
    if !video.as_ref().is_some_and(|stream| stream.duration.is_none() && input.header_duration_us().is_some()) {
        input.select(&used);
    }
    reading.all(&mut input, host)?;
    let jumps: Vec<_> = reading.jumps.jumps().collect();
    let (Some(stream), Some(scanned)) = (video, reading.video) else {
        return Ok(Scanned { jumps, ..Scanned::default() });
    };
    if scanned.index.packets.is_empty() && !choice.audio.is_empty() {
        let empty = u32::try_from(stream.index).ok();
        return Ok(Scanned { empty, jumps, ..Scanned::default() });
    }
    if scanned.index.packets.is_empty() {
        return Err(Failure::new(
            Class::Input,
            "no_packets",
            format!("{} has no pictures in it; the file may be cut short", stream.label()),
        ));
    }
    let may_jump = input.may_jump();
    let own =
        jumps.iter().find(|(index, _)| *index == stream.index).map(|(_, jumps)| jumps.clone()).unwrap_or_default();
    let shift = Shift::new(input.shift_of(&stream, offset_us, own));
    let VideoScan { mut index, mut doubts, mut damage, layered, .. } = scanned;
    if let Some(what) = cut_short(&input, &stream, &index.packets, reading.end_us) {
        damage.note(|| what, "what there is was taken")?;
    }
    drop(input);
    doubts.look_at_order(&index.packets, may_jump, &stream);
    if shift.jumps() {
        doubts.add(JUMPS.into());
    }
    index.changes = doubts.changed;
    index.doubts = doubts.list;
    if !index.doubts.is_empty() {
        let clock = Clock::new(&stream, may_jump, shift);
        decode_all(&stream, spec, clock, (&mut index, &mut damage), host)?;
    }
    let mut warnings = damage.into_warnings();
    warnings.extend(undecoded(&stream, layered).map(|(code, text)| Warning {
        code: code.into(),
        stream: Some(index.stream),
        text: text.into(),
    }));
    warnings.extend(index.doubts.iter().map(|doubt| Warning {
        code: "source_doubt".into(),
        stream: Some(index.stream),
        text: format!("{doubt}; every frame was decoded to find their times"),
    }));
    Ok(Scanned { index: Some(index), empty: None, warnings, jumps })
}

/// Without its key, a decoder would make noise of it.
pub(crate) fn encrypted(stream: &str) -> Failure {
    let message = format!("{stream} is encrypted, and its key is not in the file; decrypt the film first");
    Failure::new(Class::Input, "encrypted", message)
}

/// What a stream holds that libav's decoders pass over in silence.
fn undecoded(stream: &Stream, layered: bool) -> Option<(&'static str, &'static str)> {
    let alpha = stream.tags.iter().any(|(key, value)| key.eq_ignore_ascii_case("alpha_mode") && value == "1");
    if alpha {
        return Some((
            "alpha_dropped",
            "its transparency is coded apart, which is not decoded: the pictures are opaque",
        ));
    }
    layered.then_some((
        "layer_dropped",
        "it has a second layer (transparency or a second view), which is not decoded: the film keeps the base layer",
    ))
}

/// A film that ends this much before its header says it does is cut short. Microseconds.
const SHORT_US: i64 = 2_000_000;

/// Whether the file ends long before its own header says. `end_us`: of all packets that were read.
fn cut_short(input: &Input, stream: &Stream, packets: &[packets::Packet], end_us: Option<i64>) -> Option<String> {
    let micros = |ticks: i64| rescale(ticks, stream.time_base, MICROSECONDS);
    let (told, end_us) = match stream.duration.filter(|_| !input.may_jump()) {
        Some(duration) => {
            let end = packets.iter().filter_map(|p| Some(p.pts.or(p.dts)?.saturating_add(p.duration))).max()?;
            (micros(stream.start_pts.unwrap_or(0).saturating_add(duration)), micros(end))
        }
        None => (input.start_us().unwrap_or(0).saturating_add(input.header_duration_us()?), end_us?),
    };
    (told.saturating_sub(end_us) > SHORT_US).then(|| {
        format!(
            "the file ends at {}, though its header says {}: it is cut short, or its header lies",
            seconds(end_us),
            seconds(told)
        )
    })
}

/// What the search for jumps must know of each stream.
fn paced<'a>(
    input: &'a Input,
    spec: &'a EncodeSpec,
    used: &'a [usize],
    offset_us: i64,
) -> impl Iterator<Item = (usize, Paced, ShiftSetup)> + use<'a> {
    let copies_sound = spec.audio.as_ref().is_some_and(|audio| audio.codec == AudioCodec::Copy);
    input.streams().iter().filter(|stream| used.contains(&stream.index)).map(move |stream| {
        let paced = match stream.kind {
            MediaKind::Audio if copies_sound => Paced::Copied,
            MediaKind::Video | MediaKind::Audio => Paced::Decoded,
            _ => Paced::Along,
        };
        (stream.index, paced, input.shift_of(stream, offset_us, Vec::new()))
    })
}

/// How long a packet plays, microseconds; 0 where nothing tells.
fn step_us(input: &Input, packet: &Packet) -> i64 {
    let Some(stream) = input.streams().get(packet.stream()) else { return 0 };
    if let Some(Kind::Audio { sample_rate, .. }) = stream.parameters.as_ref().map(|p| &p.kind)
        && *sample_rate > 0
    {
        let samples = packet_samples(input, stream.index, packet.data().len());
        if samples > 0 {
            return 1_000_000 * i64::from(samples) / i64::from(*sample_rate);
        }
    }
    match (packet.duration(), stream.frame_rate) {
        (duration @ 1.., _) => rescale(duration, stream.time_base, MICROSECONDS),
        (_, Some(rate)) if stream.kind == MediaKind::Video => {
            rescale(1, Rational::new(rate.den, rate.num), MICROSECONDS)
        }
        _ => 0,
    }
}

/// One pass over the file.
struct Reading {
    video: Option<VideoScan>,
    jumps: JumpScan,
    /// When the last packet ends, as demuxed.
    end_us: Option<i64>,
    packets: u64,
    bytes: u64,
}

impl Reading {
    fn all(&mut self, input: &mut Input, host: &mut dyn Host) -> Result<(), Failure> {
        let may_jump = input.may_jump();
        let mut packet = Packet::new().map_err(no_memory)?;
        loop {
            match input.read(&mut packet)? {
                Read::Packet if packet.data().is_empty() => continue,
                Read::Packet => {}
                Read::End => return Ok(()),
                Read::Broken(error) => {
                    if let Some(video) = &mut self.video {
                        let after = video.index.packets.len();
                        let what = || format!("the file breaks off after packet {after} ({error})");
                        video.damage.note(what, "what came before is kept")?;
                        video.doubts.add("the file cannot be read to its end".into());
                    }
                    return Ok(());
                }
            }
            if let (Some(stream), Some(at)) = (input.streams().get(packet.stream()), packet.pts().or(packet.dts())) {
                let end = rescale(at.saturating_add(packet.duration()), stream.time_base, MICROSECONDS);
                self.end_us = self.end_us.max(Some(end));
            }
            if may_jump {
                let times = Times { pts: packet.pts(), dts: packet.dts() };
                self.jumps.packet(packet.stream(), times, step_us(input, &packet))?;
            }
            if let Some(video) = self.video.as_mut().filter(|video| video.stream == packet.stream()) {
                video.take(&packet)?;
            }
            self.packets += 1;
            self.bytes += u64::try_from(packet.data().len()).unwrap_or(0);
            if self.packets.is_multiple_of(REPORT_EVERY) {
                host.progress(self.packets, self.bytes, 0);
            }
        }
    }
}

/// The video stream's packets, gathered.
struct VideoScan {
    stream: usize,
    label: String,
    scanner: Scanner,
    index: PacketIndex,
    doubts: Doubts,
    damage: Damage,
    /// There is more in its packets than libav decodes.
    layered: bool,
}

impl VideoScan {
    fn new(stream: &Stream, ts_offset_us: i64, on_damage: OnDamage) -> VideoScan {
        let number = u32::try_from(stream.index).unwrap_or(u32::MAX);
        let index = PacketIndex {
            stream: number,
            time_base: stream.time_base,
            frame_rate: stream.frame_rate,
            ts_offset_us,
            start_pts: stream.start_pts,
            packets: Vec::new(),
            doubts: Vec::new(),
            decoded: None,
            changes: false,
        };
        VideoScan {
            stream: stream.index,
            label: stream.label(),
            scanner: Scanner::new(&stream.codec, &stream.extradata, names::is_intra_only(&stream.codec)),
            index,
            doubts: Doubts::default(),
            damage: Damage::new(number, on_damage),
            layered: false,
        }
    }

    fn take(&mut self, packet: &Packet) -> Result<(), Failure> {
        if self.index.packets.len() >= PACKETS_MAX {
            return Err(Failure::new(
                Class::Input,
                "too_many_packets",
                format!("{} has more than {PACKETS_MAX} packets; cut the film", self.label),
            ));
        }
        if packet.is_encrypted() {
            return Err(encrypted(&self.label));
        }
        self.layered |= self.index.packets.is_empty() && self.scanner.has_layers(packet.data());
        let seen = self.scanner.look(packet.data(), packet.is_key());
        let flags = packet.flags();
        if seen.changed {
            self.doubts.changed = true;
            self.doubts.add("its parameter sets change on the way".into());
        }
        if packet.side_data().iter().any(|(kind, _)| *kind == SIDE_NEW_EXTRADATA) {
            self.doubts.changed = true;
            self.doubts.add("its codec settings change on the way".into());
        }
        if flags & FLAG_CORRUPT != 0 {
            let (packet, at) = (self.index.packets.len(), packet.pts().or(packet.dts()));
            let at = at.map_or(String::new(), |at| {
                let us = rescale(at, self.index.time_base, MICROSECONDS).saturating_add(self.index.ts_offset_us);
                format!(" at {}", seconds(us))
            });
            self.damage.note(|| format!("packet {packet}{at} is damaged"), "it was decoded as well as can be")?;
        }
        self.index.packets.push(packets::Packet {
            pts: packet.pts(),
            dts: packet.dts(),
            duration: packet.duration(),
            bytes: u32::try_from(packet.data().len()).unwrap_or(u32::MAX),
            position: packet.position(),
            flags: PacketFlags {
                key: packet.is_key(),
                closed: seen.closed,
                recovers: seen.recovers,
                discard: flags & FLAG_DISCARD != 0 || seen.hidden,
                corrupt: flags & FLAG_CORRUPT != 0,
            },
        });
        Ok(())
    }
}

/// A step of dts that a format with jumps does not make without one. Seconds; ffmpeg's `dts_delta_threshold`.
const JUMP_SECONDS: i64 = 10;

const JUMPS: &str = "its timestamps jump";

/// Why the packet list is not the frame list; each reason once.
#[derive(Debug, Default)]
struct Doubts {
    list: Vec<String>,
    changed: bool,
}

impl Doubts {
    fn add(&mut self, doubt: String) {
        if !self.list.contains(&doubt) {
            self.list.push(doubt);
        }
    }

    fn look_at_order(&mut self, packets: &[packets::Packet], may_jump: bool, stream: &Stream) {
        if packets.iter().any(|p| p.flags.corrupt) {
            self.add("packets are damaged".into());
        }
        // Edit lists are libav's: packets to be thrown away need no time of their own.
        let shown = || packets.iter().filter(|p| !p.flags.discard);
        if shown().any(|p| p.pts.is_none()) {
            self.add("packets carry no presentation time (old AVI, or field pictures)".into());
        }
        let mut times: Vec<i64> = shown().filter_map(|p| p.pts).collect();
        times.sort_unstable();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            self.add("presentation times repeat".into());
        }
        let first = packets.first().copied().unwrap_or_default();
        let clean = first.flags.closed || first.flags.recovers;
        let codec = stream.codec.as_str();
        // The bitstream of the first two tells what a container's flag only claims.
        let doubtful = if matches!(codec, "h264" | "hevc") { !clean } else { !clean && !first.flags.key };
        if doubtful && !matches!(codec, "h263" | "flv1" | "mpeg4") {
            self.add("it does not begin with a clean keyframe".into());
        } else if shown().any(|p| p.pts < first.pts) {
            self.add("pictures before its first keyframe cannot be decoded".into());
        }
        let second = i64::from(stream.time_base.den) / i64::from(stream.time_base.num.max(1));
        let jumps = |pair: [i64; 2]| pair[1] < pair[0] || pair[1] - pair[0] > JUMP_SECONDS * second;
        let dts: Vec<i64> = packets.iter().filter_map(|p| p.dts).collect();
        if may_jump && dts.windows(2).any(|pair| jumps([pair[0], pair[1]])) {
            self.add(JUMPS.into());
        }
    }
}

/// Decodes the stream from start to end, and keeps every frame's time as the ffmpeg program would see it.
fn decode_all(
    stream: &Stream,
    spec: &EncodeSpec,
    clock: Clock,
    scanned: (&mut PacketIndex, &mut Damage),
    host: &mut dyn Host,
) -> Result<(), Failure> {
    let (index, damage) = scanned;
    let input = Input::open(host.open(0)?, &Limits::default())?;
    // The times of frames do not depend on the threads; a probe has the machine's other cores to itself.
    let threads = u16::try_from(crate::process::cores().min(16)).unwrap_or(1);
    let mut frames = Frames::new(input, stream.index, threads, Some(clock))?;
    let mut frame = Frame::new().map_err(no_memory)?;
    let mut decoded: Vec<(i64, i64)> = Vec::new();
    let mut shape: Option<Picture> = None;
    let (mut errors, mut last_us) = (0, 0);
    loop {
        let found = frames.next(&mut frame)?;
        for _ in errors..frames.errors() {
            damage.note(|| format!("a packet near {} cannot be decoded", seconds(last_us)), LEFT_OUT)?;
        }
        errors = frames.errors();
        let Some(found) = found else { break };
        last_us = found
            .pts
            .map_or(last_us, |pts| rescale(pts, stream.time_base, MICROSECONDS).saturating_add(index.ts_offset_us));
        // What is concealed is told where it is encoded.
        if frame.is_damaged() && spec.on_damage == OnDamage::Fail {
            damage.note(|| format!("the picture at {} is damaged", seconds(last_us)), "it was concealed")?;
        }
        let picture = frame.picture_shape();
        if shape.as_ref().is_some_and(|shape| *shape != picture) {
            index.changes = true;
            let change = "picture size or format changes on the way".to_owned();
            if !index.doubts.contains(&change) {
                index.doubts.push(change);
            }
        }
        shape = Some(picture);
        // ffmpeg's filters drop a frame whose time nobody knows.
        if let Some(pts) = found.pts {
            decoded.push((pts, found.duration));
        }
        let count = u64::try_from(decoded.len()).unwrap_or(0);
        if count.is_multiple_of(REPORT_EVERY) {
            host.progress(count, 0, 0);
        }
        if decoded.len() >= PACKETS_MAX {
            break;
        }
    }
    if decoded.is_empty() {
        return Err(Failure::new(
            Class::Input,
            "undecodable",
            format!("no picture of {} can be decoded for {}", stream.label(), spec.output),
        ));
    }
    index.decoded = Some(decoded);
    Ok(())
}
