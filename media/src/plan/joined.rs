//! Several sources in one film: each is planned by itself, and its part moved behind those before it. What they must have in common
//! is what ffmpeg's `concat` asks for, and what one encoder's stream takes.

use spool_proto::call::{Edit, NextTrack, PlanArgs, PlanSummary, SceneChange, SourceFacts, VideoFacts, VideoPlan};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{Filter, Rational, Subtitles, VideoSpec};
use spool_proto::uri;

use super::{FRAMES_MAX, Plan, video_facts};
use crate::packets::PacketIndex;
use crate::timeline::{MICROSECOND, rescale};

/// Plans a film of several sources; `indexes` are of their video streams, `scans` of their pictures, where there are such.
///
/// # Errors
/// Those of [`super::plan`], with the source they are of; `inputs_differ` (class spec) names two sources that do not go together.
pub fn plan(indexes: &[PacketIndex], scans: &[Option<Vec<SceneChange>>], args: &PlanArgs) -> Result<Plan, Failure> {
    let sources: Vec<&SourceFacts> = std::iter::once(&args.source).chain(&args.joined).collect();
    let mut film: Option<Plan> = None;
    let mut at = 0;
    for ((number, facts), index) in (0u32..).zip(sources).zip(indexes) {
        let spec = args.spec.of_input(number);
        let name = uri::shown(&spec.source);
        // Parts are side by side even where each is one chunk.
        let own = PlanArgs { spec, source: facts.clone(), joined: Vec::new(), unsplit_threads: 1, ..args.clone() };
        let scan = usize::try_from(number).ok().and_then(|at| scans.get(at)).and_then(Option::as_deref);
        let mut part = super::plan(Some(index), scan, &own)
            .map_err(|failure| Failure { message: format!("{name}: {}", failure.message), ..failure })?;
        let length = shift(&mut part, number, at)?;
        match &mut film {
            None => film = Some(part),
            Some(film) => {
                let first = (&args.source, args.spec.source.as_str());
                agree(args, first, (facts, own.spec.source.as_str()), (&film.summary, &part.summary))?;
                append(film, part, &own);
            }
        }
        at += length;
    }
    let mut film = film.ok_or_else(|| Failure::new(Class::Internal, "index_missing", "no packet index was made"))?;
    if film.summary.video.as_ref().and_then(|video| video.frames).is_some_and(|frames| frames > FRAMES_MAX) {
        let message = format!("the inputs have more than {FRAMES_MAX} frames together");
        return Err(Failure::new(Class::Spec, "too_many_frames", message));
    }
    let edits = film.summary.edits.clone();
    film.summary.audio.iter_mut().for_each(|track| {
        track.spec = args.spec.clone();
        track.edits.clone_from(&edits);
    });
    let has_text = |facts: &SourceFacts| {
        facts.streams.iter().any(|stream| matches!(stream.media, spool_proto::call::MediaFacts::Subtitle))
    };
    if args.spec.subtitles != Subtitles::None && std::iter::once(&args.source).chain(&args.joined).any(has_text) {
        film.warnings.push(Warning {
            code: "subtitles_dropped".into(),
            stream: None,
            text: "subtitles of several inputs are not joined: they are left out".into(),
        });
    }
    Ok(film)
}

/// Moves a part behind `at` ticks of the encoder; answers how many it has.
fn shift(part: &mut Plan, input: u32, at: i64) -> Result<i64, Failure> {
    let nothing =
        || Failure::new(Class::Internal, "frames_differ", "a part of the film was planned without its frames");
    let video = part.summary.video.as_mut().ok_or_else(nothing)?;
    let tick = Rational::new(video.frame_rate.den, video.frame_rate.num);
    let table = part.file.as_mut().and_then(|file| file.frames.as_mut()).ok_or_else(nothing)?;
    table.output.iter_mut().for_each(|frame| frame.pts += at);
    video.chunks.iter_mut().for_each(|chunk| chunk.input = input);
    if input > 0
        && let Some(first) = video.chunks.first_mut()
    {
        first.cut = "input".into();
    }
    let moved = |us: i64| at + rescale(us, MICROSECOND, tick);
    let mut end = at;
    for edit in &mut part.summary.edits {
        let at_us = rescale(moved(edit.at_us), tick, MICROSECOND);
        end = moved(edit.end_us());
        let length_us = rescale(end, tick, MICROSECOND) - at_us;
        *edit = Edit { source_us: edit.source_us, length_us, at_us, input };
    }
    Ok(end - at)
}

/// Puts a part behind the film.
fn append(film: &mut Plan, part: Plan, own: &PlanArgs) {
    if let (Some(video), Some(more)) = (&mut film.summary.video, part.summary.video) {
        let frames = video.chunks.last().map_or(0, |chunk| chunk.end);
        video.chunks.extend(more.chunks.into_iter().map(|mut chunk| {
            chunk.start += frames;
            chunk.end += frames;
            chunk
        }));
        video.frames = video.frames.zip(more.frames).map(|(a, b)| a + b);
    }
    film.summary.edits.extend(part.summary.edits);
    for (track, next) in film.summary.audio.iter_mut().zip(part.summary.audio) {
        track.joined.push(NextTrack { stream: next.stream, jumps: next.jumps });
    }
    film.more.extend(part.file);
    let name = uri::shown(&own.spec.source);
    film.warnings.extend(part.warnings.into_iter().map(|warning| Warning {
        // The number is of another source's stream.
        stream: None,
        text: format!("{name}, stream {}: {}", warning.stream.map_or("-".into(), |n| n.to_string()), warning.text),
        ..warning
    }));
}

/// # Errors
/// What they differ in, and what to do about it.
fn agree(
    args: &PlanArgs,
    (first, first_uri): (&SourceFacts, &str),
    (next, next_uri): (&SourceFacts, &str),
    (film, part): (&PlanSummary, &PlanSummary),
) -> Result<(), Failure> {
    let differ = |what: &str, is: &dyn std::fmt::Display, was: &dyn std::fmt::Display, then: &str| {
        let (next, first) = (uri::shown(next_uri), uri::shown(first_uri));
        let message = format!("{next} has {what} {is}, {first} has {was}: {then}");
        Err(Failure::new(Class::Spec, "inputs_differ", message))
    };
    let (Some(asked), Some(video), Some(more)) = (&args.spec.video, &film.video, &part.video) else { return Ok(()) };
    let picture = |plan: &VideoPlan, facts: &SourceFacts| video_facts(facts, plan.stream).cloned();
    let (Some(a), Some(b)) = (picture(video, first), picture(more, next)) else { return Ok(()) };
    if (video.width, video.height) != (more.width, more.height) {
        let size = |plan: &VideoPlan| format!("{}x{}", plan.width, plan.height);
        return differ(
            "pictures of",
            &size(more),
            &size(video),
            "bring them to one size with -s or -vf scale, pad or crop",
        );
    }
    if !frame_rates_agree(asked, video.frame_rate, more.frame_rate) {
        return differ("a frame rate of", &more.frame_rate, &video.frame_rate, "set one with -r");
    }
    let (ratio_a, ratio_b) = (ratio(asked, &a), ratio(asked, &b));
    if ratio_a != ratio_b {
        let text = |ratio: Option<(i64, i64)>| ratio.map_or("unknown".into(), |(num, den)| format!("{num}:{den}"));
        return differ("pixels of the shape", &text(ratio_b), &text(ratio_a), "add setsar=1 to -vf");
    }
    let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let formats = asked.filters.iter().any(|filter| matches!(filter, Filter::Format(_)));
    if a.pix_fmt != b.pix_fmt && asked.pix_fmt.is_none() && !formats && asked.tonemap.is_none() {
        return differ("the pixel format", &told(&b.pix_fmt), &told(&a.pix_fmt), "set one with -pix_fmt");
    }
    let converts = |filter: &Filter| matches!(filter, Filter::Named(named) if matches!(named.filter.as_str(), "colorspace" | "zscale" | "tonemap"));
    let colors = |facts: &VideoFacts| {
        let range = facts.color_range.clone().or_else(|| Some("tv".into()));
        [&range, &facts.color_primaries, &facts.color_transfer, &facts.color_space].map(told).join("/")
    };
    if colors(&a) != colors(&b) && !asked.filters.iter().any(converts) && asked.tonemap.is_none() {
        return differ("the colours", &colors(&b), &colors(&a), "bring them to one with -vf colorspace or zscale");
    }
    let order = |facts: &VideoFacts| facts.field_order.clone().unwrap_or_else(|| "progressive".into());
    if order(&a) != order(&b) {
        return differ("the order of fields", &order(&b), &order(&a), "deinterlace the one first");
    }
    if film.audio.len() != part.audio.len() {
        return differ(
            "tracks of sound:",
            &part.audio.len(),
            &film.audio.len(),
            "leave sound out with -an, or give each input some",
        );
    }
    Ok(())
}

fn frame_rates_agree(asked: &VideoSpec, first: Rational, next: Rational) -> bool {
    asked.frame_rate.is_some()
        || i64::from(first.num) * i64::from(next.den) == i64::from(next.num) * i64::from(first.den)
}

/// Width to height of a pixel behind the filters, in lowest terms. `None`: unknown, or set by a filter to what both have.
fn ratio(spec: &VideoSpec, facts: &VideoFacts) -> Option<(i64, i64)> {
    let sar = facts.sample_aspect_ratio;
    let (mut num, mut den) = if sar.num > 0 && sar.den > 0 { (i64::from(sar.num), i64::from(sar.den)) } else { (1, 1) };
    let mut chain = VideoSpec { filters: Vec::new(), size: None, ..spec.clone() };
    let mut size = super::cost::output_size(facts, &chain);
    for filter in &spec.filters {
        chain.filters.push(filter.clone());
        let next = super::cost::output_size(facts, &chain);
        match filter {
            Filter::Named(named) if matches!(named.filter.as_str(), "setsar" | "setdar") => return None,
            Filter::Named(named) if named.filter == "transpose" => (num, den) = (den, num),
            Filter::Scale { .. } => {
                num *= i64::from(size.0) * i64::from(next.1);
                den *= i64::from(size.1) * i64::from(next.0);
            }
            _ => {}
        }
        (num, den) = lowest(num, den);
        size = next;
    }
    if let Some(last) = spec.size {
        num *= i64::from(size.0) * i64::from(last.height);
        den *= i64::from(size.1) * i64::from(last.width);
    }
    Some(lowest(num, den))
}

fn lowest(num: i64, den: i64) -> (i64, i64) {
    let (mut a, mut b) = (num, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    if a == 0 { (num, den) } else { (num / a, den / a) }
}

#[cfg(test)]
mod tests {
    use spool_proto::spec::VideoCodec;
    use spool_proto::spec::parse::filters;

    use super::*;

    #[test]
    fn the_shape_of_pixels_is_followed_through_the_filters() {
        let facts = VideoFacts {
            width: 720,
            height: 576,
            pix_fmt: None,
            sample_aspect_ratio: Rational::new(16, 15),
            rotation: 0,
            frame_rate: None,
            average_frame_rate: None,
            field_order: None,
            color_range: None,
            color_primaries: None,
            color_transfer: None,
            color_space: None,
            attached_picture: false,
            packets: None,
            tells_scenes: None,
            crop: None,
        };
        for (chain, expected) in [
            ("", Some((16, 15))),
            ("scale=768:576", Some((1, 1))),
            ("crop=704:576,transpose", Some((15, 16))),
            ("scale=1024:576,setsar=1", None),
            ("scale=360:288,hflip", Some((16, 15))),
        ] {
            let spec = VideoSpec { filters: filters(chain).expect(chain), ..VideoSpec::new(VideoCodec::Libx264) };
            assert_eq!(ratio(&spec, &facts), expected, "{chain}");
        }
    }
}
