//! HLS playlists (RFC 8216 and its second edition's draft), from what was measured of the segments. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use spool_proto::package::{Growth, PackagedTrack, SegmentTable, TrackMedia, file};
use spool_proto::spec::Rational;
use spool_proto::time::Span;

use super::manifest::{Described, language, quoted};

/// `EXT-X-MAP` outside of I-frame playlists came with 6, and 7 is what fMP4 players ask for.
const VERSION: u32 = 7;

/// Lines of one playlist.
struct Lines(String);

impl Lines {
    fn new() -> Lines {
        Lines(format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n"))
    }

    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("a String takes everything");
        self.0.push('\n');
    }
}

/// `master.m3u8`.
pub fn master(tracks: &[Described<'_>], text: &[PackagedTrack], growth: Option<&Growth>) -> String {
    let mut lines = Lines::new();
    lines.add(format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    let groups = groups(tracks);
    for (id, members) in &groups {
        let names = names(members);
        let chosen = members.iter().position(|track| track.as_track.default).unwrap_or(0);
        for (number, (track, name)) in members.iter().zip(names).enumerate() {
            let TrackMedia::Audio { channels, .. } = track.table.media else { continue };
            let language = language(track.as_track).map(|code| format!(",LANGUAGE=\"{code}\"")).unwrap_or_default();
            let default = if number == chosen { "YES" } else { "NO" };
            lines.add(format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{id}\",NAME=\"{name}\"{language},DEFAULT={default},AUTOSELECT=YES,\
                 CHANNELS=\"{channels}\",URI=\"{}/{}\"",
                track.as_track.folder,
                file::PLAYLIST
            ));
        }
    }
    subtitles(&mut lines, text);
    let text = if text.is_empty() { "" } else { TEXT_GROUP };
    for track in tracks {
        match track.table.media {
            TrackMedia::Video { .. } if groups.is_empty() => variant(&mut lines, track, None, text, growth),
            TrackMedia::Video { .. } => {
                groups.iter().for_each(|(id, group)| variant(&mut lines, track, Some((id, group)), text, growth))
            }
            TrackMedia::Audio { .. } => {}
        }
    }
    let has_pictures = tracks.iter().any(|track| matches!(track.table.media, TrackMedia::Video { .. }));
    if !has_pictures {
        for track in tracks {
            sound_alone(&mut lines, track, &groups, growth);
        }
    }
    for track in tracks {
        if let TrackMedia::Video { .. } = track.table.media {
            let rate = track.iframes_bps;
            lines.add(format_args!(
                "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={rate},CODECS=\"{}\"{},URI=\"{}/{}\"",
                track.table.codec,
                picture(&track.table, false),
                track.as_track.folder,
                file::IFRAMES
            ));
        }
    }
    lines.0
}

/// Of a variant line: all text is one group.
const TEXT_GROUP: &str = ",SUBTITLES=\"text\"";

fn subtitles(lines: &mut Lines, text: &[PackagedTrack]) {
    let plain: Vec<String> = text.iter().map(|track| quoted(&track.name)).collect();
    for (track, name) in text.iter().zip(unique(&plain)) {
        let language = language(track).map(|code| format!(",LANGUAGE=\"{code}\"")).unwrap_or_default();
        let yes = |is: bool| if is { "YES" } else { "NO" };
        lines.add(format_args!(
            "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"text\",NAME=\"{name}\"{language},DEFAULT={},AUTOSELECT=YES,FORCED={},\
             URI=\"{}/{}\"",
            yes(track.default),
            yes(track.forced),
            track.folder,
            file::PLAYLIST
        ));
    }
}

/// The playlist of a text track: one file, as long as the film.
pub fn text(track: &PackagedTrack, tracks: &[Described<'_>], growth: Option<&Growth>) -> (String, String) {
    let so_far = tracks.iter().map(|track| track.table.total_s()).fold(0.0, f64::max);
    let seconds = growth.map_or(so_far, |growth| Span(growth.total_us).as_secs_f64());
    let mut lines = Lines::new();
    head(&mut lines, seconds, growth);
    lines.add(format_args!("#EXTINF:{seconds:.6},"));
    lines.add(format_args!("{}", file::TEXT));
    end(&mut lines, growth);
    (format!("{}/{}", track.folder, file::PLAYLIST), lines.0)
}

type Groups<'a> = BTreeMap<String, Vec<&'a Described<'a>>>;

/// Sound of one codec and one number of channels: players switch between groups with the pictures, and within one by language.
fn groups<'a>(tracks: &'a [Described<'a>]) -> Groups<'a> {
    let mut groups = Groups::new();
    for track in tracks {
        if let TrackMedia::Audio { channels, .. } = track.table.media {
            let codec = track.table.codec.replace('.', "-");
            groups.entry(format!("{codec}-{channels}ch")).or_default().push(track);
        }
    }
    groups
}

/// What people choose by; each once in its group.
fn names(members: &[&Described<'_>]) -> Vec<String> {
    unique(&members.iter().map(|track| quoted(&track.as_track.name)).collect::<Vec<_>>())
}

fn unique(plain: &[String]) -> Vec<String> {
    let unique = |(number, name): (usize, &String)| match plain[..number].iter().filter(|other| *other == name).count()
    {
        0 => name.clone(),
        before => format!("{name} ({})", before + 1),
    };
    plain.iter().enumerate().map(unique).collect()
}

fn variant(
    lines: &mut Lines,
    video: &Described<'_>,
    audio: Option<(&String, &Vec<&Described<'_>>)>,
    text: &str,
    growth: Option<&Growth>,
) {
    let most = |rate: &dyn Fn(&Described<'_>) -> u64| {
        audio.map_or(0, |(_, group)| group.iter().map(|track| rate(track)).max().unwrap_or(0))
    };
    let bandwidth = video.peak_bps + most(&|track| track.peak_bps);
    let average = average(video.table.average_bps() + most(&|track| track.table.average_bps()), growth);
    let mut codecs = video.table.codec.clone();
    let mut group_id = String::new();
    if let Some((id, group)) = audio {
        codecs.push_str(&format!(",{}", group[0].table.codec));
        group_id = format!(",AUDIO=\"{id}\"");
    }
    lines.add(format_args!(
        "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}{average},CODECS=\"{codecs}\"{}{group_id}{text}",
        picture(&video.table, true)
    ));
    lines.add(format_args!("{}/{}", video.as_track.folder, file::PLAYLIST));
}

/// What is not known before the end is not told.
fn average(bps: u64, growth: Option<&Growth>) -> String {
    if growth.is_some() { String::new() } else { format!(",AVERAGE-BANDWIDTH={bps}") }
}

fn sound_alone(lines: &mut Lines, track: &Described<'_>, groups: &Groups<'_>, growth: Option<&Growth>) {
    let group = groups.iter().find(|(_, members)| members.iter().any(|member| std::ptr::eq(*member, track)));
    let group = group.map(|(id, _)| format!(",AUDIO=\"{id}\"")).unwrap_or_default();
    lines.add(format_args!(
        "#EXT-X-STREAM-INF:BANDWIDTH={}{},CODECS=\"{}\"{group}",
        track.peak_bps,
        average(track.table.average_bps(), growth),
        track.table.codec
    ));
    lines.add(format_args!("{}/{}", track.as_track.folder, file::PLAYLIST));
}

/// `,RESOLUTION=…` and what else is said of pictures.
fn picture(table: &SegmentTable, with_rate: bool) -> String {
    let TrackMedia::Video { width, height, sample_aspect_ratio, frame_rate, range } = &table.media else {
        return String::new();
    };
    let shown = shown_width(*width, *sample_aspect_ratio);
    let rate = if with_rate { format!(",FRAME-RATE={:.3}", frame_rate.as_f64()) } else { String::new() };
    format!(",RESOLUTION={shown}x{height}{rate},VIDEO-RANGE={}", range.name())
}

fn shown_width(width: u32, ratio: Rational) -> u32 {
    match (u64::try_from(ratio.num), u64::try_from(ratio.den)) {
        (Ok(num @ 1..), Ok(den @ 1..)) => u32::try_from((u64::from(width) * num + den / 2) / den).unwrap_or(u32::MAX),
        _ => width,
    }
}

/// Bits a second of the keyframes alone.
pub fn iframe_rate(table: &SegmentTable) -> u64 {
    let fragments = table.segments.iter().flat_map(|segment| &segment.fragments);
    let rate = |bytes: u64, ticks: u64| {
        #[expect(clippy::cast_precision_loss, reason = "rates are told to three digits")]
        let bits = bytes as f64 * 8.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let rate = (bits / table.duration_s(ticks.max(1))).ceil() as u64;
        rate
    };
    fragments.map(|fragment| rate(fragment.first_bytes, fragment.duration)).max().unwrap_or(0).max(1)
}

/// A track's playlist.
fn media(track: &Described<'_>, growth: Option<&Growth>) -> String {
    let (mut lines, table) = (Lines::new(), &track.table);
    head(&mut lines, track.longest_s, growth);
    lines.add(format_args!("#EXT-X-MAP:URI=\"{}\"", file::HEADER));
    for (number, segment) in (1..).zip(&table.segments) {
        lines.add(format_args!("#EXTINF:{:.6},", table.duration_s(segment.duration)));
        lines.add(format_args!("{}", file::segment(number)));
    }
    end(&mut lines, growth);
    lines.0
}

/// The playlist of a track's keyframes: each is fetched from the start of its fragment to its own end.
fn iframes(table: &SegmentTable, growth: Option<&Growth>) -> String {
    let mut lines = Lines::new();
    let fragments = table.segments.iter().flat_map(|segment| &segment.fragments);
    // A segment's groups of pictures are of one length, and a rest is shorter.
    head(&mut lines, fragments.map(|fragment| table.duration_s(fragment.duration)).fold(0.0, f64::max), growth);
    lines.add(format_args!("#EXT-X-I-FRAMES-ONLY"));
    lines.add(format_args!("#EXT-X-MAP:URI=\"{}\"", file::HEADER));
    for (number, segment) in (1..).zip(&table.segments) {
        for fragment in &segment.fragments {
            lines.add(format_args!("#EXTINF:{:.6},", table.duration_s(fragment.duration)));
            lines.add(format_args!("#EXT-X-BYTERANGE:{}@{}", fragment.first_bytes, fragment.offset - segment.offset));
            lines.add(format_args!("{}", file::segment(number)));
        }
    }
    end(&mut lines, growth);
    lines.0
}

/// `longest_s`: of its segments, those to come as well.
fn head(lines: &mut Lines, longest_s: f64, growth: Option<&Growth>) {
    // Rounded, no segment is longer than it says.
    let target = longest_s.round().max(1.0);
    lines.add(format_args!("#EXT-X-TARGETDURATION:{target:.0}"));
    lines.add(format_args!("#EXT-X-MEDIA-SEQUENCE:1"));
    lines.add(format_args!("#EXT-X-PLAYLIST-TYPE:{}", if growth.is_some() { "EVENT" } else { "VOD" }));
    lines.add(format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
}

fn end(lines: &mut Lines, growth: Option<&Growth>) {
    if growth.is_none() {
        lines.add(format_args!("#EXT-X-ENDLIST"));
    }
}

/// Of a track's folder.
pub fn playlists(track: &Described<'_>, growth: Option<&Growth>) -> Vec<(String, String)> {
    let path = |name: &str| format!("{}/{name}", track.as_track.folder);
    let mut files = vec![(path(file::PLAYLIST), media(track, growth))];
    if matches!(track.table.media, TrackMedia::Video { .. }) {
        files.push((path(file::IFRAMES), iframes(&track.table, growth)));
    }
    files
}
