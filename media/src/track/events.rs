//! Subtitles read event by event, on the film's clock.

use spool_proto::call::TrackArgs;
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{EncodeSpec, OnDamage};

use super::Window;
use super::clock::Clock;
use crate::Host;
use crate::av::AvError;
use crate::av::input::{Input, MediaKind, Read};
use crate::av::packet::{FLAG_CORRUPT, Packet};
use crate::av::subtitle::{Decoder, Event};
use crate::damage::Damage;
use crate::jumps::Times;

/// A source whose stream `index` is to be read.
#[derive(Debug)]
pub struct Opened {
    pub input: Input,
    pub clock: Clock,
    pub index: usize,
    pub window: Window,
    pub on_damage: OnDamage,
}

pub fn window(spec: &EncodeSpec) -> Window {
    Window::new(&spec.trim)
}

pub fn open(args: &TrackArgs, kind: MediaKind, host: &mut dyn Host) -> Result<Opened, Failure> {
    let (input, clock) = super::open(args, kind, host)?;
    let index = usize::try_from(args.stream).expect("checked when opened");
    Ok(Opened { input, clock, index, window: window(&args.spec), on_damage: args.spec.on_damage })
}

/// Takes an event, its time in microseconds on the film's clock, and the packet it came in.
pub type Take<'a> = dyn FnMut(&Decoder, Event, i64, &Packet) -> Result<(), Failure> + 'a;

/// Gives every event between `-ss` and the end to `take`, empty ones too; answers warnings about damage. As in ffmpeg the start is judged
/// by the packet's time, the end by the event's.
pub fn read(opened: Opened, host: &mut dyn Host, take: &mut Take<'_>) -> Result<Vec<Warning>, Failure> {
    let Opened { mut input, mut clock, index, window, on_damage } = opened;
    let libav = |error: AvError| error.failure(Class::Internal, "libav", "working on subtitles");
    let mut decoder = Decoder::open(&input, index)?;
    let mut damage = Damage::new(u32::try_from(index).unwrap_or(u32::MAX), on_damage);
    let mut packet = Packet::new().map_err(libav)?;
    let mut packets = 0u64;
    loop {
        match input.read(&mut packet)? {
            Read::Packet if packet.stream() != index => continue,
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
        packets += 1;
        if packet.flags() & FLAG_CORRUPT != 0 {
            damage.note(
                || format!("packet {packets} is marked corrupt by the demuxer"),
                "it was read as well as can be",
            )?;
        }
        host.progress(0, 0, u64::try_from(clock.pts_us()).unwrap_or(0));
        let event = match decode(&mut decoder, &mut clock, &mut packet) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            Err(AvError::NO_MEMORY) => return Err(libav(AvError::NO_MEMORY)),
            Err(error) => {
                damage.note(|| format!("subtitle packet {packets} cannot be read ({error})"), "it is left out")?;
                continue;
            }
        };
        let Some(pts_us) = event.pts_us() else {
            damage.note(|| format!("subtitle packet {packets} has no time"), "it is left out")?;
            continue;
        };
        let start_us = window.start_us.unwrap_or(0);
        if window.start_us.is_some() && clock.pts_us() < start_us {
            continue;
        }
        let pts_us = pts_us.saturating_sub(start_us);
        if window.duration_us.is_some_and(|length| pts_us >= length) {
            break;
        }
        take(&decoder, event, pts_us, &packet)?;
    }
    Ok(damage.into_warnings())
}

fn decode(decoder: &mut Decoder, clock: &mut Clock, packet: &mut Packet) -> Result<Option<Event>, AvError> {
    let times = clock.packet(Times { pts: packet.pts(), dts: packet.dts() }, false);
    packet.set_times(times.pts, times.dts, packet.duration());
    clock.settle();
    decoder.decode(packet)
}
