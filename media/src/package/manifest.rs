//! `media.manifest`: the segment tables of a package in, its playlists out.

use std::io::BufReader;

use spool_proto::call::{ManifestArgs, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::package::{Growth, PackagedTrack, SegmentTable};
use spool_proto::spec::title::Package;

use super::{dash, hls};
use crate::{Host, Product, scratch_failed};

/// A track with what was measured of it.
#[derive(Debug, Clone)]
pub struct Described<'a> {
    pub as_track: &'a PackagedTrack,
    /// Of the segments that are told.
    pub table: SegmentTable,
    /// Bits a second that no segment exceeds.
    pub peak_bps: u64,
    /// The same of the keyframes alone; a track of sound has none.
    pub iframes_bps: u64,
    /// Seconds that no segment exceeds.
    pub longest_s: f64,
}

/// Where a track of pictures has no ceiling and goes on: how many times what was measured so far is promised.
const MARGIN: u64 = 2;

impl<'a> Described<'a> {
    pub fn new(as_track: &'a PackagedTrack, mut table: SegmentTable, growth: Option<&Growth>) -> Described<'a> {
        let (mut peak_bps, mut iframes_bps) = (table.peak_bps(), hls::iframe_rate(&table));
        let mut longest_s = table.longest_s();
        if let Some(growth) = growth {
            if table.goes_on.is_some() {
                peak_bps = as_track.ceiling_bps.unwrap_or(peak_bps * MARGIN).max(peak_bps);
                iframes_bps *= MARGIN;
                longest_s = longest_s.max(growth.longest.as_f64());
            }
            table.segments.truncate(usize::try_from(growth.segments).unwrap_or(usize::MAX));
        }
        Described { as_track, table, peak_bps, iframes_bps, longest_s }
    }
}

/// Runs `media.manifest`.
///
/// # Errors
/// Class `internal`: `bad_call`, `artifact_malformed`; class host where scratch cannot be written.
pub fn run(args: &ManifestArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    if host.inputs() != args.tracks.len() {
        let why = format!("{} tracks and {} tables", args.tracks.len(), host.inputs());
        return Err(Failure::new(Class::Internal, "bad_call", why));
    }
    let mut tables = Vec::with_capacity(args.tracks.len());
    for (input, track) in args.tracks.iter().enumerate() {
        let table: SegmentTable = serde_json::from_reader(BufReader::new(host.open(input)?)).map_err(|error| {
            let why = format!("the segment table of {} cannot be read: {error}", track.folder);
            Failure::new(Class::Internal, "artifact_malformed", why)
        })?;
        tables.push(table);
    }
    let growth = args.growth.as_ref();
    let described = args.tracks.iter().zip(tables).map(|(as_track, table)| Described::new(as_track, table, growth));
    let described: Vec<Described<'_>> = described.collect();
    let mut files = Vec::new();
    for (number, (path, text)) in playlists(&args.packages, &described, &args.text, growth).into_iter().enumerate() {
        let extension = path.rsplit('.').next().unwrap_or_default();
        let place = host.scratch().join(format!("manifest-{number}.{extension}"));
        std::fs::write(&place, text).map_err(|error| scratch_failed(&place, &error))?;
        files.push((path, place));
    }
    let left_out = |stream: &u32| Warning {
        code: "stream_dropped".into(),
        stream: Some(*stream),
        text: "subtitles are left out: they are pictures, and the package's are text".into(),
    };
    Ok(Product { files, warnings: args.pictures.iter().map(left_out).collect(), value: Value::Manifest })
}

/// Every playlist by its path in the package; those that others refer to first.
pub fn playlists(
    packages: &[Package],
    tracks: &[Described<'_>],
    text: &[PackagedTrack],
    growth: Option<&Growth>,
) -> Vec<(String, String)> {
    let mut files = Vec::new();
    if packages.contains(&Package::Hls) {
        files.extend(tracks.iter().flat_map(|track| hls::playlists(track, growth)));
        files.extend(text.iter().map(|track| hls::text(track, tracks, growth)));
        files.push((Package::Hls.entry().to_owned(), hls::master(tracks, text, growth)));
    }
    if packages.contains(&Package::Dash) {
        files.push((Package::Dash.entry().to_owned(), dash::manifest(tracks, text, growth)));
    }
    files
}

/// The track's language as RFC 5646 writes it, where the source's tag is one.
pub(super) fn language(track: &PackagedTrack) -> Option<String> {
    let tag = track.language.as_deref()?;
    let is_tag = |tag: &str| {
        (2..=35).contains(&tag.len())
            && tag
                .split('-')
                .all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    if !is_tag(tag) || tag.eq_ignore_ascii_case("und") {
        return None;
    }
    let (first, rest) = tag.split_at(tag.find('-').unwrap_or(tag.len()));
    let first = first.to_ascii_lowercase();
    let short = TWO_LETTERS.iter().find(|(long, _)| long.contains(&first.as_str()));
    Some(format!("{}{rest}", short.map_or(first.as_str(), |(_, short)| short)))
}

/// ISO 639-2 codes (both forms, where there are two) of which ISO 639-1 has a shorter one, which RFC 5646 then asks for: the languages
/// of most films.
const TWO_LETTERS: [(&[&str], &str); 44] = [
    (&["ara"], "ar"),
    (&["ben"], "bn"),
    (&["bul"], "bg"),
    (&["cat"], "ca"),
    (&["ces", "cze"], "cs"),
    (&["cym", "wel"], "cy"),
    (&["dan"], "da"),
    (&["deu", "ger"], "de"),
    (&["ell", "gre"], "el"),
    (&["eng"], "en"),
    (&["est"], "et"),
    (&["eus", "baq"], "eu"),
    (&["fas", "per"], "fa"),
    (&["fin"], "fi"),
    (&["fra", "fre"], "fr"),
    (&["gle"], "ga"),
    (&["heb"], "he"),
    (&["hin"], "hi"),
    (&["hrv"], "hr"),
    (&["hun"], "hu"),
    (&["ind"], "id"),
    (&["isl", "ice"], "is"),
    (&["ita"], "it"),
    (&["jpn"], "ja"),
    (&["kor"], "ko"),
    (&["lav"], "lv"),
    (&["lit"], "lt"),
    (&["msa", "may"], "ms"),
    (&["nld", "dut"], "nl"),
    (&["nor"], "no"),
    (&["pol"], "pl"),
    (&["por"], "pt"),
    (&["ron", "rum"], "ro"),
    (&["rus"], "ru"),
    (&["slk", "slo"], "sk"),
    (&["slv"], "sl"),
    (&["spa"], "es"),
    (&["srp"], "sr"),
    (&["swe"], "sv"),
    (&["tam"], "ta"),
    (&["tur"], "tr"),
    (&["ukr"], "uk"),
    (&["vie"], "vi"),
    (&["zho", "chi"], "zh"),
];

/// A text as an attribute's quoted string takes it: without quotes and line ends (RFC 8216, 4.2).
pub(super) fn quoted(text: &str) -> String {
    text.chars().filter(|c| *c != '"' && !c.is_control()).collect()
}

#[cfg(test)]
mod tests;
