//! What tasks are given: time, silence, memory.

use spool_proto::call::VideoPlan;

pub use spool_function::own::needs::{
    AUDIO_MEMORY, CODEC_TIMEOUT, CORE, NO_PROGRESS, PUBLISH_MEMORY, READ_TIMEOUT, SUBTITLE_MEMORY, TABLES_MEMORY,
    pictures_memory,
};

/// MiB a decoder of such pictures holds at most.
pub fn decoder_memory(video: &VideoPlan) -> u64 {
    pictures_memory(video.width, video.height)
}
