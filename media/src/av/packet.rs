//! A coded packet.

use std::ptr::NonNull;

use ffmpeg_next::ffi;

use super::{AvError, NO_PTS, length, timestamp};

pub const FLAG_KEY: i32 = ffi::AV_PKT_FLAG_KEY;
pub const FLAG_CORRUPT: i32 = ffi::AV_PKT_FLAG_CORRUPT;
pub const FLAG_DISCARD: i32 = ffi::AV_PKT_FLAG_DISCARD;

// Type numbers of side data.
pub const SIDE_NEW_EXTRADATA: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA as i32;
pub const SIDE_DISPLAY_MATRIX: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX as i32;
pub const SIDE_QUALITY_STATS: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_QUALITY_STATS as i32;
pub const SIDE_MASTERING_DISPLAY: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_MASTERING_DISPLAY_METADATA as i32;
pub const SIDE_WEBVTT_SETTINGS: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_WEBVTT_SETTINGS as i32;
pub const SIDE_CONTENT_LIGHT: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_CONTENT_LIGHT_LEVEL as i32;

/// An owned packet. Reused over a loop: what fills it empties it first.
#[derive(Debug)]
pub struct Packet(NonNull<ffi::AVPacket>);

// SAFETY: a packet is plain data with reference-counted buffers (atomic counts); nothing in it is bound to a thread.
unsafe impl Send for Packet {}

impl Packet {
    pub fn new() -> Result<Packet, AvError> {
        // SAFETY: no arguments; null means no memory.
        NonNull::new(unsafe { ffi::av_packet_alloc() }).map(Packet).ok_or(AvError::NO_MEMORY)
    }

    /// A packet with a copy of `data`.
    pub fn from_bytes(data: &[u8]) -> Result<Packet, AvError> {
        let packet = Packet::new()?;
        // SAFETY: a fresh packet gets a buffer of data.len() bytes (and padding), into which exactly those are copied.
        unsafe {
            AvError::check(ffi::av_new_packet(packet.0.as_ptr(), length(data.len())?))?;
            if !data.is_empty() {
                std::ptr::copy_nonoverlapping(data.as_ptr(), (*packet.0.as_ptr()).data, data.len());
            }
        }
        Ok(packet)
    }

    pub fn clear(&mut self) {
        // SAFETY: a valid packet; it becomes an empty one.
        unsafe { ffi::av_packet_unref(self.0.as_ptr()) }
    }

    pub fn data(&self) -> &[u8] {
        // SAFETY: libav keeps `size` readable bytes at `data`; they live and stay unchanged while self is borrowed.
        unsafe {
            let packet = self.0.as_ptr();
            match usize::try_from((*packet).size) {
                Ok(size) if size > 0 && !(*packet).data.is_null() => std::slice::from_raw_parts((*packet).data, size),
                _ => &[],
            }
        }
    }

    pub fn pts(&self) -> Option<i64> {
        // SAFETY: a valid packet.
        timestamp(unsafe { (*self.0.as_ptr()).pts })
    }

    pub fn dts(&self) -> Option<i64> {
        // SAFETY: a valid packet.
        timestamp(unsafe { (*self.0.as_ptr()).dts })
    }

    /// 0 where unknown.
    pub fn duration(&self) -> i64 {
        // SAFETY: a valid packet.
        unsafe { (*self.0.as_ptr()).duration }
    }

    /// Byte position in the file, where the demuxer tells.
    pub fn position(&self) -> Option<u64> {
        // SAFETY: a valid packet.
        u64::try_from(unsafe { (*self.0.as_ptr()).pos }).ok()
    }

    pub fn flags(&self) -> i32 {
        // SAFETY: a valid packet.
        unsafe { (*self.0.as_ptr()).flags }
    }

    pub fn is_key(&self) -> bool {
        self.flags() & FLAG_KEY != 0
    }

    pub fn stream(&self) -> usize {
        // SAFETY: a valid packet.
        usize::try_from(unsafe { (*self.0.as_ptr()).stream_index }).unwrap_or(usize::MAX)
    }

    pub fn set_stream(&mut self, stream: usize) {
        // SAFETY: a valid packet, ours alone.
        unsafe { (*self.0.as_ptr()).stream_index = i32::try_from(stream).unwrap_or(i32::MAX) }
    }

    pub fn set_times(&mut self, pts: Option<i64>, dts: Option<i64>, duration: i64) {
        // SAFETY: a valid packet, ours alone.
        unsafe {
            (*self.0.as_ptr()).pts = pts.unwrap_or(NO_PTS);
            (*self.0.as_ptr()).dts = dts.unwrap_or(NO_PTS);
            (*self.0.as_ptr()).duration = duration;
        }
    }

    pub fn set_flags(&mut self, flags: i32) {
        // SAFETY: a valid packet, ours alone.
        unsafe { (*self.0.as_ptr()).flags = flags }
    }

    /// Side data, copied: libav type number and bytes.
    pub fn side_data(&self) -> Vec<(i32, Vec<u8>)> {
        // SAFETY: a valid packet's own list and count.
        unsafe { super::side_data((*self.0.as_ptr()).side_data, (*self.0.as_ptr()).side_data_elems) }
    }

    /// The container says so, and libav has no key for it.
    pub fn is_encrypted(&self) -> bool {
        const KIND: i32 = ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO as i32;
        self.has_side_data() && self.side_data().iter().any(|(kind, _)| *kind == KIND)
    }

    pub fn has_side_data(&self) -> bool {
        // SAFETY: a valid packet.
        unsafe { (*self.0.as_ptr()).side_data_elems > 0 }
    }

    /// Adds a copy of `bytes` as side data of a type number of libav's.
    pub fn add_side_data(&mut self, kind: i32, bytes: &[u8]) -> Result<(), AvError> {
        unsafe extern "C" {
            fn av_packet_new_side_data(packet: *mut ffi::AVPacket, kind: i32, size: usize) -> *mut u8;
        }
        // SAFETY: a valid packet; libav allocates bytes.len() bytes for the copy and keeps them. The enum is an int in C.
        unsafe {
            let place = av_packet_new_side_data(self.0.as_ptr(), kind, bytes.len());
            if place.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        }
        Ok(())
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVPacket {
        self.0.as_ptr()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.0.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { ffi::av_packet_free(&raw mut packet) }
    }
}
