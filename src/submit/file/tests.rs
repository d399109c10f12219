use super::*;

const TITLE: &str = "
apiVersion: spool/v1
kind: Job
metadata: {name: bunny, requestId: bunny-1}
spec:
  pool: studio/films
  priority: 60
  deadline: 2026-05-01T18:00:00Z
  hop: [{after: 10m, pool: rush, priority: 80}]
  retry: {maxAttempts: 5}
  input: /films/bunny.mov
  output: /out/bunny
  trim: {start: 10s, duration: 1m}
  video:
    - {name: hd, codec: libx264, height: 720, crf: 21, maxrate: 4M, bufsize: 8000000, preset: fast}
    - {codec: libsvtav1, height: 360, crf: 35, preset: 8}
  audio:
    - {codec: libopus, bitrate: 96k, tracks: language:eng}
    - {name: surround, codec: aac, channels: 6, tracks: 1}
  packages: [hls, dash]
  chunking: {segment: 4s, gop: 1s, target: 12s, cuts: scan}
";

#[test]
fn a_title_is_read_whole() {
    let file = parse("job.yaml", TITLE).expect("a good file");
    assert_eq!(file.metadata.request_id.as_deref(), Some("bunny-1"));
    let service = file.body.service("file:///films/bunny.mov".into(), "file:///out/bunny/".into()).expect("good");
    let job = file.body.job("bunny".into(), service).expect("good");
    assert_eq!((&*job.pool.0, job.priority, job.max_attempts), ("studio/films", 60, 5));
    assert_eq!(job.hop, [Hop { after: Span::from_secs(600), pool: "rush".into(), priority: Some(80) }]);
    let Service::Title(title) = job.service else { panic!("a title") };
    assert_eq!(title.trim.start, Some(Span::from_secs(10)));
    assert_eq!((title.segment, title.gop), (Span::from_secs(4), Span::from_secs(1)));
    assert_eq!(title.cuts, Cuts::Scan);
    let names: Vec<&str> = title.video.iter().map(|rendition| rendition.name.as_str()).collect();
    assert_eq!(names, ["hd", "360p"]);
    assert_eq!(title.video[0].video.bufsize_bits, Some(8_000_000));
    assert_eq!(title.video[1].video.preset.as_deref(), Some("8"));
    assert_eq!(title.audio[0].tracks, spool_proto::spec::title::TrackChoice::Language("eng".into()));
    assert_eq!(title.audio[0].name, "opus");
    assert_eq!(title.audio[1].audio.channels, Some(6));
}

#[test]
fn text_is_drawn_behind_the_filters() {
    let burn = |text: &str| {
        let text = format!(
            "apiVersion: spool/v1\nkind: Job\nspec:\n  video: [{{codec: libx264, filters: hflip, burnIn: {text}}}]\n"
        );
        let body = parse("job.yaml", &text).expect("a good file").body;
        let Ok(Service::VideoEncode(film)) = body.service("file:///film.mkv".into(), "file:///o.mp4".into()) else {
            panic!("{text} is a film's")
        };
        let video = film.video.expect("there is video");
        assert_eq!(video.filters.len(), 2);
        match video.filters.into_iter().next_back() {
            Some(Filter::Subtitles(burn)) => burn,
            other => panic!("{text}: {other:?}"),
        }
    };
    let style = Some("FontSize=28".to_owned());
    let file = Some("file:///a%20b.srt".to_owned());
    assert_eq!(burn("{text: /a b.srt, style: FontSize=28}"), BurnIn { file, style, ..BurnIn::default() });
    assert_eq!(burn("{text: 1}"), BurnIn { stream: Some(1), ..BurnIn::default() });
    assert_eq!(burn("{text: /film.mkv}"), BurnIn::default(), "the source's own text");
}

#[test]
fn a_quality_to_be_met_and_a_ladder_of_its_own_are_read() {
    let text = "
apiVersion: spool/v1
kind: Job
spec:
  video: [{name: hd, codec: libx264, targetQuality: {ssim: 0.98}}]
  ladder: {codecs: [libsvtav1], perTitle: true}
  packages: [hls]
";
    let body = parse("job.yaml", text).expect("a good file").body;
    let Ok(Service::Title(title)) = body.service("file:///in.mov".into(), "file:///out/".into()) else {
        panic!("a title")
    };
    assert_eq!(title.video[0].video.target_quality, Some(QualityTarget::Ssim(0.98)));
    assert!(title.ladder.is_some_and(|ladder| ladder.per_title));
    let other = text.replace("{ssim: 0.98}", "{vmaf: 95}");
    let error = parse("job.yaml", &other).expect_err("jobs do not measure it");
    assert!(error.contains("spec.video[0].targetQuality"), "{error}");
}

#[test]
fn a_job_without_packages_is_a_film() {
    let text = "
apiVersion: spool/v1
kind: Job
spec:
  input: in.mov
  output: out.mkv
  video: [{codec: libx265, crf: 26, filters: 'scale=-2:360'}]
  audio: [{codec: flac}]
";
    let body = parse("job.yaml", text).expect("a good file").body;
    let service = body.service("file:///in.mov".into(), "file:///out.mkv".into()).expect("good");
    let Service::VideoEncode(film) = service else { panic!("a film") };
    assert_eq!(film.container, Container::Mkv);
    assert_eq!(film.video.map(|video| video.filters.len()), Some(1));
}

#[test]
fn what_is_wrong_is_named_by_its_place() {
    let spec = |lines: &str| format!("apiVersion: spool/v1\nkind: Job\nspec:\n  input: a\n  output: b\n{lines}");
    for (text, says) in [
        (spec("  colour: red\n"), "job.yaml:6:3: spec.colour: unknown field"),
        (spec("  video: [{codec: libx264, cfr: 3}]\n"), "spec.video[0].cfr"),
        (spec("  video: [{codec: x264}]\n"), "spec.video[0].codec"),
        (spec("  packages: [hls, smooth]\n"), "spec.packages[1]"),
        (spec("  chunking: {target: soon}\n"), "spec.chunking.target"),
        (spec("  chunking: {cuts: guess}\n"), "spec.chunking.cuts"),
        (spec("  priority: 900\n"), "spec.priority"),
        ("apiVersion: spool/v2\nkind: Job\nspec: {}\n".into(), "apiVersion"),
        ("apiVersion: spool/v1\nkind: Pool\nspec: {}\n".into(), "kind"),
    ] {
        let error = parse("job.yaml", &text).expect_err(says);
        assert!(error.contains(says), "{says}: {error}");
    }
    for (lines, output, says) in [
        ("  packages: [hls]\n  video: [{codec: libx264}]\n", "file:///o/", "spec.video[0].name"),
        ("  packages: [hls]\n  audio: [{codec: aac, bitrate: fast}]\n", "file:///o/", "spec.audio[0].bitrate"),
        ("  packages: [hls]\n  audio: [{codec: aac, tracks: loud}]\n", "file:///o/", "spec.audio[0].tracks"),
        ("  video: [{codec: libx264, size: big}]\n", "file:///o.mp4", "spec.video[0].size"),
        ("  video: [{codec: libx264, filters: blur}]\n", "file:///o.mp4", "spec.video[0].filters"),
        ("  video: [{codec: libx264, filters: subtitles=a:b}]\n", "file:///o.mp4", "spec.video[0].filters"),
        ("  video: [{codec: libx264}, {codec: libx265}]\n", "file:///o.mp4", "spec.video[1]"),
        ("  ladder: {codecs: [libx264]}\n", "file:///o.mp4", "spec.ladder"),
        ("  chunking: {segment: 6s}\n", "file:///o.mp4", "spec.chunking.segment"),
        ("  video: [{codec: libx264}]\n", "file:///o.avi", "spec.output"),
    ] {
        let body = parse("job.yaml", &spec(lines)).expect(lines).body;
        let error = body.service("file:///a".into(), output.into()).expect_err(says);
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_job_overrides_its_template_field_by_field() {
    let body = |text: &str| parse("x", &format!("apiVersion: spool/v1\nkind: Job\nspec: {text}\n")).expect(text).body;
    let merged = body("{priority: 9, audio: [{codec: flac}]}")
        .over(body("{priority: 1, pool: films, audio: [{codec: aac}], video: [{codec: libx264}]}"));
    assert_eq!((merged.priority, merged.pool.as_deref()), (Some(9), Some("films")));
    assert_eq!(merged.audio.map(|audio| audio[0].codec), Some(AudioCodec::Flac));
    assert_eq!(merged.video.map(|video| video.len()), Some(1));
}

#[test]
fn what_is_published_live_is_never_made_again() {
    let judge = |more: &str, packages: &str| {
        let text = format!("apiVersion: spool/v1\nkind: Job\nspec:\n  {packages}publish: live\n  {more}\n");
        let body = parse("job.yaml", &text).expect("a good file").body;
        let output = if packages.is_empty() { "file:///o.mp4" } else { "file:///out/" };
        let service = body.service("file:///film.mkv".into(), output.into())?;
        body.job("film".into(), service).map_err(|failure| failure.message)
    };
    let hls = "packages: [hls]\n  ";
    for (more, packages, says) in [
        ("video: [{codec: libx264, height: 90, crf: 30}]", "", "spec.publish: only packages"),
        ("audio: [{codec: aac}]", hls, "publish: live without pictures"),
        ("video: [{codec: libx264, height: 90, bitrate: 1M}]", hls, "video[0].bitrate with publish: live"),
        (
            "video: [{codec: libx264, height: 90, bitrate: 1M, twoPass: true}]",
            hls,
            "video[0].two_pass with publish: live",
        ),
    ] {
        let refused = judge(more, packages).expect_err(more);
        assert!(refused.contains(says), "{says}: {refused}");
    }
    let job = judge("video: [{codec: libx264, height: 90, crf: 30, maxrate: 1M, bufsize: 2M}]", hls).expect("good");
    let Service::Title(title) = &job.service else { panic!("a title") };
    assert_eq!(title.publish, Publish::Live);
    let refused = parse("job.yaml", "apiVersion: spool/v1\nkind: Job\nspec:\n  publish: soon\n").expect_err("soon");
    assert!(refused.contains("spec.publish") && refused.contains("soon"), "{refused}");
}
