//! Two films, frame by frame, by number. Times are not looked at: containers round them differently.

use std::cmp::Ordering;

use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::quality::Metric;

use super::compare::{Comparer, Upright};
use super::scores::ScoreTable;
use super::{Compared, REPORT_EVERY};
use crate::Host;
use crate::av::frame::Frame;
use crate::av::input::{Input, Limits, MediaKind};
use crate::av::{MICROSECONDS, rescale};
use crate::decode::{Decoded, Frames, no_memory};

/// What is to be compared.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Of reference and distorted. `None`: the first video stream.
    pub streams: [Option<u32>; 2],
    /// Half-open.
    pub frames: Option<(u64, u64)>,
    pub shortest: bool,
}

/// One of the two films.
struct Side {
    name: &'static str,
    frames: Frames,
    frame: Frame,
    count: u64,
}

impl Side {
    fn open(
        name: &'static str,
        input: usize,
        stream: Option<u32>,
        threads: u16,
        host: &mut dyn Host,
    ) -> Result<Side, Failure> {
        let opened = Input::open(host.open(input)?, &Limits::default()).map_err(|mut failure| {
            failure.message = format!("the {name}: {}", failure.message);
            failure
        })?;
        let found = match stream {
            Some(index) => opened.streams().get(usize::try_from(index).unwrap_or(usize::MAX)),
            None => opened.streams().iter().find(|s| s.kind == MediaKind::Video && !s.is_attached_picture()),
        };
        let index = match (found, stream) {
            (Some(found), _) if found.kind == MediaKind::Video => found.index,
            (Some(found), _) => {
                let message = format!("the {name}'s {} is no video; choose another with --stream", found.label());
                return Err(Failure::new(Class::Input, "wrong_stream", message));
            }
            (None, Some(index)) => {
                let message = format!("the {name} has {} streams, there is no {index}", opened.streams().len());
                return Err(Failure::new(Class::Input, "no_such_stream", message));
            }
            (None, None) => {
                return Err(Failure::new(Class::Input, "no_video_stream", format!("the {name} has no video stream")));
            }
        };
        let frames = Frames::new(opened, index, threads, None)?;
        Ok(Side { name, frames, frame: Frame::new().map_err(no_memory)?, count: 0 })
    }

    fn next(&mut self) -> Result<Option<Decoded>, Failure> {
        let found = self.frames.next(&mut self.frame)?;
        self.count += u64::from(found.is_some());
        Ok(found)
    }

    fn upright(&self) -> Upright {
        Upright::ByMatrix(self.frames.stream().matrix())
    }

    fn damage(&self) -> Option<Warning> {
        let errors = self.frames.errors();
        (errors > 0).then(|| Warning {
            code: "damaged_frames".into(),
            stream: u32::try_from(self.frames.stream().index).ok(),
            text: format!("the {}: {errors} packets could not be decoded; frames may be missing or wrong", self.name),
        })
    }
}

pub fn compare(asked: &Asked, metrics: Vec<Metric>, threads: u16, host: &mut dyn Host) -> Result<Compared, Failure> {
    let mut reference = Side::open("reference", 0, asked.streams[0], threads, host)?;
    let mut distorted = Side::open("distorted film", 1, asked.streams[1], threads, host)?;
    let mut comparer = Comparer::new(metrics, [reference.upright(), distorted.upright()])?;
    let (from, until) = asked.frames.unwrap_or((0, u64::MAX));
    let time_base = reference.frames.stream().time_base;
    let mut start = None;
    let mut rows = Vec::new();
    let mut warnings = Vec::new();
    let mut time_us = 0;
    loop {
        if reference.count.min(distorted.count) >= until {
            break;
        }
        let (expected, found) = (reference.next()?, distorted.next()?);
        if reference.count.is_multiple_of(REPORT_EVERY) {
            host.progress(reference.count, 0, u64::try_from(time_us).unwrap_or(0));
        }
        let (Some(expected), Some(_)) = (expected, found) else {
            if expected.is_some() != found.is_some() {
                warnings.push(unequal(asked, &mut reference, &mut distorted, host)?);
            }
            break;
        };
        if let Some(pts) = expected.pts {
            let start = *start.get_or_insert(pts);
            time_us = rescale(pts.saturating_sub(start), time_base, MICROSECONDS);
        }
        if reference.count > from {
            rows.push(comparer.score(&mut reference.frame, &mut distorted.frame, time_us)?);
        }
    }
    warnings.extend([reference.damage(), distorted.damage()].into_iter().flatten());
    let (metrics, planes, first) = comparer.finish();
    let Some([like, unlike]) = first else {
        let has = reference.count.min(distorted.count);
        let message = format!("there is nothing to compare: both films have {has} frames in common, from frame 0 on");
        return Err(Failure::new(Class::Spec, "no_frames", message));
    };
    let table = ScoreTable { first_frame: from, planes, metrics, frames: rows };
    Ok(Compared { table, reference: like, distorted: unlike, warnings })
}

/// One film goes on where the other has ended: an error that says how many frames each has, or the warning for who asked for what
/// both have.
fn unequal(asked: &Asked, reference: &mut Side, distorted: &mut Side, host: &mut dyn Host) -> Result<Warning, Failure> {
    for side in [&mut *reference, &mut *distorted] {
        while side.next()?.is_some() {
            if side.count.is_multiple_of(REPORT_EVERY) {
                host.progress(side.count, 0, 0);
            }
        }
    }
    let counts = format!("the reference has {} frames, the distorted film {}", reference.count, distorted.count);
    if asked.shortest {
        let common = reference.count.min(distorted.count);
        return Ok(Warning {
            code: "frame_counts_differ".into(),
            stream: None,
            text: format!("{counts}: the first {common} of both are compared"),
        });
    }
    let likely = match reference.count.cmp(&distorted.count) {
        Ordering::Greater => "frames are missing, or were dropped on purpose",
        _ => "frames were added or repeated",
    };
    let message = format!("{counts}: {likely}; --shortest compares what both have, --frames a part");
    Err(Failure::new(Class::Spec, "frame_counts_differ", message))
}
