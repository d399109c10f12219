//! Sheets of small pictures, and the track that says which is where (`sprite-001.jpg#xywh=160,90,160,90`, W3C Media Fragments).

use std::fmt::Write as _;

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{ImageFormat, Sprites};

use super::draw::Size;
use crate::av::AvError;
use crate::av::frame::Frame;
use crate::av::names::{self, PixelShape};
use crate::text::webvtt::clock;

/// libav refuses larger pictures of these formats.
const SHEET_SIDE_MAX: u32 = 16_383;

/// A sheet that is done.
pub struct Sheet<'a> {
    pub name: String,
    /// Of its first picture.
    pub at_us: i64,
    pub frame: &'a Frame,
}

#[derive(Debug)]
pub struct Sheets {
    columns: u32,
    rows: u32,
    tile: Size,
    format: ImageFormat,
    /// Being filled, and how many pictures are on it.
    sheet: Option<Frame>,
    filled: u32,
    /// Sheets begun.
    count: u32,
    /// Time of every picture.
    times: Vec<i64>,
}

impl Sheets {
    /// # Errors
    /// `option_refused` (class spec) where a sheet would be too high.
    pub fn new(wanted: &Sprites, format: ImageFormat, tile: Size) -> Result<Sheets, Failure> {
        let (columns, rows) = (u32::from(wanted.columns), u32::from(wanted.rows));
        if columns * tile.width > SHEET_SIDE_MAX || rows * tile.height > SHEET_SIDE_MAX {
            let message = format!(
                "--sprite {columns}x{rows}: a sheet of pictures of {}x{} would be larger than {SHEET_SIDE_MAX} pixels; take fewer rows \
                 and columns, or a smaller --width",
                tile.width, tile.height
            );
            return Err(Failure::new(Class::Spec, "option_refused", message));
        }
        Ok(Sheets { columns, rows, tile, format, sheet: None, filled: 0, count: 0, times: Vec::new() })
    }

    /// Of a whole sheet.
    pub fn size(&self) -> Size {
        Size { width: self.columns * self.tile.width, height: self.rows * self.tile.height }
    }

    fn name(&self, sheet: u32) -> String {
        format!("sprite-{:03}.{}", sheet + 1, self.format.extension())
    }

    /// Puts a picture of the tile's size on the sheet. `pixels`: its format.
    pub fn add(&mut self, at_us: i64, picture: &Frame, pixels: &str) -> Result<(), Failure> {
        let failed = |error: AvError| error.failure(Class::Internal, "libav", "putting pictures on a sheet");
        if self.filled == self.columns * self.rows {
            (self.sheet, self.filled) = (None, 0);
        }
        let format = names::pixel_format_number(pixels).unwrap_or(-1);
        let size = self.size();
        let shape = names::pixel_shape(format).ok_or_else(|| failed(AvError::INVALID))?;
        let planes = Planes { shape, packed: pixels.starts_with("rgb"), full_range: self.format == ImageFormat::Jpeg };
        if self.sheet.is_none() {
            let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
            let mut blank = Frame::picture(side(size.width), side(size.height), format).map_err(failed)?;
            for plane in planes.all() {
                let black = planes.black(plane);
                let rows = planes.rows(plane, size.height);
                blank.paint(plane, rows, |_, bytes| bytes.fill(black)).map_err(failed)?;
            }
            self.sheet = Some(blank);
            self.count += 1;
        }
        let (column, row) = (self.filled % self.columns, self.filled / self.columns);
        let bytes = picture.pixels().map_err(failed)?;
        let mut from = bytes.as_slice();
        if let Some(sheet) = &mut self.sheet {
            for plane in planes.all() {
                let width = planes.bytes(plane, self.tile.width);
                let rows = planes.rows(plane, self.tile.height);
                let (left, top) =
                    (planes.bytes(plane, column * self.tile.width), planes.rows(plane, row * self.tile.height));
                let (here, rest) = from.split_at_checked(width * rows).ok_or_else(|| failed(AvError::INVALID))?;
                from = rest;
                let all_rows = planes.rows(plane, size.height);
                sheet
                    .paint(plane, all_rows, |line, bytes| {
                        let Some(line) = line.checked_sub(top).filter(|line| *line < rows) else { return };
                        let (Some(to), Some(of)) =
                            (bytes.get_mut(left..left + width), here.get(line * width..(line + 1) * width))
                        else {
                            return;
                        };
                        to.copy_from_slice(of);
                    })
                    .map_err(failed)?;
            }
        }
        self.filled += 1;
        self.times.push(at_us);
        Ok(())
    }

    /// The sheet, when it is full.
    pub fn full(&self) -> Option<Sheet<'_>> {
        if self.filled < self.columns * self.rows { None } else { self.current() }
    }

    /// The last sheet, when it is not full.
    pub fn rest(&self) -> Option<Sheet<'_>> {
        if self.filled == self.columns * self.rows { None } else { self.current() }
    }

    fn current(&self) -> Option<Sheet<'_>> {
        let frame = self.sheet.as_ref()?;
        let first = self.times.len().checked_sub(usize::try_from(self.filled).ok()?)?;
        Some(Sheet { name: self.name(self.count.checked_sub(1)?), at_us: *self.times.get(first)?, frame })
    }

    /// The WebVTT track. A picture stands for the time until the next one.
    pub fn track(&self, length_us: i64) -> String {
        let mut text = String::from("WEBVTT\n");
        let a_sheet = self.columns * self.rows;
        for (number, at_us) in (0u32..).zip(&self.times) {
            let next = self.times.get(usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1));
            let until = next.copied().unwrap_or_else(|| length_us.max(at_us + 1_000));
            let place = number % a_sheet;
            let (x, y) = (place % self.columns * self.tile.width, place / self.columns * self.tile.height);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n{} --> {}\n{}#xywh={x},{y},{},{}\n",
                clock(*at_us),
                clock(until),
                self.name(number / a_sheet),
                self.tile.width,
                self.tile.height
            );
        }
        text
    }
}

/// Where the bytes of a picture's planes lie: RGB in one, 4:2:0 in three.
struct Planes {
    shape: PixelShape,
    packed: bool,
    full_range: bool,
}

impl Planes {
    fn all(&self) -> std::ops::Range<usize> {
        if self.packed { 0..1 } else { 0..3 }
    }

    fn rows(&self, plane: usize, height: u32) -> usize {
        let shift = if plane == 0 { 0 } else { self.shape.log2_chroma_height };
        usize::try_from(height >> shift).unwrap_or(0)
    }

    fn bytes(&self, plane: usize, width: u32) -> usize {
        let shift = if plane == 0 { 0 } else { self.shape.log2_chroma_width };
        usize::try_from(width >> shift).unwrap_or(0) * if self.packed { 3 } else { 1 }
    }

    fn black(&self, plane: usize) -> u8 {
        match (self.packed, plane) {
            (true, _) => 0,
            (false, 0) if self.full_range => 0,
            (false, 0) => 16,
            (false, _) => 128,
        }
    }
}
