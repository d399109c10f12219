//! Packages: tracks cut into CMAF segments (`media.segment`) and what describes them to players (`media.manifest`). Playlists are
//! pure; so is what is read and changed in the boxes of a track's file.
//!
//! Reading order: `boxes` (ISO BMFF), `codec_string`, `segment` (from pieces to a track's file and its table), `hls`, `dash`,
//! `manifest`.

mod boxes;
mod codec_string;
mod dash;
mod hls;
pub mod manifest;
pub mod segment;
