use super::*;
use spool_proto::package::{Fragment, GoesOn, Segment, TrackMedia, VideoRange};
use spool_proto::spec::Rational;

fn table(codec: &str, media: TrackMedia, bytes: u64) -> SegmentTable {
    let fragment = |n: u64| Fragment {
        start: i64::try_from(n * 2000).unwrap(),
        duration: 2000,
        offset: 100 + n * bytes,
        bytes,
        first_bytes: bytes / 4,
    };
    let segment = |n: u64| {
        let only = fragment(n);
        Segment {
            start: only.start,
            duration: only.duration,
            offset: only.offset,
            bytes: only.bytes,
            fragments: vec![only],
        }
    };
    SegmentTable {
        codec: codec.into(),
        media,
        time_base: Rational::new(1, 1000),
        header_bytes: 100,
        segments: (0..3).map(segment).collect(),
        file_offset: 0,
        goes_on: None,
    }
}

fn video(codec: &str, height: u32, bytes: u64) -> SegmentTable {
    let media = TrackMedia::Video {
        width: height * 16 / 9,
        height,
        sample_aspect_ratio: Rational::new(1, 1),
        frame_rate: Rational::new(24_000, 1001),
        range: VideoRange::Sdr,
    };
    table(codec, media, bytes)
}

fn audio(codec: &str, channels: u16, bytes: u64) -> SegmentTable {
    table(codec, TrackMedia::Audio { channels, sample_rate_hz: 48_000 }, bytes)
}

fn track(folder: &str, language: Option<&str>) -> PackagedTrack {
    PackagedTrack {
        folder: folder.into(),
        name: folder.rsplit('/').next().unwrap().into(),
        language: language.map(Into::into),
        default: false,
        forced: false,
        ceiling_bps: None,
    }
}

fn growing(
    packages: &[Package],
    tracks: &[(PackagedTrack, SegmentTable)],
    text: &[PackagedTrack],
    growth: Option<&Growth>,
) -> Vec<(String, String)> {
    let described = tracks.iter().map(|(as_track, table)| Described::new(as_track, table.clone(), growth));
    playlists(packages, &described.collect::<Vec<_>>(), text, growth)
}

fn files(packages: &[Package], tracks: &[(PackagedTrack, SegmentTable)]) -> Vec<(String, String)> {
    growing(packages, tracks, &[], None)
}

#[test]
fn pictures_go_with_each_group_of_sound_and_the_largest_rate_of_it() {
    let tracks = [
        (track("video/720p", None), video("avc1.64001f", 720, 500_000)),
        (track("audio/stereo-en", Some("eng")), audio("mp4a.40.2", 2, 32_000)),
        (track("audio/stereo-de", Some("ger")), audio("mp4a.40.2", 2, 40_000)),
        (track("audio/surround", Some("eng")), audio("ec-3", 6, 96_000)),
    ];
    let files = files(&[Package::Hls], &tracks);
    let (name, master) = files.last().unwrap();
    assert_eq!(name, "master.m3u8");
    assert_eq!(
        master,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"ec-3-6ch\",NAME=\"surround\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"6\",URI=\"audio/surround/playlist.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"mp4a-40-2-2ch\",NAME=\"stereo-en\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/stereo-en/playlist.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"mp4a-40-2-2ch\",NAME=\"stereo-de\",LANGUAGE=\"de\",DEFAULT=NO,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/stereo-de/playlist.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2384000,AVERAGE-BANDWIDTH=2384000,CODECS=\"avc1.64001f,ec-3\",RESOLUTION=1280x720,FRAME-RATE=23.976,VIDEO-RANGE=SDR,AUDIO=\"ec-3-6ch\"\n\
         video/720p/playlist.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2160000,AVERAGE-BANDWIDTH=2160000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=23.976,VIDEO-RANGE=SDR,AUDIO=\"mp4a-40-2-2ch\"\n\
         video/720p/playlist.m3u8\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=500000,CODECS=\"avc1.64001f\",RESOLUTION=1280x720,VIDEO-RANGE=SDR,URI=\"video/720p/iframes.m3u8\"\n"
    );
}

#[test]
fn pictures_without_sound_and_sound_without_pictures_are_packages_too() {
    let silent = files(&[Package::Hls], &[(track("video/a", None), video("av01.0.04M.08", 360, 1000))]);
    let master = &silent.last().unwrap().1;
    assert!(master.contains("CODECS=\"av01.0.04M.08\",RESOLUTION=640x360") && !master.contains("AUDIO="), "{master}");
    let blind = files(&Package::ALL, &[(track("audio/a", None), audio("opus", 2, 1000))]);
    let names: Vec<&str> = blind.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["audio/a/playlist.m3u8", "master.m3u8", "manifest.mpd"]);
    assert!(blind[1].1.contains("CODECS=\"opus\",AUDIO=\"opus-2ch\"\naudio/a/playlist.m3u8\n"), "{}", blind[1].1);
}

#[test]
fn dash_groups_what_players_may_switch_between() {
    let tracks = [
        (track("video/720p", None), video("avc1.64001f", 720, 500_000)),
        (track("video/360p", None), video("avc1.640015", 360, 100_000)),
        (track("video/av1", None), video("av01.0.04M.08", 720, 300_000)),
        (track("audio/en", Some("eng")), audio("mp4a.40.2", 2, 32_000)),
        (track("audio/de", Some("deu")), audio("mp4a.40.2", 2, 32_000)),
    ];
    let files = files(&[Package::Dash], &tracks);
    let mpd = &files[0].1;
    assert_eq!(mpd.matches("<AdaptationSet").count(), 4, "{mpd}");
    assert_eq!(mpd.matches("<Representation").count(), 5);
    assert!(mpd.contains("<S t=\"0\" d=\"2000\" r=\"2\"/>") && mpd.contains("frameRate=\"24000/1001\""), "{mpd}");
    assert!(mpd.contains("mediaPresentationDuration=\"PT6.000S\" minBufferTime=\"PT2.000S\""), "{mpd}");
}

#[test]
fn tags_become_languages_only_if_they_are_some() {
    for (tag, code) in [
        ("eng", Some("en")),
        ("ger", Some("de")),
        ("DEU", Some("de")),
        ("pt-BR", Some("pt-BR")),
        ("gsw", Some("gsw")),
        ("und", None),
        ("", None),
        ("e\"n", None),
        ("a language", None),
    ] {
        assert_eq!(language(&track("a", Some(tag))).as_deref(), code, "{tag:?}");
    }
}

#[test]
fn a_name_cannot_end_its_attribute() {
    let evil = PackagedTrack { name: "x\",URI=\"http://evil/\n#EXT".into(), ..track("audio/a", None) };
    let files = files(&[Package::Hls], &[(evil, audio("opus", 2, 1000))]);
    let master = &files.last().unwrap().1;
    assert!(master.contains("NAME=\"x,URI=http://evil/#EXT\","), "{master}");
}

#[test]
fn text_is_offered_with_every_variant() {
    let table = video("avc1.64001f", 720, 500_000);
    let tracks = [(track("video/720p", None), table)];
    let text = [track("text/en", Some("eng")), PackagedTrack { forced: true, ..track("text/forced", Some("eng")) }];
    let files = growing(&Package::ALL, &tracks, &text, None);
    let file = |name: &str| &files.iter().find(|(path, _)| path == name).unwrap().1;
    let master = file("master.m3u8");
    for line in [
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"text\",NAME=\"en\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI=\"text/en/playlist.m3u8\"\n",
        "NAME=\"forced\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=YES,FORCED=YES",
        "VIDEO-RANGE=SDR,SUBTITLES=\"text\"\nvideo/720p/playlist.m3u8",
    ] {
        assert!(master.contains(line), "{line}: {master}");
    }
    assert!(file("text/en/playlist.m3u8").contains("#EXT-X-TARGETDURATION:6\n"));
    assert!(file("text/en/playlist.m3u8").ends_with("#EXTINF:6.000000,\ntext.vtt\n#EXT-X-ENDLIST\n"));
    let mpd = file("manifest.mpd");
    assert!(
        mpd.contains("mimeType=\"text/vtt\" lang=\"en\"") && mpd.contains("<BaseURL>text/en/text.vtt</BaseURL>"),
        "{mpd}"
    );
    assert!(mpd.contains("value=\"forced-subtitle\""), "{mpd}");
}

/// Of three segments of two seconds, so far.
fn open(table: SegmentTable) -> SegmentTable {
    let goes_on = GoesOn {
        piece: 1,
        packets: 0,
        parameters: String::new(),
        first_pts: 0,
        delay: 0,
        shown: Vec::new(),
        decode_time: 6000,
    };
    SegmentTable { goes_on: Some(goes_on), ..table }
}

/// Of a film of 9.4 s in segments of two: the last takes the rest.
fn growth(segments: u32) -> Growth {
    let longest = Rational::new(17, 5);
    Growth { segments, longest, total_us: 9_400_000, begun_us: 1_764_180_000_000_000, now_us: 1_764_180_006_500_000 }
}

#[test]
fn a_package_that_grows_tells_what_will_hold_to_its_end() {
    let ceiling = |bps| PackagedTrack { ceiling_bps: Some(bps), ..track("video/720p", None) };
    let pictures = open(video("avc1.64001f", 720, 500_000));
    let sound = (track("audio/stereo", Some("eng")), audio("mp4a.40.2", 2, 32_000));
    let text = [track("text/en", Some("eng"))];
    for (as_track, bandwidth) in
        [(ceiling(5_000_000), 5_000_000), (ceiling(9), 2_000_000), (track("video/720p", None), 4_000_000)]
    {
        let tracks = [(as_track, pictures.clone()), sound.clone()];
        let files = growing(&Package::ALL, &tracks, &text, Some(&growth(2)));
        let file = |name: &str| files.iter().find(|(path, _)| path == name).unwrap().1.as_str();
        // The sound is there to its end, and so is its peak.
        let rate = format!("#EXT-X-STREAM-INF:BANDWIDTH={},CODECS=", bandwidth + 128_000);
        assert!(file("master.m3u8").contains(&rate), "{rate}: {}", file("master.m3u8"));
        assert_eq!(
            file("video/720p/playlist.m3u8"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2.000000,\n00001.m4s\n#EXTINF:2.000000,\n\
             00002.m4s\n"
        );
        assert!(file("audio/stereo/playlist.m3u8").ends_with("00002.m4s\n"), "no track is ahead of another");
        assert!(file("video/720p/iframes.m3u8").ends_with("00002.m4s\n"));
        assert!(file("text/en/playlist.m3u8").ends_with("#EXT-X-INDEPENDENT-SEGMENTS\n#EXTINF:9.400000,\ntext.vtt\n"));
        let mpd = file("manifest.mpd");
        for part in [
            "type=\"dynamic\" availabilityStartTime=\"2025-11-26T18:00:00Z\" publishTime=\"2025-11-26T18:00:06.5Z\" minimumUpdatePeriod=\"PT3.400S\"",
            &format!("bandwidth=\"{bandwidth}\""),
            "<S t=\"0\" d=\"2000\" r=\"1\"/>",
        ] {
            assert!(mpd.contains(part), "{part}: {mpd}");
        }
        assert!(!mpd.contains("mediaPresentationDuration"));
    }
}

#[test]
fn a_playlist_only_gets_longer() {
    let tracks = |segments: usize| {
        let mut table = open(video("avc1.64001f", 720, 500_000));
        table.segments.truncate(segments);
        [(PackagedTrack { ceiling_bps: Some(9_000_000), ..track("video/720p", None) }, table)]
    };
    let files = |n: usize| growing(&[Package::Hls], &tracks(n), &[], Some(&growth(u32::try_from(n).unwrap())));
    let (one, three) = (files(1), files(3));
    for ((path, before), (_, after)) in one.iter().zip(&three) {
        assert!(after.starts_with(before.as_str()), "{path}: {before} and then {after}");
    }
    assert_eq!(one.last(), three.last(), "the master, which players read once");
}
