//! The targets. Each says what must hold for any bytes.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use spool_media::assemble::FilmTimeline;
use spool_media::bitstream::Scanner;
use spool_media::packets::PacketIndex;
use spool_media::params::without_x264_settings;
use spool_media::piece::PieceReader;
use spool_media::plan_file::PlanFile;
use spool_media::{Host, Source};
use spool_proto::call::{Args, ProbeArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{EncodeSpec, parse};
use spool_proto::uri;

/// Takes any bytes and returns.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 11] = [
    ("probe", probe),
    ("scan", scan),
    ("index", index),
    ("plan", plan),
    ("piece", piece),
    ("timeline", timeline),
    ("bitstream", bitstream),
    ("x264_settings", x264_settings),
    ("words", words),
    ("spec", spec),
    ("messages", messages),
];

/// Bytes as a call's only input, and a scratch directory.
struct Bytes<'a> {
    bytes: &'a [u8],
    scratch: tempfile::TempDir,
}

struct Film(Cursor<Vec<u8>>);

impl Read for Film {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Seek for Film {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Source for Film {
    fn len(&self) -> u64 {
        u64::try_from(self.0.get_ref().len()).unwrap_or(u64::MAX)
    }
}

impl Host for Bytes<'_> {
    fn open(&mut self, _index: usize) -> Result<Box<dyn Source>, Failure> {
        Ok(Box::new(Film(Cursor::new(self.bytes.to_vec()))))
    }

    fn inputs(&self) -> usize {
        1
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn progress(&mut self, _frames: u64, _bytes: u64, _out_time_us: u64) {}
}

/// A film is either told or refused, as the film's own fault, with words; what is told is bounded and can be sent.
fn look(bytes: &[u8], index_for: Option<EncodeSpec>) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut host = Bytes { bytes, scratch };
    match spool_media::run(&Args::Probe(ProbeArgs { index_for, crop_bars: false }), &mut host) {
        Ok(product) => {
            let Value::Probe(facts) = product.value else { panic!("a probe that answers {:?}", product.value) };
            let told = serde_json::to_vec(&facts).expect("facts are plain values");
            assert!(told.len() < 4 << 20, "{} bytes of facts", told.len());
        }
        Err(failure) => {
            assert!(matches!(failure.class, Class::Input | Class::Spec), "{failure}");
            assert!(!failure.message.is_empty());
        }
    }
}

/// `media.probe` for a person.
pub fn probe(bytes: &[u8]) {
    look(bytes, None);
}

/// `media.probe` for an encode: every packet, and every frame where packets are in doubt.
pub fn scan(bytes: &[u8]) {
    let spec = r#"{"source":"file:///in","output":"file:///out.mkv","overwrite":true,"container":"mkv",
        "video":{"codec":"libx264","crf":23.0},"audio":null,"subtitles":"copy"}"#;
    look(bytes, Some(serde_json::from_str(spec).expect("it is one")));
}

/// What reads as a packet index is written as what reads the same.
pub fn index(bytes: &[u8]) {
    if let Ok(index) = PacketIndex::read(bytes) {
        let mut again = Vec::new();
        index.write(&mut again).expect("what was read can be written");
        assert_eq!(PacketIndex::read(again.as_slice()).ok(), Some(index));
    }
}

/// As [`index`], for plans.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = PlanFile::read(bytes) {
        let mut again = Vec::new();
        plan.write(&mut again).expect("what was read can be written");
        assert_eq!(PlanFile::read(again.as_slice()).ok(), Some(plan));
    }
}

/// A piece ends, after its first error at the latest, and holds no more than there was.
pub fn piece(bytes: &[u8]) {
    let Ok(mut reader) = PieceReader::open(bytes) else { return };
    let mut held = 0;
    while let Some(Ok(packet)) = reader.next() {
        held += packet.data.len();
        assert!(held <= bytes.len(), "a piece of {} bytes gave {held}", bytes.len());
    }
    assert!(reader.next().is_none(), "a piece goes on after its end");
}

/// As [`index`], for the timeline of a joined film.
pub fn timeline(bytes: &[u8]) {
    if let Ok(timeline) = FilmTimeline::read(bytes) {
        let mut again = Vec::new();
        timeline.write(&mut again).expect("what was read can be written");
        assert_eq!(FilmTimeline::read(again.as_slice()).ok(), Some(timeline));
    }
}

/// Codec settings, then packets: the first byte names the codec, the second how long the settings are.
pub fn bitstream(bytes: &[u8]) {
    let [codec, length, rest @ ..] = bytes else { return };
    let codecs = ["h264", "hevc", "av1", "vp9", "vp8", "mpeg2video", "mpeg4", "prores"];
    let codec = codecs[usize::from(*codec) % codecs.len()];
    let (settings, packets) = rest.split_at(rest.len().min(usize::from(*length)));
    let mut scanner = Scanner::new(codec, settings, false);
    for (number, packet) in packets.chunks(97).enumerate() {
        scanner.look(packet, number % 2 == 0);
    }
    scanner.look(packets, true);
}

/// What is left of a packet is its end, or all of it.
pub fn x264_settings(bytes: &[u8]) {
    assert!(bytes.ends_with(without_x264_settings(bytes)));
}

/// Numbers, times, sizes and addresses as people write them.
pub fn words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(parse::bits(&text));
    drop(parse::frame_rate(&text));
    drop(parse::size(&text));
    if let Ok(span) = parse::time(&text) {
        assert_eq!(parse::time(&parse::time_text(span)).ok(), Some(span), "{text:?}");
    }
    if let Ok(path) = uri::to_path(&text) {
        assert_eq!(uri::to_path(&uri::from_path(&path)).ok(), Some(path), "{text:?}");
    }
}

/// An encode's spec as a client sends it: read or not, judged or not, and read again as it was.
pub fn spec(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<EncodeSpec>(bytes) else { return };
    if let Err(failure) = spec.check() {
        assert_eq!(failure.class, Class::Spec, "{failure}");
    }
    let again = serde_json::to_vec(&spec).expect("a spec is plain values");
    let again: EncodeSpec = serde_json::from_slice(&again).expect("what was written reads back");
    assert_eq!(again, spec);
}

/// What an executor says to its worker.
pub fn messages(bytes: &[u8]) {
    spool_worker::executor::read_messages(bytes);
}
