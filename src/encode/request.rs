//! From a command line to a job: files looked at early, the spec judged, and one name by which the same command finds its run
//! again.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use spool_proto::spec::{EncodeSpec, JobSpec, Service};
use spool_proto::uri;

use super::options::{EncodeArgs, Places};
use crate::exit::Stop;
use crate::roles;

/// A judged job and its name.
#[derive(Debug)]
pub struct Request {
    pub job: JobSpec,
    /// Of the source (path, size, time of change), the output and the options: equal for the same command.
    pub hash: String,
    /// Absolute.
    pub output: PathBuf,
    /// What is written beside it, absolute.
    beside: Vec<PathBuf>,
}

impl Request {
    /// # Errors
    /// A [`Stop`] with exit 2 that names the file or option.
    pub fn of(args: &EncodeArgs) -> anyhow::Result<Request> {
        let (input, output) = args.files()?;
        let (source, metadata) = source_file(&input)?;
        let output = output_path(&output)?;
        let index = args.spool.index.as_deref().map(output_path).transpose()?;
        if index.as_ref().is_some_and(|index| *index == output || *index == source) {
            return Err(Stop::usage("--index names the film itself: name another file"));
        }
        let report = args.spool.quality_report.as_deref().map(output_path).transpose()?;
        // The chart stands beside its report.
        let chart = report.as_ref().map(|report| report.with_extension("svg"));
        let beside: Vec<PathBuf> = index.iter().chain(&report).chain(&chart).cloned().collect();
        let uri_of = |path: &Path| uri::from_path(path);
        let mut spec = args.spec(Places {
            source: uri_of(&source),
            output: uri_of(&output),
            index: index.as_deref().map(uri_of),
            quality_report: report.as_deref().map(uri_of),
        })?;
        let mut files = vec![metadata];
        if let (Some(video), Some(image)) = (&mut spec.video, &args.video.overlay.overlay) {
            let (image, metadata) = source_file(image)?;
            video.overlay = Some(args.video.overlay.spec(uri_of(&image)));
            files.push(metadata);
        }
        let name = args.spool.name.clone().unwrap_or_else(|| file_name(&source));
        let mut job = JobSpec::new(name, Service::VideoEncode(spec.clone()));
        job.priority = args.spool.priority;
        job.deadline = args.deadline();
        args.spool.queueing.fill(&mut job);
        job.check()?;
        let hash = hash(&spec, &files)?;
        Ok(Request { job, hash, output, beside })
    }

    /// Whether this user may put files where the film will go: better told before it is encoded than after.
    ///
    /// # Errors
    /// A [`Stop`] with exit 2 that names the directory.
    pub fn check_writable(&self) -> anyhow::Result<()> {
        for path in std::iter::once(&self.output).chain(&self.beside) {
            let directory = path.parent().unwrap_or(Path::new("/"));
            // A file without a name: nothing is left there, whatever happens.
            if let Err(error) = tempfile::tempfile_in(directory) {
                let why = match error.kind() {
                    io::ErrorKind::PermissionDenied => "this user may not".into(),
                    io::ErrorKind::ReadOnlyFilesystem => "it is read-only".into(),
                    _ => error.to_string(),
                };
                let (path, directory) = (path.display(), directory.display());
                return Err(Stop::usage(format!("{path}: no file can be written in {directory}: {why}")));
            }
        }
        Ok(())
    }

    /// What a worker must be able to do for it.
    pub fn backends(&self) -> Vec<String> {
        match &self.job.service {
            Service::VideoEncode(spec) => spec.video.iter().map(|video| roles::backend(video.codec)).collect(),
            Service::Title(_) | Service::Bench(_) => Vec::new(),
        }
    }

    /// From now on the output may be replaced.
    pub fn allow_overwrite(&mut self) {
        if let Service::VideoEncode(spec) = &mut self.job.service {
            spec.overwrite = true;
        }
    }

    /// Asks before an output that exists is replaced. `resumes`: this very command began it, so it was asked then.
    pub fn settle_overwrite(&mut self, args: &EncodeArgs, resumes: bool) -> anyhow::Result<()> {
        if args.overwrite || !self.output.exists() {
            return Ok(());
        }
        let path = self.output.display();
        if args.never_overwrite {
            return Err(Stop::usage(format!("{path} exists and -n forbids to replace it")));
        }
        if resumes {
            self.allow_overwrite();
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Stop::usage(format!("{path} exists; -y replaces it, or name another output")));
        }
        eprint!("{path} exists. Replace it? [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Stop::usage("not replaced"));
        }
        self.allow_overwrite();
        Ok(())
    }
}

fn source_file(path: &Path) -> anyhow::Result<(PathBuf, fs::Metadata)> {
    let shown = path.display();
    if path.to_str().is_some_and(|text| text.contains("://")) {
        return Err(Stop::usage(format!("{shown}: sources are files on this machine, named by path")));
    }
    let source = path.canonicalize().map_err(|e| Stop::usage(format!("{shown}: {}", reason(&e))))?;
    let metadata = fs::metadata(&source).map_err(|e| Stop::usage(format!("{shown}: {}", reason(&e))))?;
    if !metadata.is_file() {
        return Err(Stop::usage(format!("{shown} is not a file")));
    }
    fs::File::open(&source).map_err(|e| Stop::usage(format!("{shown}: {}", reason(&e))))?;
    Ok((source, metadata))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "it may not be read by this user".into(),
        _ => error.to_string(),
    }
}

/// Absolute, links in its directory resolved, so that one file has one name.
fn output_path(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let Some(name) = path.file_name() else {
        return Err(Stop::usage(format!("{shown}: the output must be a file, such as film.mp4")));
    };
    if path.is_dir() {
        return Err(Stop::usage(format!("{shown} is a directory; name a file in it, such as {shown}/film.mp4")));
    }
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let directory =
        directory.canonicalize().ok().filter(|directory| directory.is_dir()).ok_or_else(|| {
            Stop::usage(format!("{shown}: there is no directory {}; make it first", directory.display()))
        })?;
    Ok(directory.join(name))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// 128 bits, hex.
/// `files`: what is read, the source first.
fn hash(spec: &EncodeSpec, files: &[fs::Metadata]) -> anyhow::Result<String> {
    let plain = EncodeSpec { overwrite: false, ..spec.clone() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(&plain)?);
    for file in files {
        hasher.update(&file.len().to_le_bytes());
        hasher.update(&file.mtime().to_le_bytes());
        hasher.update(&file.mtime_nsec().to_le_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(words: &[&str]) -> EncodeArgs {
        let line = ["spool", "encode"].iter().chain(words);
        match Cli::try_parse_from(line).expect("a good command line").command {
            Command::Encode(args) => *args,
            other => panic!("not encode: {other:?}"),
        }
    }

    #[test]
    fn the_same_command_has_the_same_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (source, out) = (dir.path().join("in.mov"), dir.path().join("out.mp4"));
        fs::write(&source, b"one").expect("written");
        let (source, out) = (source.to_str().expect("text"), out.to_str().expect("text"));
        let hash = |more: &[&str]| {
            let words: Vec<&str> = [source, "-o", out].into_iter().chain(more.iter().copied()).collect();
            Request::of(&args(&words)).expect("a good request").hash
        };
        let first = hash(&[]);
        assert_eq!(
            first,
            hash(&["-y", "--priority", "7", "--pool", "studio", "--deadline", "+2h", "--progress", "none"])
        );
        assert_ne!(first, hash(&["--crf", "21"]));
        let logo = dir.path().join("logo.png");
        fs::write(&logo, b"one").expect("written");
        let overlay = ["--overlay", logo.to_str().expect("text")];
        let with_logo = hash(&overlay);
        fs::write(&logo, b"three").expect("written");
        assert_ne!(with_logo, hash(&overlay), "another picture, another film");
        fs::write(source, b"three").expect("written");
        assert_ne!(first, hash(&[]));
    }

    #[test]
    fn a_crop_goes_in_front_of_the_filters() {
        use spool_proto::spec::parse::filters_text;
        let dir = tempfile::tempdir().expect("a directory");
        let (source, out) = (dir.path().join("in.mov"), dir.path().join("out.mp4"));
        fs::write(&source, b"one").expect("written");
        let (source, out) = (source.to_str().expect("text"), out.to_str().expect("text"));
        for (crop, chain, bars) in [("auto", "hflip", true), ("640:272:0:44", "crop=640:272:0:44,hflip", false)] {
            let request = Request::of(&args(&[source, "-o", out, "--crop", crop, "--vf", "hflip"])).expect("good");
            let Service::VideoEncode(spec) = request.job.service else { panic!("an encode") };
            let video = spec.video.expect("with video");
            assert_eq!((filters_text(&video.filters).as_str(), video.crop_bars), (chain, bars));
        }
    }

    #[test]
    fn whose_capacity_a_job_uses_and_when_is_taken_from_the_options() {
        use spool_proto::pool::{Class, Hop};
        use spool_proto::time::{Span, Timestamp};
        let dir = tempfile::tempdir().expect("a directory");
        let (source, out) = (dir.path().join("in.mov"), dir.path().join("out.webm"));
        fs::write(&source, b"one").expect("written");
        let (source, out) = (source.to_str().expect("text"), out.to_str().expect("text"));
        let request = |more: &[&str]| {
            let words: Vec<&str> = [source, "-o", out].into_iter().chain(more.iter().copied()).collect();
            Request::of(&args(&words))
        };
        let plain = request(&[]).expect("a good request").job;
        assert_eq!((&*plain.pool.0, plain.class, plain.preemptible), ("default", Class::Standard, true));
        let job = request(&[
            "--pool",
            "studio/films",
            "--deadline",
            "1970-01-02T00:00:00Z",
            "--deadline",
            "best",
            "--opportunistic-until",
            "1970-01-01T00:00:09Z",
            "--hop",
            "10m:rush",
            "--hop",
            "1h:studio/rush:80",
        ])
        .expect("a good request")
        .job;
        let hop = |secs, pool: &str, priority| Hop { after: Span::from_secs(secs), pool: pool.into(), priority };
        assert_eq!((&*job.pool.0, job.deadline), ("studio/films", Some(Timestamp(86_400_000_000))));
        assert_eq!(job.class, Class::Opportunistic { start_by: Timestamp(9_000_000) });
        assert_eq!(job.hop, [hop(600, "rush", None), hop(3_600, "studio/rush", Some(80))]);
        let Service::VideoEncode(encode) = &job.service else { panic!("an encode") };
        assert_eq!(encode.video.as_ref().and_then(|v| v.deadline.as_deref()), Some("best"), "libvpx keeps its own");
        let refusal = request(&["--vn", "--deadline", "best"]).expect_err("no video").to_string();
        assert!(refusal.contains("-vn"), "{refusal}");
        assert!(request(&["--vn", "--deadline", "+2h"]).expect("no video, done soon").job.deadline.is_some());
    }

    #[test]
    fn what_is_said_of_one_audio_track_goes_before_what_is_said_of_all() {
        use spool_proto::spec::{AudioCodec, AudioFilter, AudioSpec, Gain, Loudness, Subtitles, TextCodec};
        let dir = tempfile::tempdir().expect("a directory");
        let (source, out) = (dir.path().join("in.mov"), dir.path().join("out.mkv"));
        fs::write(&source, b"one").expect("written");
        let (source, out) = (source.to_str().expect("text"), out.to_str().expect("text"));
        let spec = |line: &str| {
            let words = ["spool", "encode", source, "-o", out].into_iter().chain(line.split_whitespace());
            let words = crate::argv::rewrite(&<Cli as clap::CommandFactory>::command(), words.map(Into::into));
            let cli = Cli::try_parse_from(words.expect("known options")).expect("a good command line");
            let Command::Encode(args) = cli.command else { panic!("not encode") };
            match Request::of(&args).expect("a good request").job.service {
                Service::VideoEncode(spec) => spec,
                other => panic!("not an encode: {other:?}"),
            }
        };
        let spec = spec(
            "-b:a 96k -ac 2 -af volume=3dB --loudness -16 -c:a:1 ac3 -b:a:1 448k -channel_layout:a:1 5.1 -c:a:2 copy -c:s subrip",
        );
        let loudness = Some(Loudness { target_lufs: -16.0, true_peak_dbtp: -2.0 });
        let filters = vec![AudioFilter::Volume(Gain::Db(3.0))];
        let all = AudioSpec {
            bitrate_bps: Some(96_000),
            channels: Some(2),
            filters: filters.clone(),
            loudness,
            ..AudioSpec::new(AudioCodec::Aac)
        };
        let second = AudioSpec {
            codec: AudioCodec::Ac3,
            bitrate_bps: Some(448_000),
            channels: None,
            channel_layout: Some("5.1".into()),
            ..all.clone()
        };
        assert_eq!(spec.audio, Some(all.clone()));
        assert_eq!(spec.audio_of(0), Some(&all));
        assert_eq!(spec.audio_of(1), Some(&second));
        assert_eq!(spec.audio_of(2), Some(&AudioSpec::new(AudioCodec::Copy)));
        assert_eq!(spec.subtitles, Subtitles::Text(TextCodec::Srt));
    }

    #[test]
    fn files_are_looked_at_before_anything_is_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        fs::write(at("in.mov"), b"x").expect("written");
        for (source, out, says) in [
            (at("none.mov"), at("out.mp4"), "there is no such file"),
            (at(""), at("out.mp4"), "is not a file"),
            (at("in.mov"), at("no/out.mp4"), "there is no directory"),
            (at("in.mov"), at("out.avi"), ".mp4, .mov, .mkv, .webm"),
            (at("in.mov"), at(""), "is a directory"),
            (at("in.mov"), at("in.mov"), "the source itself"),
            ("http://host/in.mov".into(), at("out.mp4"), "named by path"),
        ] {
            let error = Request::of(&args(&[&source, "-o", &out])).expect_err(&source);
            assert!(error.to_string().contains(says), "{source} {out}: {error}");
            assert_eq!(crate::exit::of_error(&error), crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn a_directory_that_takes_no_files_is_told_before_anything_is_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        fs::write(at("in.mov"), b"x").expect("written");
        let check = |words: &[&str]| Request::of(&args(words)).expect("a good request").check_writable();
        check(&[&at("in.mov"), "-o", &at("out.mp4")]).expect("writable");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1, "nothing is left there");
        // Not even root may make files there.
        for words in [&["-o", "/proc/out.mp4"][..], &["-o", &at("out.mp4"), "--index", "/proc/index.json"]] {
            let error = check(&[&[&*at("in.mov")], words].concat()).expect_err("nothing can be made there");
            assert!(error.to_string().contains("in /proc"), "{error}");
            assert_eq!(crate::exit::of_error(&error), crate::exit::Exit::Usage);
        }
    }
}
