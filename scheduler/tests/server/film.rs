//! A `video-encode` job whose worker answers as the media functions do.

use std::path::Path;

use spool_proto::call::{
    Answer, Args, Artifact, AudioFacts, Call, ChunkSummary, FilmManifest, Keyframe, KeyframeTable, MediaFacts, Pairing,
    PictureFacts, PlanSummary, QualityManifest, SourceFacts, StreamFacts, TrackArgs, TrackManifest, Value, VideoFacts,
    VideoPlan,
};
use spool_proto::failure::Warning;
use spool_proto::quality::{Metric, MetricSummary};
use spool_proto::spec::{
    AudioCodec, AudioSpec, Container, EncodeSpec, JobSpec, QualitySpec, Rational, Service, VideoCodec, VideoSpec,
};
use spool_proto::time::Span;
use spool_proto::uri;
use spool_proto::view::{EncodeOutput, JobState};
use spool_proto::wire::v1;
use spool_proto::wire::v1::look_request::At;
use spool_proto::wire::v1::rule_service_client::RuleServiceClient;
use spool_scheduler::{Limits, Server, ServerOptions};

use super::worker::{Fate, Worker};
use super::{Client, start, until};

pub const CHUNKS: u32 = 4;
const FRAMES: u64 = 48;

pub fn spec(folder: &Path) -> JobSpec {
    let video = VideoSpec { crf: Some(21.0), preset: Some("medium".into()), ..VideoSpec::new(VideoCodec::Libx264) };
    let audio = AudioSpec { bitrate_bps: Some(128_000), ..AudioSpec::new(AudioCodec::Aac) };
    let encode = EncodeSpec {
        video: Some(video),
        audio: Some(audio),
        index: Some(uri::from_path(&folder.join("out.json"))),
        ..EncodeSpec::new(
            uri::from_path(&folder.join("in.mov")),
            uri::from_path(&folder.join("out.mp4")),
            Container::Mp4,
        )
    };
    JobSpec { max_attempts: 2, ..JobSpec::new("", Service::VideoEncode(encode)) }
}

/// Does every call of a film of [`CHUNKS`] chunks of two seconds.
pub fn answers(call: &Call, lease: &v1::Lease) -> Fate {
    let artifact = |name: &str| {
        let file = format!("{name}-{}.f{}", lease.task, lease.fence);
        assert_eq!(call.output_prefix, uri::prefix_of_job(spool_proto::ids::JobId(lease.job)));
        Artifact {
            name: name.into(),
            uri: format!("{}{file}", call.output_prefix),
            bytes: 7,
            hash: format!("hash of {name}"),
        }
    };
    let answer = |artifacts: Vec<Artifact>, value| Answer { artifacts, warnings: Vec::new(), source: None, value };
    let answer = match &call.args {
        Args::Probe(args) => {
            assert!(args.index_for.is_some());
            answer(vec![artifact("index")], Value::Probe(Box::new(source())))
        }
        Args::Plan(args) => {
            assert_eq!(args.unsplit_threads, 4, "the cores of the worker");
            assert_eq!(call.inputs.len(), 2);
            let spec = args.spec.clone();
            let warning = Warning { code: "dropped_stream".into(), stream: Some(2), text: "data".into() };
            let plan = PlanSummary {
                video: Some(plan()),
                audio: vec![TrackArgs {
                    spec,
                    stream: 1,
                    track: 0,
                    jumps: Vec::new(),
                    edits: Vec::new(),
                    joined: Vec::new(),
                }],
                subtitles: Vec::new(),
                edits: Vec::new(),
            };
            Answer { warnings: vec![warning], ..answer(vec![artifact("plan")], Value::Plan(plan)) }
        }
        Args::Encode(args) => answer(vec![artifact("chunk")], Value::Track(piece(Some(args.chunk)))),
        Args::Audio(_) => answer(vec![artifact("track")], Value::Track(piece(None))),
        Args::Assemble(args) => {
            assert_eq!(args.tracks.iter().map(|t| t.pieces).collect::<Vec<_>>(), [CHUNKS, 1]);
            assert_eq!(call.inputs.len(), 1 + 4 + 1, "the source, the chunks, the audio");
            answer(vec![artifact("film"), artifact("timeline")], Value::Film(film()))
        }
        Args::Validate(args) => {
            assert_eq!(args.codecs, ["h264", "aac"]);
            assert_eq!(args.frames, Some(FRAMES * u64::from(CHUNKS)));
            assert_eq!(args.joins, [0, 48, 96, 144]);
            answer(Vec::new(), Value::Film(film()))
        }
        Args::Index(args) => {
            assert_eq!(args.joins, [0, 48, 96, 144]);
            answer(vec![artifact("table")], Value::Index(keyframes()))
        }
        Args::Publish(args) => {
            assert_eq!(args.hash, "hash of film", "what is published is what was checked");
            assert!(args.index.is_none(), "the table goes as a file");
            let files: Vec<&str> = call.inputs.iter().map(|uri| name_of(uri)).collect();
            let beside: Vec<&str> = args.beside.iter().map(|uri| uri.rsplit('/').next().unwrap_or(uri)).collect();
            match beside.len() {
                1 => assert_eq!((files, beside), (vec!["film", "table"], vec!["out.json"])),
                _ => {
                    assert_eq!(files, ["film", "table", "report", "chart"]);
                    assert_eq!(beside, ["out.json", "scores.json", "scores.svg"]);
                }
            }
            answer(Vec::new(), Value::Published { uri: args.output.clone(), bytes: 7_000 })
        }
        Args::Quality(args) => {
            let Pairing::Chunk { chunk, .. } = args.pairing else { panic!("{args:?}") };
            assert_eq!(call.inputs.len(), 3, "the source, the plan, the chunk");
            answer(vec![artifact("scores")], Value::Quality(scores(u64::from(chunk) * FRAMES, FRAMES)))
        }
        Args::QualityReport(args) => {
            assert_eq!(args.joins, [0, 48, 96, 144]);
            assert!(args.distorted.ends_with("/out.mp4"), "{}", args.distorted);
            let files: Vec<&str> = call.inputs.iter().map(|uri| name_of(uri)).collect();
            assert_eq!(files, ["table", "scores", "scores", "scores", "scores"]);
            let files = ["report", "chart", "table"].map(artifact).to_vec();
            answer(files, Value::Quality(scores(0, FRAMES * u64::from(CHUNKS))))
        }
        other => panic!("no film needs {other:?}"),
    };
    Fate::Answer(serde_json::to_vec(&answer).expect("JSON"))
}

/// What the artifact at a URI was called.
fn name_of(uri: &str) -> &str {
    let file = uri.rsplit('/').next().unwrap_or(uri);
    file.split('-').next().unwrap_or(file)
}

fn scores(first_frame: u64, frames: u64) -> QualityManifest {
    let picture = PictureFacts { width: 1920, height: 1080, pix_fmt: "yuv420p".into() };
    let summary = MetricSummary {
        metric: Metric::Ssim,
        mean: 0.98,
        min: 0.9,
        min_frame: first_frame,
        min_time_us: 0,
        p1: 0.91,
        p5: 0.95,
        p50: 0.985,
        planes: Vec::new(),
    };
    QualityManifest {
        first_frame,
        frames,
        first_time_us: 0,
        reference: picture.clone(),
        distorted: picture,
        scores: vec![summary],
    }
}

fn source() -> SourceFacts {
    let stream = |index, codec: &str, media| StreamFacts {
        index,
        codec: codec.into(),
        profile: None,
        time_base: Rational::new(1, 24_000),
        start_pts: Some(0),
        duration: None,
        bit_rate_bps: None,
        language: None,
        title: None,
        disposition: Vec::new(),
        tags: Vec::new(),
        jumps: Vec::new(),
        media,
    };
    let video = VideoFacts {
        width: 1920,
        height: 1080,
        pix_fmt: Some("yuv420p".into()),
        sample_aspect_ratio: Rational::new(1, 1),
        rotation: 0,
        frame_rate: Some(Rational::new(24, 1)),
        average_frame_rate: None,
        field_order: None,
        color_range: None,
        color_primaries: None,
        color_transfer: None,
        color_space: None,
        attached_picture: false,
        packets: Some(192),
        tells_scenes: None,
        crop: None,
    };
    let audio = AudioFacts { sample_rate_hz: 48_000, channels: 2, layout: "stereo".into(), sample_format: None };
    SourceFacts {
        format: "mov".into(),
        bytes: 1,
        start_us: Some(0),
        duration_us: Some(8_000_000),
        bit_rate_bps: None,
        streams: vec![stream(0, "prores", MediaFacts::Video(video)), stream(1, "pcm_s16le", MediaFacts::Audio(audio))],
        chapters: Vec::new(),
        tags: Vec::new(),
    }
}

fn plan() -> VideoPlan {
    let chunk = |n: u32| ChunkSummary {
        input: 0,
        start: u64::from(n) * FRAMES,
        end: u64::from(n + 1) * FRAMES,
        cut: if n == 0 { "start".into() } else { "scene".into() },
        weight: 100 + u64::from(n),
        threads: 1,
        memory_mib: 300,
    };
    VideoPlan {
        stream: 0,
        chunks: (0..CHUNKS).map(chunk).collect(),
        frames: Some(FRAMES * u64::from(CHUNKS)),
        frame_rate: Rational::new(24, 1),
        unsplit_reason: None,
        width: 1920,
        height: 1080,
    }
}

fn piece(chunk: Option<u32>) -> TrackManifest {
    TrackManifest {
        codec: if chunk.is_some() { "h264" } else { "aac" }.into(),
        chunk,
        units: FRAMES,
        packets: FRAMES,
        first_pts: Some(0),
        last_pts: Some(47),
        time_base: (1, 24),
        bytes: 1_000,
        parameters: "parameters".into(),
        entry: "keyframe".into(),
        decoded: FRAMES,
        peak_memory_mib: 200,
        loudness: None,
        buffer: None,
    }
}

fn film() -> FilmManifest {
    FilmManifest {
        bytes: 7_000,
        duration_us: 8_000_000,
        video_frames: Some(192),
        decoded_frames: 10,
        pts_hash: Some("pts".into()),
        buffer: None,
    }
}

fn keyframes() -> KeyframeTable {
    let keyframes = vec![Keyframe { frame: 0, pts: 0, position: Some(48), bytes: 100 }];
    KeyframeTable { time_base: Rational::new(1, 24), keyframes, chunks: Vec::new(), frames: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_goes_through_all_phases() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let (job, existing) = client.submit("", &spec(data.path())).await.expect("submitted");
    assert!(!existing);
    let _worker = Worker::attach(&server, "w1", 1, answers).await;
    let view = client.wait_done(&job).await;
    let phases: Vec<&str> = view.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(phases, ["probing", "planning", "encoding", "assembling", "validating", "packaging"]);
    assert_eq!(view.name, "in.mov");
    assert_eq!(view.warnings.len(), 1, "what the plan warned of");
    let labels: Vec<&str> = view.tasks.iter().filter(|t| t.phase == "encoding").map(|t| t.label.as_str()).collect();
    assert_eq!(labels, ["chunk 0", "chunk 1", "chunk 2", "chunk 3", "audio 1"]);
    let progress = view.progress;
    assert_eq!((progress.chunks_done, progress.chunks_total), (CHUNKS, CHUNKS));
    assert_eq!((progress.frames, progress.frames_total, progress.out_time_total_us), (192, 192, 8_000_000));
    let output: EncodeOutput = serde_json::from_value(view.output.expect("an output")).expect("of an encode");
    assert_eq!(output.path, Some(data.path().join("out.mp4").to_string_lossy().into_owned()));
    assert_eq!((output.frames, output.duration_us, output.bytes), (Some(192), 8_000_000, 7_000));
    assert_eq!(output.hash, "hash of film");
    assert_eq!((output.chunks.len(), output.keyframes), (4, 1));
    assert_eq!((output.chunks[3].start, output.chunks[3].end), (144, 192));
    assert_eq!(output.chunks[3].encode_time.as_millis(), 2_000);
    until("the pieces are removed", async || !data.path().join("artifacts").join(&job).exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_is_to_be_scored_is_scored_chunk_by_chunk_and_reported() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let mut job = spec(data.path());
    let Service::VideoEncode(encode) = &mut job.service else { panic!("an encode") };
    let report = Some(uri::from_path(&data.path().join("scores.json")));
    encode.quality = Some(QualitySpec { metrics: vec![Metric::Ssim], report });
    let (job, _) = client.submit("", &job).await.expect("submitted");
    let _worker = Worker::attach(&server, "w1", 1, answers).await;
    let view = client.wait_done(&job).await;
    let phases: Vec<&str> = view.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(phases, ["probing", "planning", "encoding", "assembling", "validating", "reporting", "packaging"]);
    let labels: Vec<&str> = view.tasks.iter().filter(|t| t.phase == "validating").map(|t| t.label.as_str()).collect();
    assert_eq!(labels[2..], ["quality 0", "quality 1", "quality 2", "quality 3"]);
    let output: EncodeOutput = serde_json::from_value(view.output.expect("an output")).expect("of an encode");
    let quality = output.quality.expect("scores");
    assert_eq!(quality.scores[0].mean, 0.98);
    let chunks: Vec<(u64, u64)> = quality.chunks.iter().map(|chunk| (chunk.start, chunk.end)).collect();
    assert_eq!(chunks, [(0, 48), (48, 96), (96, 144), (144, 192)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_wrong_kind_fails_the_job_with_its_class() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let (job, _) = client.submit("", &spec(data.path())).await.expect("submitted");
    let wrong = |_: &Call, _: &v1::Lease| Fate::Answer(br#"{"value":{"kind":"noop"}}"#.to_vec());
    let _worker = Worker::attach(&server, "w1", 1, wrong).await;
    let view = client.wait(&job).await;
    assert_eq!(view.state, JobState::Failed);
    assert_eq!(view.failure.expect("a failure").code, "bad_answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_rules_did_is_seen_when_the_job_has_left_memory() {
    let data = tempfile::tempdir().expect("a directory");
    let mut options = ServerOptions::new(data.path());
    options.limits = Limits { keep_done: Span::ZERO, keep_done_least: Span::ZERO, ..Limits::default() };
    let server = Server::start(options).await.expect("the server starts");
    let mut client = Client::of(&server);
    let _worker = Worker::attach(&server, "w1", 1, answers).await;
    let (job, _) = client.submit("", &spec(data.path())).await.expect("submitted");
    client.wait_done(&job).await;
    let mut rules = RuleServiceClient::new(server.connect());
    until("the job has left memory", async || {
        let request = v1::MigrateJobRequest { job_id: job.clone(), dry_run: true, ..Default::default() };
        rules.migrate(request).await.is_err_and(|refused| refused.message().contains("in the archive"))
    })
    .await;
    let mut look = async |at| {
        let request = v1::LookRequest { job_id: job.clone(), at: Some(at) };
        let json = rules.look(request).await.expect("it is kept").into_inner().json;
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON")
    };
    let facts = look(At::Facts(v1::LookFacts { kind: "published".into() })).await;
    assert_eq!(facts[0]["bytes"], 7_000, "{facts}");
    let why = look(At::WhyNot(v1::LookWhyNot { rule: "analyse".into() })).await;
    assert_eq!((&why["verdict"], &why["number"]), (&"no_fact".into(), &5.into()), "one pass: {why}");
    let history = look(At::History(v1::LookHistory {})).await;
    assert_eq!(history["entries"][0]["event"]["event"], "started");
}
