//! `media.images`: pictures taken from a film: a poster, thumbnails, sprite sheets with the WebVTT track that players read.
//!
//! A film is not decoded as a whole: each picture is sought, and what lies between two is decoded only where that is shorter. Pictures
//! are turned and stretched to how the film is shown. Memory: one picture, one sheet.

mod choose;
mod draw;
mod shots;
mod sprites;

use spool_proto::call::{ImageFile, ImageKind, ImagesArgs, ImagesManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{Container, EncodeSpec, ImageSpec, Poster, VideoCodec, VideoSpec};

use crate::av::input::{Input, Limits};
use crate::choose::choose;
use crate::{Host, Product, probe, scratch_failed};
use draw::{Painter, Pen};
use shots::Shots;
use sprites::Sheets;

/// Most pictures of one call: a sheet every 2.5 s of a day, or a thumbnail a second of ten hours.
const PICTURES_MAX: i64 = 36_000;

/// Leaves each picture as an artifact of its file's name.
///
/// # Errors
/// Class input: `no_video_stream`, `no_frames`, and those of decoding; class spec: `too_many_images`.
pub fn run(args: &ImagesArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    args.spec.check()?;
    let source = host.open(0)?;
    let bytes = source.len();
    let input = Input::open(source, &Limits::default())?;
    let stream = match args.stream {
        Some(stream) => stream,
        None => best_video(&input, bytes)?,
    };
    let mut album = Album { spec: &args.spec, host, files: Vec::new(), paths: Vec::new(), warnings: Vec::new() };
    let mut shots = Shots::open(input, stream)?;
    if let Some(poster) = &args.spec.poster {
        album.poster(&mut shots, poster)?;
    }
    album.thumbnails(&mut shots)?;
    album.sprites(&mut shots)?;
    if shots.errors() > 0 {
        let text = format!("{} packets of the film could not be decoded", shots.errors());
        album.warnings.push(Warning { code: "damaged_source".into(), stream: Some(stream), text });
    }
    let Album { files, paths, warnings, .. } = album;
    Ok(Product { files: paths, warnings, value: Value::Images(ImagesManifest { files }) })
}

/// The stream an encode would take.
fn best_video(input: &Input, bytes: u64) -> Result<u32, Failure> {
    let mut spec = EncodeSpec::new("", "", Container::Mkv);
    spec.video = Some(VideoSpec::new(VideoCodec::Libx264));
    choose(&probe::facts(input, bytes), &spec)?
        .video
        .ok_or_else(|| Failure::new(Class::Input, "no_video_stream", "the source has no video to take pictures of"))
}

/// The pictures made so far.
struct Album<'a> {
    spec: &'a ImageSpec,
    host: &'a mut dyn Host,
    files: Vec<ImageFile>,
    paths: Vec<(String, std::path::PathBuf)>,
    warnings: Vec<Warning>,
}

impl Album<'_> {
    fn poster(&mut self, shots: &mut Shots, poster: &Poster) -> Result<(), Failure> {
        let at_us = match poster.at {
            Some(at) => micros(at),
            None => choose::most_telling(shots, self.host)?,
        };
        let shot = shots.at(at_us, 0)?;
        let size = shots.shape(&shot.frame).scaled(poster.width);
        let mut pen = Pen::new(self.spec.format, self.spec.quality, size)?;
        let mut painter = Painter::new(size, pen.full_range());
        let bytes = pen.draw(painter.paint(&shot.frame, &shots.look(), pen.pixels())?)?;
        let name = format!("poster.{}", self.spec.format.extension());
        self.keep(name, ImageKind::Poster, Some(shot.at_us), size, &bytes)
    }

    fn thumbnails(&mut self, shots: &mut Shots) -> Result<(), Failure> {
        let Some(wanted) = &self.spec.thumbnails else { return Ok(()) };
        let every_us = micros(wanted.every);
        check_count("--thumbnails", shots.length_us()?, every_us)?;
        let mut tools: Option<(Painter, Pen, draw::Size)> = None;
        for (number, at_us) in (1..).zip(times(shots.length_us()?, every_us)) {
            let Some(shot) = self.shot(shots, at_us, every_us)? else { break };
            let (painter, pen, size) = match &mut tools {
                Some(tools) => tools,
                none => {
                    let size = shots.shape(&shot.frame).scaled(Some(wanted.width));
                    let pen = Pen::new(self.spec.format, self.spec.quality, size)?;
                    none.insert((Painter::new(size, pen.full_range()), pen, size))
                }
            };
            let bytes = pen.draw(painter.paint(&shot.frame, &shots.look(), pen.pixels())?)?;
            let size = *size;
            let name = format!("thumb-{number:04}.{}", self.spec.format.extension());
            self.keep(name, ImageKind::Thumbnail, Some(at_us), size, &bytes)?;
        }
        Ok(())
    }

    fn sprites(&mut self, shots: &mut Shots) -> Result<(), Failure> {
        let Some(wanted) = &self.spec.sprites else { return Ok(()) };
        let every_us = micros(wanted.every);
        let length_us = shots.length_us()?;
        check_count("--sprite-every", length_us, every_us)?;
        let mut tools: Option<(Painter, Pen, Sheets)> = None;
        for at_us in times(length_us, every_us) {
            let Some(shot) = self.shot(shots, at_us, every_us)? else { break };
            let (painter, pen, sheets) = match &mut tools {
                Some(tools) => tools,
                none => {
                    let size = shots.shape(&shot.frame).scaled(Some(wanted.width));
                    let sheets = Sheets::new(wanted, self.spec.format, size)?;
                    let pen = Pen::new(self.spec.format, self.spec.quality, sheets.size())?;
                    none.insert((Painter::new(size, pen.full_range()), pen, sheets))
                }
            };
            sheets.add(at_us, painter.paint(&shot.frame, &shots.look(), pen.pixels())?, pen.pixels())?;
            if let Some(sheet) = sheets.full() {
                let bytes = pen.draw(sheet.frame)?;
                self.keep(sheet.name, ImageKind::Sprite, Some(sheet.at_us), sheets.size(), &bytes)?;
            }
        }
        let Some((_, mut pen, sheets)) = tools else { return Ok(()) };
        if let Some(sheet) = sheets.rest() {
            let bytes = pen.draw(sheet.frame)?;
            self.keep(sheet.name, ImageKind::Sprite, Some(sheet.at_us), sheets.size(), &bytes)?;
        }
        let track = sheets.track(shots.length_us()?);
        self.keep("sprite.vtt".into(), ImageKind::Track, None, sheets.size(), track.as_bytes())
    }

    /// `None` where the film ends sooner than it says.
    fn shot(&mut self, shots: &mut Shots, at_us: i64, every_us: i64) -> Result<Option<shots::Shot>, Failure> {
        let done = u64::try_from(self.files.len()).unwrap_or(u64::MAX);
        self.host.progress(done, 0, u64::try_from(at_us).unwrap_or(0));
        let near_us = if self.spec.exact { 0 } else { every_us / 2 };
        match shots.at(at_us, near_us) {
            Ok(shot) => Ok(Some(shot)),
            Err(failure) if failure.code == "no_frames" && at_us > 0 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn keep(
        &mut self,
        name: String,
        kind: ImageKind,
        time_us: Option<i64>,
        size: draw::Size,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let path = self.host.scratch().join(&name);
        std::fs::write(&path, bytes).map_err(|error| scratch_failed(&path, &error))?;
        let (width, height) = if kind == ImageKind::Track { (0, 0) } else { (size.width, size.height) };
        self.files.push(ImageFile { name: name.clone(), kind, time_us, width, height });
        self.paths.push((name, path));
        Ok(())
    }
}

fn micros(span: spool_proto::time::Span) -> i64 {
    i64::try_from(span.0).unwrap_or(i64::MAX)
}

/// The start of every interval; always at least the film's start.
fn times(length_us: i64, every_us: i64) -> impl Iterator<Item = i64> {
    (0..length_us.max(1)).step_by(usize::try_from(every_us.max(1)).unwrap_or(usize::MAX))
}

fn check_count(option: &str, length_us: i64, every_us: i64) -> Result<(), Failure> {
    let pictures = length_us / every_us.max(1) + 1;
    if pictures <= PICTURES_MAX {
        return Ok(());
    }
    let message = format!(
        "{option}: that would be {pictures} pictures of this film; at most {PICTURES_MAX} are taken, so take a longer interval"
    );
    Err(Failure::new(Class::Spec, "too_many_images", message))
}
