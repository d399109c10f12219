//! A decoded picture or a run of samples.

use std::ptr::NonNull;

use ffmpeg_next::ffi;
use spool_proto::spec::Rational;

use super::{AvError, NO_PTS, number, rational, set_number, timestamp};

/// An owned frame. Reused over a loop: what fills it empties it first.
#[derive(Debug)]
pub struct Frame(NonNull<ffi::AVFrame>);

// SAFETY: a frame is plain data with reference-counted buffers (atomic counts); nothing in it is bound to a thread.
unsafe impl Send for Frame {}

/// What a picture may carry beside its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// CEA-608 and CEA-708.
    Captions,
    /// HDR10+ and HDR Vivid.
    DynamicHdr,
    DolbyVision,
}

impl Beside {
    pub const ALL: [Beside; 3] = [Beside::Captions, Beside::DynamicHdr, Beside::DolbyVision];
}

/// What a filter graph is built for, and what may change inside a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: i32,
    pub height: i32,
    /// libav's number.
    pub format: i32,
    /// The frame's own display matrix, where it carries one.
    pub matrix: Option<[i32; 9]>,
}

/// What an encoder takes over from its first picture. libav's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colors {
    pub range: i32,
    pub primaries: i32,
    pub transfer: i32,
    pub space: i32,
    pub chroma_location: i32,
}

/// SMPTE 2086: chromaticities and luminance of the mastering display, as exact fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasteringDisplay {
    /// x and y of red, green, blue.
    pub primaries: Option<[[Rational; 2]; 3]>,
    pub white: Option<[Rational; 2]>,
    /// Lowest and highest, cd/m².
    pub luminance: Option<[Rational; 2]>,
}

/// CTA-861.3 light levels, cd/m².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentLight {
    pub max_content: u32,
    pub max_average: u32,
}

impl Frame {
    pub fn new() -> Result<Frame, AvError> {
        // SAFETY: no arguments; null means no memory.
        NonNull::new(unsafe { ffi::av_frame_alloc() }).map(Frame).ok_or(AvError::NO_MEMORY)
    }

    /// A blank picture with its own buffers: mid grey would need to know the format, so it is all zero bytes.
    pub fn picture(width: i32, height: i32, format: i32) -> Result<Frame, AvError> {
        let frame = Frame::new()?;
        // SAFETY: a fresh frame; libav checks sizes and allocates planes, which are then filled within their own lengths.
        unsafe {
            let raw = frame.0.as_ptr();
            (*raw).width = width;
            (*raw).height = height;
            (*raw).format = format;
            AvError::check(ffi::av_frame_get_buffer(raw, 0))?;
            for buffer in (*raw).buf {
                if !buffer.is_null() {
                    std::ptr::write_bytes((*buffer).data, 0, (*buffer).size);
                }
            }
        }
        Ok(frame)
    }

    /// Writes into plane `plane` row by row: `paint(row, bytes)`. Rows are as long as libav's line size.
    pub fn paint(&mut self, plane: usize, rows: usize, mut paint: impl FnMut(usize, &mut [u8])) -> Result<(), AvError> {
        // SAFETY: the frame is made writable first (sole owner of its buffers). Rows beyond the buffer are refused: libav
        // allocates at least linesize * height bytes a plane.
        unsafe {
            let raw = self.0.as_ptr();
            AvError::check(ffi::av_frame_make_writable(raw))?;
            let (Some(&data), Some(&line)) = ((*raw).data.get(plane), (*raw).linesize.get(plane)) else {
                return Err(AvError::INVALID);
            };
            let line = usize::try_from(line).map_err(|_| AvError::INVALID)?;
            let height = usize::try_from((*raw).height).unwrap_or(0);
            if data.is_null() || rows > height {
                return Err(AvError::INVALID);
            }
            for row in 0..rows {
                paint(row, std::slice::from_raw_parts_mut(data.add(row * line), line));
            }
        }
        Ok(())
    }

    pub fn clear(&mut self) {
        // SAFETY: a valid frame; it becomes an empty one.
        unsafe { ffi::av_frame_unref(self.0.as_ptr()) }
    }

    /// A second owner of the same buffers.
    pub fn share(&self) -> Result<Frame, AvError> {
        // SAFETY: a valid frame; null means no memory.
        NonNull::new(unsafe { ffi::av_frame_clone(self.0.as_ptr()) }).map(Frame).ok_or(AvError::NO_MEMORY)
    }

    /// Of its buffers, which others may own, too.
    pub fn bytes(&self) -> u64 {
        // SAFETY: a valid frame, whose buffers are null or valid.
        unsafe {
            let buffers = (*self.0.as_ptr()).buf.iter().filter(|buffer| !buffer.is_null());
            buffers.map(|buffer| u64::try_from((**buffer).size).unwrap_or(u64::MAX)).sum()
        }
    }

    pub fn is_empty(&self) -> bool {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).buf[0].is_null() }
    }

    pub fn pts(&self) -> Option<i64> {
        // SAFETY: a valid frame.
        timestamp(unsafe { (*self.0.as_ptr()).pts })
    }

    pub fn set_pts(&mut self, pts: Option<i64>) {
        // SAFETY: a valid frame, ours alone.
        unsafe { (*self.0.as_ptr()).pts = pts.unwrap_or(NO_PTS) }
    }

    /// libav's guess of the pts from pts and dts of the packets.
    pub fn best_effort_pts(&self) -> Option<i64> {
        // SAFETY: a valid frame.
        timestamp(unsafe { (*self.0.as_ptr()).best_effort_timestamp })
    }

    /// Duration of the packet it came from. 0 where unknown.
    pub fn duration(&self) -> i64 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).pkt_duration }
    }

    /// What decoders and filters noted on it.
    pub fn metadata(&self) -> Vec<(String, String)> {
        // SAFETY: a valid frame's own dictionary, null or valid.
        unsafe { super::dict::read((*self.0.as_ptr()).metadata) }
    }

    pub fn width(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).width }
    }

    pub fn height(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).height }
    }

    /// libav's number of the pixel or sample format.
    pub fn format(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).format }
    }

    pub fn samples(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).nb_samples }
    }

    pub fn sample_rate(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).sample_rate }
    }

    pub fn channels(&self) -> i32 {
        // SAFETY: a valid frame.
        unsafe { (*self.0.as_ptr()).ch_layout.nb_channels }
    }

    /// Name of the channel layout as libav's filters take it: `stereo`, `5.1(side)`, `2 channels`.
    pub fn channel_layout(&self) -> String {
        // SAFETY: a valid frame's own layout.
        unsafe { super::parameters::describe_layout(&raw const (*self.0.as_ptr()).ch_layout) }
    }

    /// The decoder said that something in it is wrong: missing references, concealed or broken slices.
    pub fn is_damaged(&self) -> bool {
        // SAFETY: a valid frame.
        unsafe {
            (*self.0.as_ptr()).flags & ffi::AV_FRAME_FLAG_CORRUPT != 0 || (*self.0.as_ptr()).decode_error_flags != 0
        }
    }

    pub fn sample_aspect_ratio(&self) -> Rational {
        // SAFETY: a valid frame.
        rational(unsafe { (*self.0.as_ptr()).sample_aspect_ratio })
    }

    pub fn set_sample_aspect_ratio(&mut self, ratio: Rational) {
        // SAFETY: a valid frame, ours alone.
        unsafe { (*self.0.as_ptr()).sample_aspect_ratio = super::av_rational(ratio) }
    }

    /// (interlaced, top field first)
    pub fn interlaced(&self) -> (bool, bool) {
        // SAFETY: a valid frame.
        unsafe { ((*self.0.as_ptr()).interlaced_frame != 0, (*self.0.as_ptr()).top_field_first != 0) }
    }

    pub fn colors(&self) -> Colors {
        // SAFETY: fields of a valid frame, read as the ints they are.
        unsafe {
            let raw = self.0.as_ptr();
            Colors {
                range: number(&raw const (*raw).color_range),
                primaries: number(&raw const (*raw).color_primaries),
                transfer: number(&raw const (*raw).color_trc),
                space: number(&raw const (*raw).colorspace),
                chroma_location: number(&raw const (*raw).chroma_location),
            }
        }
    }

    /// The encoder chooses the picture type, as in ffmpeg; unless it must be a keyframe.
    pub fn set_picture_type(&mut self, key: bool) {
        // SAFETY: a valid frame, ours alone; 0 is NONE, 1 is I.
        unsafe { set_number(&raw mut (*self.0.as_ptr()).pict_type, i32::from(key)) }
    }

    pub fn picture_shape(&self) -> Picture {
        Picture { width: self.width(), height: self.height(), format: self.format(), matrix: self.matrix() }
    }

    fn matrix(&self) -> Option<[i32; 9]> {
        matrix(self.side_data(ffi::AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX)?)
    }

    pub fn carries(&self, kind: Beside) -> bool {
        use ffi::AVFrameSideDataType as Kind;
        let kinds: &[Kind] = match kind {
            Beside::Captions => &[Kind::AV_FRAME_DATA_A53_CC],
            Beside::DynamicHdr => &[Kind::AV_FRAME_DATA_DYNAMIC_HDR_PLUS, Kind::AV_FRAME_DATA_DYNAMIC_HDR_VIVID],
            Beside::DolbyVision => &[Kind::AV_FRAME_DATA_DOVI_METADATA, Kind::AV_FRAME_DATA_DOVI_RPU_BUFFER],
        };
        kinds.iter().any(|kind| self.side_data(*kind).is_some())
    }

    fn side_data(&self, kind: ffi::AVFrameSideDataType) -> Option<&[u8]> {
        // SAFETY: a valid frame; the entry's bytes live as long as the frame is borrowed.
        unsafe {
            let entry = ffi::av_frame_get_side_data(self.0.as_ptr(), kind);
            if entry.is_null() || (*entry).data.is_null() {
                return None;
            }
            Some(std::slice::from_raw_parts((*entry).data, (*entry).size))
        }
    }

    /// Bytes of HDR10 side data as a stream carries them: libav's *packet* side-data number and the same structs.
    pub fn hdr_side_data(&self) -> Vec<(i32, Vec<u8>)> {
        use super::packet::{SIDE_CONTENT_LIGHT, SIDE_MASTERING_DISPLAY};
        [
            (ffi::AVFrameSideDataType::AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, SIDE_MASTERING_DISPLAY),
            (ffi::AVFrameSideDataType::AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, SIDE_CONTENT_LIGHT),
        ]
        .into_iter()
        .filter_map(|(from, to)| Some((to, self.side_data(from)?.to_vec())))
        .collect()
    }

    /// Bytes of the frame's pixels, row by row without padding, over all planes: for checks.
    pub fn pixels(&self) -> Result<Vec<u8>, AvError> {
        unsafe extern "C" {
            fn av_image_get_buffer_size(format: i32, width: i32, height: i32, align: i32) -> i32;
            fn av_image_copy_to_buffer(
                to: *mut u8,
                size: i32,
                data: *const *const u8,
                lines: *const i32,
                format: i32,
                width: i32,
                height: i32,
                align: i32,
            ) -> i32;
        }
        // SAFETY: libav tells the size for this format and writes at most that much, from the frame's own planes.
        unsafe {
            let raw = self.0.as_ptr();
            let size = AvError::check(av_image_get_buffer_size((*raw).format, (*raw).width, (*raw).height, 1))?;
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            AvError::check(av_image_copy_to_buffer(
                bytes.as_mut_ptr(),
                size,
                (&raw const (*raw).data).cast(),
                (&raw const (*raw).linesize).cast(),
                (*raw).format,
                (*raw).width,
                (*raw).height,
                1,
            ))?;
            Ok(bytes)
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVFrame {
        self.0.as_ptr()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut frame = self.0.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { ffi::av_frame_free(&raw mut frame) }
    }
}

/// Nine 16.16 numbers in the machine's byte order, as libav keeps a display matrix.
pub fn matrix(bytes: &[u8]) -> Option<[i32; 9]> {
    ints(bytes)
}

/// The first `N` ints of a C struct that holds nothing else there.
fn ints<const N: usize>(bytes: &[u8]) -> Option<[i32; N]> {
    let mut out = [0; N];
    let mut chunks = bytes.chunks_exact(4);
    for value in &mut out {
        *value = i32::from_ne_bytes(chunks.next()?.try_into().ok()?);
    }
    Some(out)
}

impl MasteringDisplay {
    /// From the bytes of an `AVMasteringDisplayMetadata`: eight fractions for the primaries and white, two for the luminance,
    /// then two flags that say which of both are there.
    pub fn read(bytes: &[u8]) -> Option<MasteringDisplay> {
        let raw: [i32; 22] = ints(bytes)?;
        let fraction = |i: usize| Rational::new(raw[2 * i], raw[2 * i + 1]);
        let valid = |values: &[Rational]| values.iter().all(|v| v.den > 0 && v.num >= 0);
        let primaries = [0, 2, 4].map(|i| [fraction(i), fraction(i + 1)]);
        let white = [fraction(6), fraction(7)];
        let luminance = [fraction(8), fraction(9)];
        let has_primaries = raw[20] != 0 && valid(primaries.as_flattened()) && valid(&white);
        Some(MasteringDisplay {
            primaries: has_primaries.then_some(primaries),
            white: has_primaries.then_some(white),
            luminance: (raw[21] != 0 && valid(&luminance)).then_some(luminance),
        })
    }
}

impl ContentLight {
    /// From the bytes of an `AVContentLightMetadata`.
    pub fn read(bytes: &[u8]) -> Option<ContentLight> {
        let [max_content, max_average] = ints(bytes)?;
        Some(ContentLight { max_content: max_content.cast_unsigned(), max_average: max_average.cast_unsigned() })
    }
}
