//! What each video encoder takes, as a table, and the judge that reads it.

use super::super::{VideoCodec, VideoSpec};
use super::{conflict, refused};
use crate::failure::Failure;

/// Values `-preset` takes.
enum Presets {
    Names(&'static [&'static str]),
    /// 0 to this.
    Numbers(u8),
    /// None; libvpx has `-cpu-used`.
    No,
}

pub(super) struct Encoder {
    crf_min: f32,
    crf_max: f32,
    crf_whole: bool,
    presets: Presets,
    tunes: &'static [&'static str],
    profiles: &'static [&'static str],
    pix_fmts: &'static [&'static str],
}

/// x264's and x265's names, fastest first.
const SPEEDS: &[&str] =
    &["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"];

/// Every pixel format that any of the encoders takes.
pub(super) const PIXEL_FORMATS: &[&str] = &[
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuvj422p",
    "yuv440p",
    "yuv444p",
    "yuvj444p",
    "nv12",
    "nv16",
    "nv21",
    "gray",
    "gbrp",
    "yuv420p10le",
    "yuv422p10le",
    "yuv440p10le",
    "yuv444p10le",
    "gray10le",
    "gbrp10le",
    "yuv420p12le",
    "yuv422p12le",
    "yuv440p12le",
    "yuv444p12le",
    "gray12le",
    "gbrp12le",
];

/// What no encoder takes, but filters work in: the last filter's output is converted for the encoder.
pub(super) const BETWEEN_FORMATS: &[&str] =
    &["gbrpf32le", "gbrp14le", "gbrp16le", "yuv420p16le", "yuv422p16le", "yuv444p16le", "p010le"];

/// What `format` in `-vf` takes.
pub(super) fn is_filter_format(name: &str) -> bool {
    is_pixel_format(name) || BETWEEN_FORMATS.contains(&name)
}

pub(super) fn is_pixel_format(name: &str) -> bool {
    PIXEL_FORMATS.contains(&name)
}

static X264: Encoder = Encoder {
    crf_min: 0.0,
    crf_max: 51.0,
    crf_whole: false,
    presets: Presets::Names(SPEEDS),
    tunes: &["film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"],
    profiles: &["baseline", "main", "high", "high10", "high422", "high444"],
    pix_fmts: &[
        "yuv420p",
        "yuvj420p",
        "yuv422p",
        "yuvj422p",
        "yuv444p",
        "yuvj444p",
        "nv12",
        "nv16",
        "nv21",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p10le",
        "gray",
        "gray10le",
    ],
};

static X265: Encoder = Encoder {
    crf_min: 0.0,
    crf_max: 51.0,
    crf_whole: false,
    presets: Presets::Names(SPEEDS),
    tunes: &["psnr", "ssim", "grain", "fastdecode", "zerolatency", "animation"],
    profiles: &[
        "main",
        "main10",
        "main12",
        "main422-8",
        "main422-10",
        "main422-12",
        "main444-8",
        "main444-10",
        "main444-12",
    ],
    pix_fmts: &[
        "yuv420p",
        "yuvj420p",
        "yuv422p",
        "yuvj422p",
        "yuv444p",
        "yuvj444p",
        "gbrp",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p10le",
        "gbrp10le",
        "yuv420p12le",
        "yuv422p12le",
        "yuv444p12le",
        "gbrp12le",
        "gray",
        "gray10le",
        "gray12le",
    ],
};

// FFmpeg 5.1's wrapper reads -crf 0 as "not given" and then encodes at quantizer 50.
static SVT_AV1: Encoder = Encoder {
    crf_min: 1.0,
    crf_max: 63.0,
    crf_whole: true,
    presets: Presets::Numbers(13),
    tunes: &[],
    profiles: &[],
    pix_fmts: &["yuv420p", "yuv420p10le"],
};

static VP9: Encoder = Encoder {
    crf_min: 0.0,
    crf_max: 63.0,
    crf_whole: true,
    presets: Presets::No,
    tunes: &[],
    profiles: &[],
    pix_fmts: &[
        "yuv420p",
        "yuv422p",
        "yuv440p",
        "yuv444p",
        "yuv420p10le",
        "yuv422p10le",
        "yuv440p10le",
        "yuv444p10le",
        "yuv420p12le",
        "yuv422p12le",
        "yuv440p12le",
        "yuv444p12le",
        "gbrp",
        "gbrp10le",
        "gbrp12le",
    ],
};

impl Encoder {
    pub(super) fn of(codec: VideoCodec) -> &'static Encoder {
        match codec {
            VideoCodec::Libx264 => &X264,
            VideoCodec::Libx265 => &X265,
            VideoCodec::Libsvtav1 => &SVT_AV1,
            VideoCodec::LibvpxVp9 => &VP9,
        }
    }

    pub(super) fn check(&self, spec: &VideoSpec) -> Result<(), Failure> {
        self.check_rate_control(spec)?;
        check_two_pass(spec)?;
        check_target(spec)?;
        self.check_preset(spec)?;
        let codec = spec.codec;
        for (option, value, taken) in [
            ("-tune", &spec.tune, self.tunes),
            ("-profile:v", &spec.profile, self.profiles),
            ("-pix_fmt", &spec.pix_fmt, self.pix_fmts),
        ] {
            let Some(value) = value.as_deref().filter(|value| !taken.contains(value)) else { continue };
            if value.contains("yuva") {
                return Err(refused(format!("{option} {value}: films with alpha are not written; take yuv420p")));
            }
            if taken.is_empty() {
                return Err(refused(format!("{option} {value}: {codec} has no {option} here; leave it out")));
            }
            return Err(refused(format!("{option} {value}: {codec} takes {}", taken.join(", "))));
        }
        let vp9 = codec == VideoCodec::LibvpxVp9;
        if let Some(deadline) = &spec.deadline {
            if !vp9 {
                return Err(conflict(format!("-deadline with {codec}: it belongs to libvpx-vp9; drop it")));
            }
            if !["good", "best", "realtime"].contains(&deadline.as_str()) {
                return Err(refused(format!("-deadline {deadline}: libvpx-vp9 takes good, best, realtime")));
            }
        }
        match spec.cpu_used {
            Some(_) if !vp9 => Err(conflict(format!("-cpu-used with {codec}: it belongs to libvpx-vp9; use -preset"))),
            Some(level) if !(-8..=8).contains(&level) => {
                Err(refused(format!("-cpu-used {level}: libvpx-vp9 takes -8 to 8")))
            }
            _ => Ok(()),
        }
    }

    fn check_rate_control(&self, spec: &VideoSpec) -> Result<(), Failure> {
        let codec = spec.codec;
        if let Some(crf) = spec.crf {
            if !(self.crf_min..=self.crf_max).contains(&crf) {
                return Err(refused(format!("-crf {crf}: {codec} takes {} to {}", self.crf_min, self.crf_max)));
            }
            if self.crf_whole && crf.fract() != 0.0 {
                return Err(refused(format!("-crf {crf}: {codec} takes whole numbers")));
            }
            if spec.bitrate_bps.is_some() && codec != VideoCodec::LibvpxVp9 {
                return Err(conflict(format!(
                    "-crf with -b:v: {codec} would ignore -b:v; drop one of them, or bound -crf by -maxrate and -bufsize"
                )));
            }
        }
        for (option, value) in
            [("-b:v", spec.bitrate_bps), ("-maxrate", spec.maxrate_bps), ("-bufsize", spec.bufsize_bits)]
        {
            if let Some(value) = value.filter(|value| !(1_000..=2_000_000_000).contains(value)) {
                return Err(refused(format!("{option} {value}: 1k to 2G bits are taken")));
            }
        }
        match (spec.maxrate_bps, spec.bufsize_bits) {
            (Some(_), None) => {
                return Err(conflict(format!(
                    "-maxrate without -bufsize: {codec} would ignore it; add -bufsize, often twice the -maxrate"
                )));
            }
            (None, Some(_)) if matches!(codec, VideoCodec::Libx264 | VideoCodec::Libx265) => {
                return Err(conflict(format!("-bufsize without -maxrate: {codec} would ignore it; add -maxrate")));
            }
            _ => {}
        }
        if let Some((maxrate, bitrate)) = spec.maxrate_bps.zip(spec.bitrate_bps).filter(|(max, rate)| max < rate) {
            return Err(conflict(format!("-maxrate {maxrate} is below -b:v {bitrate}")));
        }
        let unbounded = spec.bitrate_bps.is_none() && (spec.maxrate_bps.is_some() || spec.bufsize_bits.is_some());
        if unbounded && codec == VideoCodec::LibvpxVp9 {
            return Err(conflict("-maxrate and -bufsize with libvpx-vp9 need -b:v too"));
        }
        Ok(())
    }

    fn check_preset(&self, spec: &VideoSpec) -> Result<(), Failure> {
        let Some(preset) = spec.preset.as_deref() else { return Ok(()) };
        let codec = spec.codec;
        match self.presets {
            Presets::Names(names) if names.contains(&preset) => Ok(()),
            Presets::Names(names) => Err(refused(format!("-preset {preset}: {codec} takes {}", names.join(", ")))),
            // Only the plain digits reach the encoder: no `+8`, no `08`.
            Presets::Numbers(last) if (0..=last).any(|n| n.to_string() == preset) => Ok(()),
            Presets::Numbers(last) => {
                Err(refused(format!("-preset {preset}: {codec} takes 0 (best) to {last} (fastest)")))
            }
            Presets::No => Err(refused(format!(
                "-preset {preset}: {codec} has no presets; use -deadline good|best|realtime and -cpu-used -8 to 8"
            ))),
        }
    }
}

/// Two passes need a rate to meet, and an encoder whose first pass Spool can read.
fn check_two_pass(spec: &VideoSpec) -> Result<(), Failure> {
    if !spec.two_pass {
        return Ok(());
    }
    let codec = spec.codec;
    match codec {
        VideoCodec::Libx264 | VideoCodec::Libx265 => {}
        VideoCodec::Libsvtav1 | VideoCodec::LibvpxVp9 => {
            return Err(refused(format!(
                "--two-pass with {codec}: it is made with libx264 and libx265; leave it out (-b:v then holds for each chunk), or give -crf"
            )));
        }
    }
    if spec.crf.is_some() {
        return Err(conflict(
            "--two-pass with -crf: a quality has no rate to meet; drop one of them, and give -b:v with --two-pass",
        ));
    }
    if spec.bitrate_bps.is_none() {
        return Err(conflict("--two-pass without -b:v: there is no rate to meet; add -b:v"));
    }
    Ok(())
}

/// The quality is found for each chunk: nothing else may say what is spent.
fn check_target(spec: &VideoSpec) -> Result<(), Failure> {
    let Some(target) = spec.target_quality else { return Ok(()) };
    target.check()?;
    let others = [("-crf", spec.crf.is_some()), ("--two-pass", spec.two_pass), ("-b:v", spec.bitrate_bps.is_some())];
    if let Some((option, _)) = others.iter().find(|(_, given)| *given) {
        return Err(conflict(format!(
            "--target-quality with {option}: the quality of each chunk is found by trial; drop one of them (-maxrate with -bufsize still bounds the rate)"
        )));
    }
    Ok(())
}
