//! `spool images`: a poster, thumbnails and sprite sheets of a film, made in an executor, as any untrusted file is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use spool_proto::call::{self, Call, ImageFile, ImagesArgs as Take};
use spool_proto::spec::{ImageFormat, ImageSpec, Poster, QUALITY_DEFAULT, Sprites, Thumbnails, parse};
use spool_proto::time::Span;
use spool_proto::uri;
use spool_worker::executor::Limits;
use spool_worker::local::{self, LocalOptions};

use crate::cli::SandboxArg;
use crate::exit::{Exit, Stop};
use crate::output;
use crate::roles;

/// A day of film, every picture decoded, on a slow machine.
const WITHIN: Duration = Duration::from_secs(6 * 3600);
/// One picture takes seconds at most; finding the first of a long film without an index may take a while.
const NO_PROGRESS: Duration = Duration::from_secs(300);
/// A decoder of the largest pictures, and one sheet.
const MEMORY_MIB: u64 = 4096;
/// Pictures of sprite sheets are so far apart where nothing says it.
pub const SPRITE_EVERY: Span = Span::from_secs(10);
/// Of thumbnails and of the sheets' pictures.
pub const WIDTH_DEFAULT: u32 = 320;

#[derive(Debug, Args)]
#[command(
    after_help = "At least one of --poster, --thumbnails and --sprite is needed. The sprites' track, sprite.vtt, says which picture \
    stands for which time."
)]
pub struct ImagesArgs {
    /// The film: a path or a URI
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory the pictures go to; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// One picture for the film: the most telling one, or that of --at
    #[arg(long)]
    poster: bool,
    /// The poster's time: 90, 1:30.5
    #[arg(long, value_name = "TIME", value_parser = parse::time, requires = "poster")]
    at: Option<Span>,
    /// Width of the poster [default: the film's]
    #[arg(long, value_name = "PIXELS", requires = "poster")]
    poster_width: Option<u32>,
    /// A picture every so often, a file each: 10s
    #[arg(long, value_name = "INTERVAL", value_parser = parse::time)]
    thumbnails: Option<Span>,
    /// Sheets of small pictures, columns by rows, with a WebVTT track: 5x5
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = grid)]
    sprite: Option<(u16, u16)>,
    /// Interval of the sheets' pictures [default: that of --thumbnails, else 10s]
    #[arg(long, value_name = "INTERVAL", value_parser = parse::time, requires = "sprite")]
    sprite_every: Option<Span>,
    #[command(flatten)]
    sandbox: SandboxArg,
    /// Width of thumbnails and of the sheets' pictures; nothing is enlarged
    #[arg(long, value_name = "PIXELS", default_value_t = WIDTH_DEFAULT)]
    width: u32,
    /// Format of the files
    #[arg(long, value_enum, default_value = "jpeg", value_name = "FORMAT")]
    format: Format,
    /// 1 (small) to 100 (good)
    #[arg(long, value_name = "N", default_value_t = QUALITY_DEFAULT)]
    quality: u8,
    /// Exactly the picture shown at each time; without it, a keyframe within half an interval will do
    #[arg(long)]
    exact: bool,
    /// The stream to take pictures of, by its number in spool probe [default: the one an encode would take]
    #[arg(long, value_name = "N")]
    stream: Option<u32>,
    /// Replace files that exist
    #[arg(short = 'y')]
    overwrite: bool,
    /// Print the list of files as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Jpeg,
    Png,
    Webp,
}

pub fn grid(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    sides.ok_or_else(|| "expected COLUMNSxROWS, such as 5x5".into())
}

impl ImagesArgs {
    fn spec(&self) -> ImageSpec {
        let every = self.sprite_every.or(self.thumbnails).unwrap_or(SPRITE_EVERY);
        ImageSpec {
            poster: self.poster.then_some(Poster { at: self.at, width: self.poster_width }),
            thumbnails: self.thumbnails.map(|every| Thumbnails { every, width: self.width }),
            sprites: self.sprite.map(|(columns, rows)| Sprites { every, columns, rows, width: self.width }),
            format: match self.format {
                Format::Jpeg => ImageFormat::Jpeg,
                Format::Png => ImageFormat::Png,
                Format::Webp => ImageFormat::Webp,
            },
            quality: self.quality,
            exact: self.exact,
        }
    }
}

pub async fn run(args: &ImagesArgs) -> anyhow::Result<Exit> {
    let spec = args.spec();
    spec.check()?;
    let source = crate::probe::source(&args.file)?;
    let folder = &args.output;
    let unusable = |e: std::io::Error| Stop::usage(format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(unusable)?;
    let folder = folder.canonicalize().map_err(unusable)?;
    if !args.overwrite {
        refuse_existing(&spec, &folder)?;
    }
    let scratch = tempfile::tempdir()?;
    // Beside the place they go to: putting them there is renaming.
    let made = tempfile::Builder::new().prefix(".spool-images-").tempdir_in(&folder).map_err(unusable)?;
    let call = Call {
        inputs: vec![source],
        output_prefix: format!("{}/", uri::from_path(made.path())),
        source_version: None,
        args: call::Args::Images(Take { spec, stream: args.stream }),
    };
    let options = LocalOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        scratch: scratch.path().to_owned(),
        limits: Limits { timeout: WITHIN, no_progress: NO_PROGRESS, memory_mib: MEMORY_MIB, scratch_mib: 0 },
        sandbox: args.sandbox.mode,
    };
    let answer = local::call(options, &call, Arc::new(|_| {})).await?;
    for warning in &answer.warnings {
        eprintln!("warning: {}", warning.text);
    }
    let call::Value::Images(images) = answer.value else {
        anyhow::bail!("the call answered with something else than pictures");
    };
    for artifact in &answer.artifacts {
        let target = folder.join(&artifact.name);
        if !args.overwrite && target.exists() {
            return Err(exists(&target));
        }
        fs::rename(uri::to_path(&artifact.uri)?, &target).map_err(|e| anyhow::anyhow!("{}: {e}", target.display()))?;
    }
    if args.json {
        output::print_json(&images)?
    } else {
        output::print(&images.files.iter().map(|file| line(&folder, file)).collect::<String>())?
    }
    Ok(Exit::Done)
}

fn exists(path: &Path) -> anyhow::Error {
    Stop::usage(format!("{} exists; -y replaces it, or name another directory", path.display()))
}

/// Better told before the pictures are made than after: the first of each kind stands for all.
fn refuse_existing(spec: &ImageSpec, folder: &Path) -> anyhow::Result<()> {
    let extension = spec.format.extension();
    let firsts = [
        spec.poster.as_ref().map(|_| format!("poster.{extension}")),
        spec.thumbnails.as_ref().map(|_| format!("thumb-0001.{extension}")),
        spec.sprites.as_ref().map(|_| format!("sprite-001.{extension}")),
        spec.sprites.as_ref().map(|_| "sprite.vtt".to_owned()),
    ];
    match firsts.into_iter().flatten().map(|name| folder.join(name)).find(|path| path.exists()) {
        Some(path) => Err(exists(&path)),
        None => Ok(()),
    }
}

fn line(folder: &Path, file: &ImageFile) -> String {
    let mut text = folder.join(&file.name).display().to_string();
    if file.width > 0 {
        text.push_str(&format!("  {}x{}", file.width, file.height));
    }
    if let Some(us) = file.time_us.and_then(|us| u64::try_from(us).ok()) {
        text.push_str(&format!("  at {}", output::span(Span(us))));
    }
    text + "\n"
}
