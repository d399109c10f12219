//! Which libav this program runs with, for `spool doctor`.

use ffmpeg_next as ffmpeg;

/// The libraries loaded, each with its version as `major.minor.micro`.
pub fn versions() -> Vec<(&'static str, String)> {
    let text = |packed: u32| format!("{}.{}.{}", packed >> 16, packed >> 8 & 0xff, packed & 0xff);
    vec![
        ("libavutil", text(ffmpeg::util::version())),
        ("libavcodec", text(ffmpeg::codec::version())),
        ("libavformat", text(ffmpeg::format::version())),
        ("libavfilter", text(ffmpeg::filter::version())),
        ("libswscale", text(ffmpeg::software::scaling::version())),
        ("libswresample", text(ffmpeg::software::resampling::version())),
    ]
}
