//! What a film is to be, as functions are told.

use spool_proto::spec::picture::{Corner, Place};
use spool_proto::spec::{
    AudioCodec, AudioSpec, AudioTrack, Clip, Container, Cuts, EncodeSpec, ImageFormat, ImageSpec, Loudness, NextInput,
    OnDamage, Overlay, Poster, QualitySpec, Size, Sprites, StreamMap, Subtitles, Thumbnails, ToneMap, Trim, Verify,
    VideoCodec, VideoSpec,
};
use spool_rules::value::Value;

use super::types::{any, boolean, choice, fields, int, list, metric, number, opt, rational, record, text, uri};

/// Microseconds.
fn span() -> Value {
    int()
}

pub(super) fn container() -> Value {
    choice(Container::ALL)
}

pub(super) fn verify() -> Value {
    choice(Verify::ALL)
}

pub(super) fn encode() -> Value {
    let trim = record::<Trim>(fields! { start: opt(span()), duration: opt(span()) });
    let clip = || record::<Clip>(fields! { start: opt(span()), end: opt(span()) });
    let map = record::<StreamMap>(fields! {
        negative: boolean(),
        optional: boolean(),
        kind: opt(choice(["video", "audio", "subtitle", "data", "attachment"])),
        index: opt(int()),
    });
    let audio_track = record::<AudioTrack>(fields! { track: int(), audio: audio() });
    let next = record::<NextInput>(fields! { source: uri(), clips: opt(list(clip())) });
    let quality = record::<QualitySpec>(fields! { metrics: list(metric()), report: opt(uri()) });
    record::<EncodeSpec>(fields! {
        source: uri(),
        output: text(),
        overwrite: boolean(),
        container: container(),
        video: opt(video()),
        audio: opt(audio()),
        audio_tracks: opt(list(audio_track)),
        subtitles: choice(Subtitles::ALL),
        maps: opt(list(map)),
        trim: opt(trim),
        clips: opt(list(clip())),
        joined: opt(list(next)),
        chunk: opt(span()),
        cuts: opt(choice(Cuts::ALL)),
        verify: opt(verify()),
        quality: opt(quality),
        index: opt(uri()),
        on_damage: opt(choice(OnDamage::ALL)),
        segment_frames: opt(int()),
    })
}

fn video() -> Value {
    let place = record::<Place>(fields! { corner: choice(Corner::ALL), x: int(), y: int() });
    let overlay = record::<Overlay>(fields! {
        image: uri(),
        at: opt(place),
        opacity_percent: int(),
        from: opt(span()),
        to: opt(span()),
    });
    record::<VideoSpec>(fields! {
        codec: choice(VideoCodec::ALL),
        crf: opt(number()),
        // {ssim: 0.98} or {psnr: 42}.
        target_quality: opt(any()),
        bitrate_bps: opt(int()),
        two_pass: opt(boolean()),
        maxrate_bps: opt(int()),
        bufsize_bits: opt(int()),
        preset: opt(text()),
        tune: opt(text()),
        profile: opt(text()),
        gop_frames: opt(int()),
        fixed_gop: opt(boolean()),
        pix_fmt: opt(text()),
        // Each has a form of its own: docs/encode.md.
        filters: opt(list(any())),
        crop_bars: opt(boolean()),
        tonemap: opt(choice(ToneMap::ALL)),
        overlay: opt(overlay),
        size: opt(record::<Size>(fields! { width: int(), height: int() })),
        frame_rate: opt(rational()),
        threads: opt(int()),
        deadline: opt(text()),
        cpu_used: opt(int()),
    })
}

fn audio() -> Value {
    let loudness = record::<Loudness>(fields! { target_lufs: number(), true_peak_dbtp: number() });
    record::<AudioSpec>(fields! {
        codec: choice(AudioCodec::ALL),
        bitrate_bps: opt(int()),
        sample_rate_hz: opt(int()),
        channels: opt(int()),
        channel_layout: opt(text()),
        filters: opt(list(any())),
        loudness: opt(loudness),
    })
}

pub(super) fn images() -> Value {
    let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Webp];
    let formats =
        formats.map(|format| serde_json::to_value(format).ok().and_then(|name| name.as_str().map(str::to_owned)));
    let poster = record::<Poster>(fields! { at: opt(span()), width: opt(int()) });
    let thumbnails = record::<Thumbnails>(fields! { every: span(), width: int() });
    let sprites = record::<Sprites>(fields! { every: span(), columns: int(), rows: int(), width: int() });
    record::<ImageSpec>(fields! {
        poster: opt(poster),
        thumbnails: opt(thumbnails),
        sprites: opt(sprites),
        format: opt(choice(formats.into_iter().flatten())),
        quality: opt(int()),
        exact: opt(boolean()),
    })
}
