//! `media.trial`: samples of a chunk encoded at several qualities, or until one of them meets a target. The pictures are decoded and
//! filtered once and kept in memory; what comes of each encode is decoded again and scored against them, in the process.
//!
//! Reading order: `search` (which quality to try next, pure), `keep` (the pictures), `point` (one quality tried).

use std::io::BufReader;

use spool_proto::call::{EncodeArgs, POINTS_MAX, TrialArgs, TrialFound, TrialManifest, TrialPoint, TrialPoints, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::quality::Metric;
use spool_proto::spec::{QualityTarget, Size, VideoSpec};

use crate::plan_file::PlanFile;
use crate::{Host, Product, encode, params};
use keep::{Keeper, Kept};
use point::Bench;
use search::Search;

mod keep;
mod point;
mod search;

/// Runs `media.trial`. Memory: that of an encode, and the pictures ([`SAMPLE_BYTES_MAX`](spool_proto::call::SAMPLE_BYTES_MAX)), twice
/// where they are scaled.
///
/// # Errors
/// Class spec: `bad_trial` (samples, sizes or qualities that make no sense), `sample_too_large`, `no_frames`, and what the encoder
/// refuses. Else those of an encode.
pub fn run(args: &TrialArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let ask = ask(args)?;
    let plan = PlanFile::read(BufReader::new(host.open(1)?))?;
    let samples = keep::ranges(&args.samples)?;
    let kept: Kept = encode::pictures::<Keeper>(&args.encode, &plan, &samples, host)?;
    let mut warnings = Vec::new();
    let (bench, points, found) = match ask {
        Ask::Points(TrialPoints { crfs, sizes }) => {
            let mut bench = Bench::new(args.encode.clone(), vec![Metric::Psnr, Metric::Ssim], &kept, &plan, host);
            let points = all(&mut bench, &kept, crfs, sizes)?;
            (bench, points, None)
        }
        Ask::Target(target) => {
            let video = video(&args.encode)?;
            // A ceiling on the rate bounds what is made, not what is sought: beneath it no quality would meet the target.
            let free = VideoSpec { maxrate_bps: None, bufsize_bits: None, ..video.clone() };
            let mut encode = args.encode.clone();
            encode.spec.video = Some(free);
            let mut bench = Bench::new(encode, vec![target.metric()], &kept, &plan, host);
            let mut search = Search::new(video.codec, target);
            let points = meet(&mut bench, &kept, &mut search)?;
            let (crf, score) = search.found();
            warnings.extend(unattainable(&search, target, video, plan.stream));
            (bench, points, Some(TrialFound { crf, score }))
        }
    };
    let reference =
        bench.reference.ok_or_else(|| Failure::new(Class::Internal, "no_frames", "nothing was compared"))?;
    let value = TrialManifest { frames: kept.frames(), reference, points, found };
    Ok(Product { files: Vec::new(), warnings, value: Value::Trial(value) })
}

/// Which qualities are tried.
enum Ask<'a> {
    Points(&'a TrialPoints),
    Target(QualityTarget),
}

fn ask(args: &TrialArgs) -> Result<Ask<'_>, Failure> {
    match (&args.points, args.target) {
        (Some(TrialPoints { crfs, sizes }), None)
            if crfs.is_empty() || crfs.len() * sizes.len().max(1) > POINTS_MAX =>
        {
            let (crfs, sizes) = (crfs.len(), sizes.len());
            Err(refused(format!("{crfs} qualities of {sizes} sizes: 1 to {POINTS_MAX} points are tried")))
        }
        (Some(points), None) => Ok(Ask::Points(points)),
        (None, Some(target)) => Ok(Ask::Target(target)),
        (Some(_), Some(_)) => Err(refused("points and a target: name one of them".into())),
        (None, None) => Err(refused("neither points nor a target: there is nothing to try".into())),
    }
}

fn video(args: &EncodeArgs) -> Result<&VideoSpec, Failure> {
    let none = || Failure::new(Class::Internal, "no_video", "a trial encode without video settings");
    args.spec.video.as_ref().ok_or_else(none)
}

fn refused(message: String) -> Failure {
    Failure::new(Class::Spec, "bad_trial", message)
}

/// Every quality at every size.
fn all(bench: &mut Bench<'_>, kept: &Kept, crfs: &[f32], sizes: &[Size]) -> Result<Vec<TrialPoint>, Failure> {
    let mut points = Vec::new();
    let own = [kept.size()];
    for size in if sizes.is_empty() { &own } else { sizes } {
        let scaled = if *size == kept.size() { None } else { Some(kept.scaled(*size, bench.threads())?) };
        for crf in crfs {
            points.push(bench.point(scaled.as_ref().unwrap_or(kept), *crf)?);
        }
    }
    Ok(points)
}

/// One quality after the other, until the search has what it wants.
fn meet(bench: &mut Bench<'_>, kept: &Kept, search: &mut Search) -> Result<Vec<TrialPoint>, Failure> {
    let mut points = Vec::new();
    while let Some(crf) = search.next() {
        let point = bench.point(kept, crf)?;
        search.add(crf, point.scores.first().map_or(0.0, |summary| summary.mean));
        points.push(point);
    }
    Ok(points)
}

/// The same words for every chunk, so that a job says them once.
fn unattainable(search: &Search, target: QualityTarget, video: &VideoSpec, stream: u32) -> Option<Warning> {
    search.is_unattainable().then(|| Warning {
        code: "quality_unattainable".into(),
        stream: Some(stream),
        text: format!(
            "parts of it do not come to {target} with {} at -crf {}, the best that is tried: they are encoded with that",
            params::encoder_name(video.codec),
            search.best()
        ),
    })
}
