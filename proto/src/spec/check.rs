//! Judging a spec before a job is made of it: what can be known without looking at the source. Every refusal names the option
//! as ffmpeg's users type it, says what is taken, and comes before anything is stored.

mod encoder;
mod sound;

use encoder::Encoder;

use super::{
    AudioSpec, Container, EncodeSpec, Filter, FunctionSpec, HOPS_MAX, JobSpec, Overlay, PRIORITY_MAX, QualitySpec,
    Service, Size, Subtitles, TextCodec, VideoCodec, VideoSpec, clip,
};
use crate::failure::{Class, Failure};
use crate::pool::{Class as PoolClass, PoolName};
use crate::quality::Metric;
use crate::time::Span;
use crate::uri::{self, Location};

/// Chunks shorter than this cost more than they win.
pub const CHUNK_MIN: Span = Span::from_millis(500);
/// Longest chunk: a day.
pub const CHUNK_MAX: Span = Span::from_secs(86_400);
/// The largest picture side any of the encoders takes.
pub const SIDE_MAX: u32 = 16_384;
/// The smallest picture side all of the encoders take with Spool's settings.
pub const SIDE_MIN: u32 = 16;
pub const THREADS_MAX: u16 = 64;
/// Most `-map` options, and most filters: a bound, not a wish.
const LIST_MAX: usize = 64;

/// The value of one option is not taken.
pub(super) fn refused(message: impl Into<String>) -> Failure {
    Failure::new(Class::Spec, "option_refused", message)
}

/// Each option alone would be taken, but not together.
pub(super) fn conflict(message: impl Into<String>) -> Failure {
    Failure::new(Class::Spec, "options_conflict", message)
}

impl JobSpec {
    /// Judges the job and the service's own spec.
    ///
    /// # Errors
    /// The first problem found, class `spec`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.priority > PRIORITY_MAX {
            return Err(refused(format!(
                "--priority {}: priorities go from 0 (last) to {PRIORITY_MAX}",
                self.priority
            )));
        }
        if self.max_attempts == 0 {
            return Err(refused("max_attempts 0: a task needs at least one attempt"));
        }
        check_pool("--pool", &self.pool)?;
        self.check_class()?;
        self.check_hops()?;
        match &self.service {
            Service::VideoEncode(spec) => spec.check(),
            Service::Title(spec) => spec.check(),
            Service::Rules(rules) if rules.name.is_empty() => Err(refused("the service has no name")),
            Service::Rules(_) => Ok(()),
            Service::Function(spec) => check_function(spec),
            Service::Bench(spec) if spec.tasks == 0 => Err(refused("--tasks 0: a benchmark needs at least one task")),
            Service::Bench(_) => Ok(()),
        }
    }

    fn check_class(&self) -> Result<(), Failure> {
        let PoolClass::Opportunistic { start_by } = self.class else { return Ok(()) };
        if !self.preemptible {
            return Err(conflict(
                "--not-preemptible with --opportunistic-until: what waits for spare capacity is the first to give it back; drop one of them",
            ));
        }
        if self.deadline.is_some_and(|deadline| start_by > deadline) {
            return Err(conflict(
                "--opportunistic-until is later than --deadline: by then it should be done; name an earlier time",
            ));
        }
        Ok(())
    }

    fn check_hops(&self) -> Result<(), Failure> {
        if self.hop.len() > HOPS_MAX {
            return Err(refused(format!("--hop is given {} times; at most {HOPS_MAX} are taken", self.hop.len())));
        }
        for hop in &self.hop {
            check_pool("--hop", &hop.pool)?;
            if hop.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
                return Err(refused(format!("--hop to {}: priorities go from 0 (last) to {PRIORITY_MAX}", hop.pool)));
            }
        }
        match self.hop.windows(2).find(|pair| pair[0].after >= pair[1].after) {
            Some(pair) => Err(refused(format!(
                "--hop to {} comes no later than the one to {} before it: give hops in the order of their times, each later than the one before",
                pair[1].pool, pair[0].pool
            ))),
            None => Ok(()),
        }
    }
}

/// What can be known of it without the function.
fn check_function(spec: &FunctionSpec) -> Result<(), Failure> {
    if spec.name.is_empty() {
        return Err(refused("the function has no name"));
    }
    let Some(output) = &spec.output else { return Ok(()) };
    match Location::parse(output)? {
        Location::File(_) | Location::S3 { .. } if output.ends_with('/') => Ok(()),
        Location::File(_) | Location::S3 { .. } => Err(refused(format!("--out {output}: a folder ends in /"))),
        Location::Http(_) | Location::Spool { .. } => {
            Err(refused(format!("--out {}: files are left in a folder or under s3://", uri::shown(output))))
        }
    }
}

/// Jobs go into pools that are not divided: never into the root.
fn check_pool(option: &str, pool: &PoolName) -> Result<(), Failure> {
    if pool.is_root() {
        return Err(refused(format!("{option} /: the root takes no jobs; name one of the pools below it")));
    }
    pool.check().map_err(|e| refused(format!("{option} {:?}: {}", &*pool.0, e.rule)))
}

impl EncodeSpec {
    fn check_quality(&self, quality: &QualitySpec) -> Result<(), Failure> {
        if self.video.is_none() {
            return Err(conflict("--quality with -vn: only pictures are scored; drop one of them"));
        }
        if quality.metrics.is_empty() {
            return Err(refused("--quality: name psnr, ssim or both"));
        }
        if let Some(report) = &quality.report {
            if report.ends_with(".svg") {
                return Err(refused("--quality-report: .svg is its chart's; name the report .json"));
            }
            if [Some(&self.source), Some(&self.output), self.index.as_ref()].contains(&Some(report)) {
                return Err(conflict("--quality-report names the film or the index: name another file"));
            }
        }
        if quality.metrics.contains(&Metric::Vmaf) {
            return Err(refused("--quality vmaf: jobs score psnr and ssim; afterwards `spool quality` reckons VMAF"));
        }
        Ok(())
    }

    /// Judges all that can be judged without the source.
    ///
    /// # Errors
    /// The first problem found, class `spec`: `option_refused` (a value is not taken), `options_conflict` (values exclude each
    /// other), `container_refuses` (the container cannot hold a codec), `bad_uri` and `unsupported_scheme`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.source == self.output {
            return Err(conflict("the output is the source itself: name another output"));
        }
        Location::parse(&self.source)?;
        let report = self.quality.as_ref().and_then(|quality| quality.report.as_ref());
        for output in std::iter::once(&self.output).chain(&self.index).chain(report) {
            if !matches!(Location::parse(output)?, Location::File(_) | Location::S3 { .. }) {
                return Err(refused(format!(
                    "the output {}: films are put into files (file:///path) or objects (s3://bucket/key)",
                    uri::shown(output)
                )));
            }
        }
        if self.video.is_none() && self.audio.is_none() {
            return Err(conflict("-vn with -an: nothing is left to encode, drop one of them"));
        }
        if let Some(quality) = &self.quality {
            self.check_quality(quality)?;
        }
        if let Some(video) = &self.video {
            video.check()?;
        }
        self.check_sounds()?;
        self.check_container()?;
        if self.maps.len() > LIST_MAX {
            return Err(refused(format!("-map is given {} times; at most {LIST_MAX} are taken", self.maps.len())));
        }
        if !self.maps.is_empty() && self.maps.iter().all(|map| map.negative) {
            return Err(conflict("-map only leaves streams out: name what goes in first, such as -map 0"));
        }
        if self.trim.duration == Some(Span::ZERO) {
            return Err(refused("-t 0 (or -to at -ss): nothing of the film would be left"));
        }
        clip::check(self)?;
        if let Some(segment) = self.segment_frames {
            let gop = self.video.as_ref().filter(|video| video.fixed_gop).and_then(|video| video.gop_frames);
            if segment == 0 || !gop.is_some_and(|gop| segment.is_multiple_of(gop.max(1))) {
                return Err(conflict(format!(
                    "segment_frames {segment}: segments are whole groups of pictures; set fixed_gop, and gop_frames to a divisor"
                )));
            }
        }
        match self.chunk {
            Some(chunk) if chunk < CHUNK_MIN => {
                Err(refused(format!("--chunk {}: chunks are at least 500ms long", super::parse::time_text(chunk))))
            }
            Some(chunk) if chunk > CHUNK_MAX => {
                Err(refused(format!("--chunk {}: chunks are at most 24:00:00 long", super::parse::time_text(chunk))))
            }
            _ => Ok(()),
        }
    }

    /// What FFmpeg's muxers refuse, refused before a film is encoded for nothing.
    fn check_container(&self) -> Result<(), Failure> {
        let container = self.container;
        let refuse = |option: &str, codec: &str, instead: &str| {
            let message = format!("{option} {codec}: .{container} does not hold it; {instead}");
            Err(Failure::new(Class::Spec, "container_refuses", message))
        };
        if let Some(video) = &self.video {
            let codec = video.codec;
            let free = matches!(codec, VideoCodec::Libsvtav1 | VideoCodec::LibvpxVp9);
            match container {
                Container::Webm if !free => {
                    return refuse("-c:v", codec.name(), "take -c:v libvpx-vp9 or libsvtav1, or name the output .mkv");
                }
                Container::Mov if free => return refuse("-c:v", codec.name(), "name the output .mp4, .mkv or .webm"),
                _ => {}
            }
        }
        self.sounds().try_for_each(|audio| match audio.codec.fits(container) {
            Ok(()) => Ok(()),
            Err(instead) => refuse("-c:a", audio.codec.name(), instead),
        })?;
        match self.subtitles {
            Subtitles::Text(codec) if !codec.fits(container) => {
                let instead = format!("take -c:s {}, or name the output .mkv", TextCodec::of(container));
                refuse("-c:s", codec.name(), &instead)
            }
            _ => Ok(()),
        }
    }

    /// Every setting that some output track may have.
    fn sounds(&self) -> impl Iterator<Item = &AudioSpec> {
        self.audio.iter().chain(self.audio_tracks.iter().map(|own| &own.audio))
    }

    fn check_sounds(&self) -> Result<(), Failure> {
        if self.audio_tracks.len() > LIST_MAX {
            let given = self.audio_tracks.len();
            return Err(refused(format!(
                "{given} audio tracks have settings of their own; at most {LIST_MAX} are taken"
            )));
        }
        for (place, own) in self.audio_tracks.iter().enumerate() {
            if self.audio_tracks[..place].iter().any(|other| other.track == own.track) {
                return Err(conflict(format!("audio track {} is described twice; name its settings once", own.track)));
            }
        }
        if self.audio.is_none() && !self.audio_tracks.is_empty() {
            return Err(conflict("settings of audio tracks with -an: drop one of them"));
        }
        self.sounds().try_for_each(AudioSpec::check)
    }
}

impl VideoSpec {
    fn check(&self) -> Result<(), Failure> {
        let encoder = Encoder::of(self.codec);
        encoder.check(self)?;
        if self.gop_frames == Some(0) {
            return Err(refused("-g 0: keyframes alone are -g 1; leave -g out for the encoder's own distance"));
        }
        if self.fixed_gop && self.gop_frames.is_none() {
            return Err(refused("fixed_gop without gop_frames: say how many frames go from keyframe to keyframe"));
        }
        if self.gop_frames.is_some_and(|frames| frames > 100_000) {
            return Err(refused("-g: at most 100000 frames between keyframes"));
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)) {
            return Err(refused(format!("-threads {threads}: an encoder takes 1 to {THREADS_MAX}")));
        }
        if let Some(size) = self.size {
            check_size("-s", size)?;
        }
        if self.filters.len() > LIST_MAX {
            return Err(refused(format!("-vf has {} filters; at most {LIST_MAX} are taken", self.filters.len())));
        }
        if let Some(rate) = self.frame_rate {
            check_rate("-r", rate)?;
        }
        self.filters.iter().try_for_each(check_filter)?;
        if let Some(overlay) = &self.overlay {
            check_overlay(overlay)?;
        }
        // What the encoder is given last decides: `-s` comes behind the filters.
        let last_scale = self.filters.iter().rev().find_map(|filter| match filter {
            Filter::Scale { width, height, .. } => Some((filter, *width, *height)),
            _ => None,
        });
        match last_scale {
            Some((filter, width, height)) if self.size.is_none() && !self.crops_or_pads_after_scaling() => {
                let odd = |side: i32| side > 0 && side % 2 != 0;
                if self.needs_even_sides() && (odd(width) || odd(height)) {
                    return Err(refused(format!(
                        "-vf {filter}: {} takes even sizes only with 4:2:0 pixels; take an even number, or -2",
                        self.codec
                    )));
                }
            }
            _ => {}
        }
        if let Some(size) = self.size.filter(|size| size.width % 2 + size.height % 2 > 0 && self.needs_even_sides()) {
            return Err(refused(format!("-s {size}: {} takes even sizes only with 4:2:0 pixels", self.codec)));
        }
        Ok(())
    }

    fn crops_or_pads_after_scaling(&self) -> bool {
        let after = self.filters.iter().rev().take_while(|filter| !matches!(filter, Filter::Scale { .. }));
        after.into_iter().any(|filter| matches!(filter, Filter::Crop { .. } | Filter::Pad { .. }))
    }

    /// True where the pixels are known to be 4:2:0. Without `-pix_fmt` the source decides, so nothing is refused here.
    fn needs_even_sides(&self) -> bool {
        self.pix_fmt.as_deref().is_some_and(|format| format.contains("420"))
            || matches!(self.codec, VideoCodec::Libsvtav1)
    }
}

fn check_size(option: &str, size: Size) -> Result<(), Failure> {
    let fits = |side: u32| (SIDE_MIN..=SIDE_MAX).contains(&side);
    if fits(size.width) && fits(size.height) {
        return Ok(());
    }
    Err(refused(format!("{option} {size}: sides go from {SIDE_MIN} to {SIDE_MAX} pixels")))
}

fn check_rate(option: &str, rate: super::Rational) -> Result<(), Failure> {
    if rate.num > 0 && rate.den > 0 && rate.num / rate.den <= 1000 {
        return Ok(());
    }
    Err(refused(format!("{option} {rate}: frame rates go up to 1000 and are above zero")))
}

fn check_overlay(overlay: &Overlay) -> Result<(), Failure> {
    if !(1..=100).contains(&overlay.opacity_percent) {
        return Err(refused(format!(
            "--overlay-opacity {}: opacity goes from 1 (hardly seen) to 100 percent",
            overlay.opacity_percent
        )));
    }
    match (overlay.from, overlay.to) {
        (from, Some(to)) if to <= from.unwrap_or(Span::ZERO) => {
            let message = "--overlay-to is not after --overlay-from: the picture would never be seen";
            Err(conflict(message))
        }
        _ => Ok(()),
    }
}

fn check_filter(filter: &Filter) -> Result<(), Failure> {
    let too_large = || Err(refused(format!("-vf {filter}: sides go up to {SIDE_MAX} pixels")));
    let large = |side: u32| side > SIDE_MAX;
    match filter {
        Filter::Scale { width, height, .. } => {
            if [*width, *height].into_iter().any(|side| large(side.unsigned_abs())) {
                return too_large();
            }
            Ok(())
        }
        Filter::Crop { width, height, .. } if *width == 0 || *height == 0 => {
            Err(refused(format!("-vf {filter}: nothing of the picture would be left")))
        }
        Filter::Crop { width, height, .. } if large(*width) || large(*height) => too_large(),
        Filter::Pad { width, height, .. } if large(*width) || large(*height) => too_large(),
        Filter::Crop { .. } | Filter::Pad { .. } => Ok(()),
        Filter::Fps(rate) => check_rate("-vf fps", *rate),
        Filter::Named(named) => named.step().map(drop).map_err(|why| refused(format!("-vf {filter}: {why}"))),
        Filter::Format(formats) => match formats.iter().find(|format| !encoder::is_filter_format(format)) {
            Some(format) => Err(refused(format!(
                "-vf {filter}: there is no pixel format {format:?} here; taken are {}, {}",
                encoder::PIXEL_FORMATS.join(", "),
                encoder::BETWEEN_FORMATS.join(", ")
            ))),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests;
