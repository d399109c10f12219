//! Everything Spool knows about media. The only crate that links libav; [`timeline`], [`plan`] and [`params`] are pure
//! and know no libav.
//!
//! A function of this crate runs inside an executor process: [`run`] is given its arguments and a [`Host`], and leaves
//! files in the host's scratch directory. It opens no path of its own and no network.
//!
//! Reading order: `packets` (what a source holds), `timeline` (which frames come out), `plan` (where to cut),
//! `params` (encoder settings), `piece` (a coded track on its way to the join); then the functions that use libav:
//! `probe`, `scenes`, `encode`, `track`, `assemble`, `validate`, `index`, `quality`, `trial`; and beside the film: `text`, `images`.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use spool_proto::call::{Args, Value};
use spool_proto::failure::{Class, Failure, Warning};

pub mod assemble;
pub mod av;
pub mod bitstream;
pub mod choose;
pub mod crop;
pub mod damage;
pub mod decode;
pub mod encode;
pub mod golden;
pub mod graph;
pub mod images;
pub mod index;
pub mod jumps;
pub mod package;
pub mod packets;
pub mod params;
pub mod piece;
pub mod plan;
pub mod plan_file;
pub mod planning;
pub mod probe;
pub mod process;
pub mod quality;
pub mod scenes;
pub mod text;
pub mod timeline;
pub mod track;
pub mod trial;
pub mod validate;
pub mod versions;
pub mod wire;

pub use av::versions;
pub use golden::{backends, golden};

/// An open input: bytes by position, nothing else.
pub trait Source: Read + Seek + Send {
    /// Bytes in all.
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an executor gives the function it runs.
pub trait Host {
    /// Opens the call's input `index`. May be called again for the same one; each handle has its own position.
    fn open(&mut self, index: usize) -> Result<Box<dyn Source>, Failure>;
    /// Inputs of the call.
    fn inputs(&self) -> usize;
    /// The directory outputs are written to. Empty at the start, removed at the end.
    fn scratch(&self) -> &Path;
    /// Tells how far the work is. Cheap: the host thins it out. A function that works for long without calling it
    /// is taken for stuck.
    fn progress(&mut self, frames: u64, bytes: u64, out_time_us: u64);
}

/// What a function leaves.
#[derive(Debug)]
pub struct Product {
    /// Files in scratch, to be stored as artifacts: name (`index`, `plan`, `chunk`, `track`, `film`, `timeline`, …) and path.
    pub files: Vec<(String, PathBuf)>,
    pub warnings: Vec<Warning>,
    pub value: Value,
}

/// Runs one call.
///
/// # Errors
/// Those of the function. `not_media` (class internal) for calls that are no media work.
pub fn run(args: &Args, host: &mut dyn Host) -> Result<Product, Failure> {
    match args {
        Args::Audio(args) => track::audio(args, host),
        Args::Subtitle(args) => track::subtitle(args, host),
        Args::Images(args) => images::run(args, host),
        Args::Text(args) => text::run(args, host),
        Args::Assemble(args) => assemble::run(args, host),
        Args::Validate(args) => validate::run(args, host),
        Args::Index(args) => index::run(args, host),
        Args::Trial(args) => trial::run(args, host),
        Args::Quality(args) => quality::run(args, host),
        Args::QualityReport(args) => quality::job::run(args, host),
        Args::Probe(args) => probe::run(args, host),
        Args::Scenes(args) => scenes::run(args, host),
        Args::Plan(args) => planning::run(args, host),
        Args::Encode(args) => encode::run(args, host),
        Args::Analyse(args) => encode::analyse(args, host),
        Args::Segment(args) => package::segment::run(args, host),
        Args::Manifest(args) => package::manifest::run(args, host),
        Args::Noop { sleep_us, .. } => {
            std::thread::sleep(std::time::Duration::from_micros(*sleep_us));
            Ok(Product { files: Vec::new(), warnings: Vec::new(), value: Value::Noop })
        }
        Args::Publish(_) | Args::PublishPackage(_) | Args::List(_) | Args::User(_) => {
            Err(Failure::new(Class::Internal, "not_media", format!("{} is not a media function", args.function())))
        }
    }
}

/// A file in scratch could not be made or written.
pub(crate) fn scratch_failed(path: &Path, error: &std::io::Error) -> Failure {
    let code = if error.kind() == std::io::ErrorKind::StorageFull { "disk_full" } else { "artifact_io" };
    Failure::new(Class::Host, code, format!("writing {} failed: {error}", path.display()))
}
