//! A host on plain files, and small films made with the installed ffmpeg.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use spool_media::{Host, Product, Source};
use spool_proto::call::Args;
use spool_proto::failure::{Class, Failure};

/// Inputs are files; scratch is a folder made for one call.
pub struct FileHost {
    pub inputs: Vec<PathBuf>,
    pub scratch: tempfile::TempDir,
    pub reports: u64,
}

struct FileSource {
    file: File,
    length: u64,
}

impl Read for FileSource {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Seek for FileSource {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.length
    }
}

/// Opens a file as a source.
pub fn source(path: &Path) -> Box<dyn Source> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let length = file.metadata().unwrap().len();
    Box::new(FileSource { file, length })
}

impl FileHost {
    pub fn new(inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> FileHost {
        FileHost {
            inputs: inputs.into_iter().map(Into::into).collect(),
            scratch: tempfile::tempdir().unwrap(),
            reports: 0,
        }
    }
}

impl Host for FileHost {
    fn open(&mut self, index: usize) -> Result<Box<dyn Source>, Failure> {
        match self.inputs.get(index) {
            Some(path) => Ok(source(path)),
            None => Err(Failure::new(Class::Internal, "no_input", format!("there is no input {index}"))),
        }
    }

    fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn progress(&mut self, _frames: u64, _bytes: u64, _out_time_us: u64) {
        self.reports += 1;
    }
}

/// Runs one call; the host is given back with the product because its scratch holds the files.
pub fn call(args: &Args, inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Result<(Product, FileHost), Failure> {
    let mut host = FileHost::new(inputs);
    let product = spool_media::run(args, &mut host)?;
    Ok((product, host))
}

impl FileHost {
    /// Keeps a product's file beyond this host.
    pub fn keep(&self, product: &Product, name: &str, to: &Path) -> PathBuf {
        let (_, from) = product.files.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no artifact {name}"));
        std::fs::copy(from, to).unwrap();
        to.to_owned()
    }
}

/// Runs ffmpeg with these arguments (split at spaces) and `output` at the end.
pub fn ffmpeg(args: &str, output: &Path) {
    let result = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args.split_whitespace())
        .arg(output)
        .output()
        .expect("ffmpeg is installed");
    assert!(result.status.success(), "ffmpeg {args}: {}", String::from_utf8_lossy(&result.stderr));
}

/// One frame of a decoded film.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Nanoseconds, rounded.
    pub time_ns: i64,
    /// Of its pixels, as ffmpeg's framecrc muxer prints it.
    pub crc: u32,
}

/// Decodes the first video stream with the installed ffmpeg, every frame at its own time (no shift to zero).
pub fn framecrc(input: &Path) -> Vec<Seen> {
    let result = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-copyts", "-i"])
        .arg(input)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg is installed");
    let text = String::from_utf8_lossy(&result.stdout);
    let mut base = (1, 1);
    let mut seen = Vec::new();
    for line in text.lines() {
        if let Some(tb) = line.strip_prefix("#tb 0: ") {
            let (num, den) = tb.split_once('/').unwrap();
            base = (num.trim().parse().unwrap(), den.trim().parse().unwrap());
        }
        if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let crc = u32::from_str_radix(fields[5].trim_start_matches("0x"), 16).unwrap();
            seen.push(Seen { time_ns: time_ns(fields[2].parse().unwrap(), base), crc });
        }
    }
    seen
}

/// A pts in a timebase, as nanoseconds.
pub fn time_ns(pts: i64, (num, den): (i64, i64)) -> i64 {
    let (wide, den) = (i128::from(pts) * i128::from(num) * 1_000_000_000, i128::from(den));
    i64::try_from((2 * wide + den).div_euclid(2 * den)).unwrap()
}

/// libav's Adler-32 from 0, which framecrc prints.
pub fn crc(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (0u32, 0u32);
    for chunk in bytes.chunks(4096) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

/// The corpus, where it is present: `SPOOL_CORPUS`, else `../shared/corpus` beside the workspace.
pub fn corpus(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SPOOL_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from);
    let path = root.join(part);
    path.exists().then_some(path)
}
