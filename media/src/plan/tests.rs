use proptest::prelude::*;
use spool_proto::call::{SourceFacts, StreamFacts};
use spool_proto::spec::{Container, EncodeSpec, Subtitles, VideoCodec};

use super::scenes::Coded;
use super::*;
use crate::packets::{Packet, PacketFlags};

const SECOND: i64 = 24;

/// A film of 24 frames a second: `frames` packets without reordering, keyframes where `keys` says, all of a size but for the
/// scenes, each of its own.
fn index(frames: i64, keys: impl Fn(i64) -> bool, bytes: impl Fn(i64) -> u32) -> PacketIndex {
    let packets = (0..frames).map(|n| {
        let key = keys(n) || n == 0;
        Packet {
            pts: Some(n),
            dts: Some(n),
            duration: 1,
            bytes: bytes(n) * if key { 10 } else { 1 },
            position: u64::try_from(n * 1_000).ok(),
            flags: PacketFlags { key, closed: key, ..PacketFlags::default() },
        }
    });
    PacketIndex {
        stream: 0,
        time_base: Rational::new(1, 24),
        frame_rate: Some(Rational::new(24, 1)),
        ts_offset_us: 0,
        start_pts: Some(0),
        packets: packets.collect(),
        doubts: Vec::new(),
        decoded: None,
        changes: false,
    }
}

fn video_spec(codec: VideoCodec) -> VideoSpec {
    VideoSpec::new(codec)
}

fn args(video: VideoSpec, chunk_s: Option<u64>) -> PlanArgs {
    let facts = VideoFacts {
        width: 1920,
        height: 1080,
        pix_fmt: None,
        sample_aspect_ratio: Rational::new(1, 1),
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
    let stream = StreamFacts {
        index: 0,
        codec: "h264".into(),
        profile: None,
        time_base: Rational::new(1, 24),
        start_pts: None,
        duration: None,
        bit_rate_bps: None,
        language: None,
        title: None,
        disposition: Vec::new(),
        tags: Vec::new(),
        jumps: Vec::new(),
        media: MediaFacts::Video(facts),
    };
    PlanArgs {
        spec: EncodeSpec {
            video: Some(video),
            subtitles: Subtitles::None,
            chunk: chunk_s.map(Span::from_secs),
            ..EncodeSpec::new("file:///in", "file:///out.mkv", Container::Mkv)
        },
        source: SourceFacts {
            format: "matroska".into(),
            bytes: 0,
            start_us: None,
            duration_us: None,
            bit_rate_bps: None,
            streams: vec![stream],
            chapters: Vec::new(),
            tags: Vec::new(),
        },
        unsplit_threads: 6,
        lines: Vec::new(),
        joined: Vec::new(),
        scans: Vec::new(),
    }
}

fn planned(index: &PacketIndex, args: &PlanArgs) -> (VideoPlan, PlanFile) {
    let plan = plan(Some(index), None, args).unwrap();
    (plan.summary.video.unwrap(), plan.file.unwrap())
}

fn cuts_of(video: &VideoPlan) -> String {
    let cuts: Vec<String> = video.chunks.iter().map(|chunk| format!("{}{}", chunk.start, &chunk.cut[..1])).collect();
    cuts.join(" ")
}

/// Scenes every `every` frames, of sizes that alternate.
fn scenic(frames: i64, every: i64) -> PacketIndex {
    index(frames, |n| n % every == 0 || n % 97 == 0, |n| if n / every % 2 == 0 { 1_000 } else { 3_000 })
}

#[test]
fn cuts_stand_where_the_encoder_would_set_keyframes() {
    let still = index(60 * SECOND, |n| n % 250 == 0, |_| 1_000);
    // s: start or scene, g: the encoder's interval, b: blind.
    let cases = [
        (VideoCodec::Libx264, 10, "0s 250g 500g 750g 1000g 1250g"),
        (VideoCodec::Libx265, 2, "0s 250g 500g 750g 1000g 1250g"),
        (VideoCodec::LibvpxVp9, 10, "0s 256g 512g 768g 1024g 1280g"),
        (VideoCodec::LibvpxVp9, 5, "0s 128g 256g 384g 512g 640g 768g 896g 1024g 1152g 1280g 1408g"),
        (VideoCodec::Libsvtav1, 5, "0s 161g 322g 483g 644g 805g 966g 1127g 1288g"),
        (VideoCodec::Libsvtav1, 10, "0s 322g 644g 966g 1288g"),
    ];
    for (codec, seconds, expected) in cases {
        let (video, _) = planned(&still, &args(video_spec(codec), Some(seconds)));
        assert_eq!(cuts_of(&video), expected, "{codec:?} at {seconds} s");
    }
}

#[test]
fn scene_changes_near_the_target_are_taken() {
    let (video, _) = planned(&scenic(40 * SECOND, 110), &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert_eq!(cuts_of(&video), "0s 220s 440s 660s 880s");
    let (video, _) = planned(&scenic(40 * SECOND, 110), &args(video_spec(VideoCodec::Libx264), Some(5)));
    assert_eq!(cuts_of(&video), "0s 110s 220s 330s 440s 550s 660s 770s 880s");
}

#[test]
fn a_long_interval_is_cut_blindly() {
    let spec = VideoSpec { gop_frames: Some(100_000), ..video_spec(VideoCodec::Libx264) };
    let (video, _) = planned(&index(120 * SECOND, |_| false, |_| 1_000), &args(spec, Some(10)));
    assert!(video.chunks.iter().skip(1).all(|chunk| chunk.cut == "blind"), "{}", cuts_of(&video));
    assert!(video.chunks.len() >= 4, "{}", cuts_of(&video));
}

#[test]
fn a_minute_makes_eight_chunks_by_default() {
    for codec in [VideoCodec::Libx264, VideoCodec::Libsvtav1, VideoCodec::LibvpxVp9] {
        let (video, _) = planned(&scenic(60 * SECOND, 110), &args(video_spec(codec), None));
        assert!(video.chunks.len() >= 8, "{codec:?}: {}", cuts_of(&video));
    }
}

#[test]
fn a_chunk_is_entered_at_the_nearest_closed_keyframe_then_further_back() {
    let (video, file) = planned(&scenic(40 * SECOND, 110), &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert_eq!(cuts_of(&video), "0s 220s 440s 660s 880s");
    let frames: Vec<Vec<u64>> =
        file.chunks.iter().map(|chunk| chunk.entries.iter().map(|entry| entry.frame).collect()).collect();
    let expected: [&[u64]; 5] =
        [&[0], &[220, 194, 110, 0], &[440, 388, 330, 220, 0], &[660, 582, 550, 440, 220], &[880, 873, 776, 679, 485]];
    assert_eq!(frames, expected);
    assert_eq!(file.chunks[1].source, 220..440);
}

#[test]
fn open_keyframes_are_not_entered() {
    let mut open = scenic(40 * SECOND, 110);
    for packet in open.packets.iter_mut().skip(1).filter(|packet| packet.pts != Some(97)) {
        packet.flags.closed = false;
    }
    let (_, file) = planned(&open, &args(video_spec(VideoCodec::Libx264), Some(10)));
    let last = file.chunks.last().unwrap();
    assert_eq!(last.entries.iter().map(|entry| entry.packet).collect::<Vec<_>>(), [97, 0]);
}

#[test]
fn a_film_of_open_keyframes_is_split_and_entered_a_whole_gop_ahead() {
    let mut open = scenic(40 * SECOND, 110);
    for packet in open.packets.iter_mut().skip(1).filter(|packet| packet.flags.key) {
        (packet.flags.closed, packet.flags.recovers) = (false, true);
    }
    let (video, file) = planned(&open, &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert!(video.chunks.len() > 2, "{}", cuts_of(&video));
    for chunk in file.chunks.iter().filter(|chunk| chunk.source.start > 200) {
        let keys =
            open.packets.iter().filter(|packet| packet.flags.key).map(|packet| packet.pts.unwrap().unsigned_abs());
        let last_key = keys.filter(|key| *key <= chunk.source.start).max().unwrap();
        let entry = chunk.entries[0];
        assert!(entry.packet < last_key && entry.frame <= chunk.source.start, "{entry:?} for {:?}", chunk.source);
    }
}

#[test]
fn doubts_without_a_decoded_list_leave_the_film_whole() {
    let doubtful = PacketIndex { doubts: vec!["pts missing".into()], ..scenic(40 * SECOND, 110) };
    let (video, file) = planned(&doubtful, &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert_eq!((video.frames, video.chunks.len()), (None, 1));
    assert_eq!(video.unsplit_reason.as_deref(), Some("pts missing"));
    assert_eq!(video.chunks[0].threads, 6);
    assert_eq!(file.frames, None);
    assert!(video.chunks[0].weight > 0);
}

#[test]
fn a_decoded_list_is_the_truth_and_entries_keep_a_keyframe_away() {
    let mut doubtful = PacketIndex { doubts: vec!["pts missing".into()], ..scenic(40 * SECOND, 110) };
    // One frame fewer than there are packets.
    doubtful.decoded = Some((0..40 * SECOND - 1).map(|n| (n, 1)).collect());
    let (video, file) = planned(&doubtful, &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert_eq!(video.frames, Some(959));
    assert_eq!(cuts_of(&video), "0s 220s 440s 660s 880s");
    assert_eq!(file.chunks[1].entries[0].frame, 220 - 26);
}

#[test]
fn a_stream_that_changes_inside_is_not_split() {
    let changing = PacketIndex { changes: true, ..scenic(40 * SECOND, 110) };
    let (video, _) = planned(&changing, &args(video_spec(VideoCodec::Libx264), Some(10)));
    assert_eq!(video.chunks.len(), 1);
    assert!(video.unsplit_reason.unwrap().contains("changes"));
}

#[test]
fn trimming_everything_away_is_refused() {
    let mut args = args(video_spec(VideoCodec::Libx264), None);
    args.spec.trim.start = Some(Span::from_secs(100));
    let failure = plan(Some(&scenic(40 * SECOND, 110)), None, &args).unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Spec, "no_frames"));
}

#[test]
fn a_gap_of_years_is_refused_before_it_is_filled() {
    let mut sparse = index(3, |_| true, |_| 1_000);
    sparse.packets[2].pts = Some(i64::MAX / 2);
    let mut args = args(video_spec(VideoCodec::Libx264), None);
    args.spec.container = Container::Mp4;
    assert_eq!(plan(Some(&sparse), None, &args).unwrap_err().code, "too_many_frames");
}

#[test]
fn keyframes_out_of_rhythm_are_scenes_and_sizes_tell_how_surely() {
    let film: Vec<Coded> =
        index(1_000, |n| n % 100 == 0 || n == 430 || n == 777, |n| if (430..777).contains(&n) { 4_000 } else { 900 })
            .packets
            .iter()
            .map(|packet| Coded { key: packet.flags.key, bytes: packet.bytes })
            .collect();
    let scenes = scenes::scenes(&film);
    // At 500 and 800 the distance is short because a scene change came before.
    let expected = [(430, true), (500, false), (777, true), (800, false)].map(|(frame, sure)| Scene { frame, sure });
    assert_eq!(scenes, expected);
    let intra: Vec<Coded> = film.iter().map(|frame| Coded { key: true, ..*frame }).collect();
    assert_eq!(scenes::scenes(&intra), []);
}

#[test]
fn sizes_are_those_of_ffmpegs_filters() {
    use spool_proto::spec::{Filter, Size};
    let PlanArgs { source, .. } = args(video_spec(VideoCodec::Libx264), None);
    let MediaFacts::Video(facts) = &source.streams[0].media else { panic!("a video stream") };
    let scale = |width, height| Filter::Scale { width, height, algorithm: None };
    let cases = [
        (vec![], None, 0, (1920, 1080)),
        (vec![], None, 90, (1080, 1920)),
        (vec![scale(1280, -2)], None, 0, (1280, 720)),
        (vec![scale(-2, 481)], None, 0, (856, 481)),
        (vec![scale(0, 0)], None, -90, (1080, 1920)),
        (vec![Filter::Crop { width: 100, height: 50, x: None, y: None }, scale(-4, 100)], None, 0, (200, 100)),
        (vec![scale(10, 10)], Some(Size { width: 64, height: 48 }), 0, (64, 48)),
    ];
    for (filters, size, rotation, expected) in cases {
        let facts = VideoFacts { rotation, ..facts.clone() };
        let spec = VideoSpec { filters, size, ..video_spec(VideoCodec::Libx264) };
        assert_eq!(cost::output_size(&facts, &spec), expected, "{:?}", spec.filters);
    }
}

proptest! {
    #[test]
    fn chunks_are_the_film(
        frames in 1i64..4_000,
        every in 5i64..400,
        jitter in prop::collection::vec(0i64..3_000, 0..20),
        codec in prop::sample::select(vec![VideoCodec::Libx264, VideoCodec::Libx265, VideoCodec::Libsvtav1, VideoCodec::LibvpxVp9]),
        gop in prop::option::of(1u32..600),
        seconds in prop::option::of(1u64..40),
        rate in prop::option::of(prop::sample::select(vec![(24_000, 1_001), (60, 1), (5, 1)])),
    ) {
        let index = index(frames, |n| n % every == 0 || jitter.contains(&n), |n| u32::try_from(1 + n * n % 977).unwrap());
        let rate = rate.map(|(num, den)| Rational::new(num, den));
        let args = args(VideoSpec { gop_frames: gop, frame_rate: rate, ..video_spec(codec) }, seconds);
        let (video, file) = planned(&index, &args);
        prop_assert_eq!(&plan(Some(&index), None, &args).unwrap(), &plan(Some(&index), None, &args).unwrap());
        let table = file.frames.as_ref().unwrap();
        prop_assert_eq!(video.frames, Some(wire::len(&table.output)));
        let mut next = 0;
        let mut source = 0;
        for (summary, chunk) in video.chunks.iter().zip(&file.chunks) {
            prop_assert_eq!(summary.start..summary.end, chunk.output.clone());
            prop_assert_eq!(chunk.output.start, next);
            prop_assert!(chunk.output.end > next);
            next = chunk.output.end;
            prop_assert!(chunk.source.start >= source && chunk.source.end > chunk.source.start);
            source = chunk.source.start;
            prop_assert!(summary.weight > 0 && summary.memory_mib > 0);
            for entry in &chunk.entries {
                prop_assert!(entry.frame <= chunk.source.start);
                let flags = index.packets[usize::try_from(entry.packet).unwrap()].flags;
                prop_assert!(flags.closed || flags.recovers);
            }
        }
        prop_assert_eq!(Some(next), video.frames);
        let mut bytes = Vec::new();
        file.write(&mut bytes).unwrap();
        prop_assert_eq!(PlanFile::read(bytes.as_slice()).unwrap(), file);
    }
}

#[test]
fn segments_are_never_cut_in_two() {
    let starts =
        |frames, segment, target| cuts::on_grid(frames, segment, &[], target).iter().map(|c| c.0).collect::<Vec<_>>();
    assert_eq!(starts(1440, 144, 240), [0, 288, 576, 864, 1152]);
    assert_eq!(starts(1440, 144, 10), [0, 144, 288, 432, 576, 720, 864, 1008, 1152, 1296], "at least one segment");
    assert_eq!(starts(300, 144, 144), [0, 144], "a short rest goes to the one before");
    assert_eq!(starts(370, 144, 144), [0, 144, 288]);
    assert_eq!(starts(50, 144, 144), [0]);
    for (frames, why) in cuts::on_grid(10_000, 75, &[], 600) {
        assert_eq!((frames % 75, why == Cut::Start), (0, frames == 0));
    }
}

#[test]
fn chunks_of_segments_begin_near_scenes() {
    let scene = |frame| Scene { frame, sure: true };
    let starts = |scenes: &[Scene]| {
        let cuts = cuts::on_grid(1_440, 48, scenes, 240);
        cuts.iter().map(|(frame, why)| format!("{frame}{}", &why.name()[..1])).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(starts(&[]), "0s 240g 480g 720g 960g 1200g");
    // At the nearest place of the grid; half a chunk more or fewer.
    assert_eq!(starts(&[scene(330), scene(700)]), "0s 336s 576g 720s 960g 1200g");
    assert_eq!(starts(&[scene(100), scene(400)]), "0s 240g 384s 624g 864g 1104g");
    assert_eq!(starts(&[Scene { frame: 330, sure: false }]), "0s 240g 480g 720g 960g 1200g");
    // What is left behind the last one is half a chunk at least.
    assert_eq!(starts(&[scene(1_250)]), "0s 240g 480g 720g 960g 1248s");
    assert_eq!(starts(&[scene(1_390)]), "0s 240g 480g 720g 960g 1200g");
}

#[test]
fn a_scan_goes_before_what_the_index_tells() {
    let args = args(video_spec(VideoCodec::Libx264), Some(5));
    let cuts = |scan: Option<&[SceneChange]>| {
        let plan = plan(Some(&scenic(40 * SECOND, 110)), scan, &args).unwrap();
        cuts_of(&plan.summary.video.unwrap())
    };
    let change = |frame| SceneChange { frame, score: 9.0, sure: true };
    assert_eq!(cuts(None), "0s 110s 220s 330s 440s 550s 660s 770s 880s");
    assert_eq!(cuts(Some(&[change(131), change(263), change(800)])), "0s 131s 263s 513g 763g");
    assert_eq!(cuts(Some(&[])), "0s 250g 500g 750g");
}

#[test]
fn keyframes_everywhere_tell_nothing() {
    let tells = |frames, keys: &dyn Fn(i64) -> bool| scenes::tells(&index(frames, keys, |_| 1_000));
    assert!(!tells(500, &|_| true));
    assert!(!tells(500, &|n| n % 2 == 0));
    assert!(tells(500, &|n| n % 48 == 0), "not scanned unasked: a film more to decode, for a hundredth of its bytes");
    assert!(tells(500, &|n| n == 0));
    assert!(tells(0, &|_| false));
}
