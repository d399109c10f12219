//! libav's log goes to stderr, which the worker keeps the tail of.

use std::sync::Once;

use ffmpeg_next::ffi;

static ONCE: Once = Once::new();

/// Sets libav's level: warnings, or more where `RUST_LOG` asks for `debug` or `trace`.
pub fn init() {
    ONCE.call_once(|| {
        let asked = std::env::var("RUST_LOG").unwrap_or_default();
        let level = if asked.contains("trace") {
            ffi::AV_LOG_DEBUG
        } else if asked.contains("debug") {
            ffi::AV_LOG_VERBOSE
        } else {
            ffi::AV_LOG_WARNING
        };
        // SAFETY: the level is one number, safe to set at any time.
        unsafe { ffi::av_log_set_level(level) }
    });
}
