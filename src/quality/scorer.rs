//! An external ffmpeg with libvmaf, found at run time: the file `SPOOL_SCORER` names, else `ffmpeg` on the PATH. Debian's libavfilter
//! has no libvmaf.
//!
//! It runs as a child of the command, not of an executor, and sees nothing of the user's but the names of the two files, each an
//! argument of its own, opened under the same lists of formats and protocols as in executors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use spool_proto::call::QualityManifest;
use tokio::process::Command;

use super::ask::Streams;

const NAMED_BY: &str = "SPOOL_SCORER";
/// To tell its version and filters.
const ASK_WITHIN: Duration = Duration::from_secs(20);

/// Whether the user named a scorer.
pub fn is_named() -> bool {
    std::env::var_os(NAMED_BY).is_some()
}

/// A program that reckons VMAF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scorer {
    program: PathBuf,
    /// `ffmpeg 7.0.2 (/usr/local/bin/ffmpeg)`.
    pub name: String,
}

/// Two films that were found to have the same frames.
#[derive(Debug)]
pub struct Pair<'a> {
    /// Reference and distorted.
    pub files: &'a [PathBuf; 2],
    pub streams: Option<Streams>,
    pub manifest: &'a QualityManifest,
}

impl Scorer {
    /// Looks for one.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub async fn find() -> Result<Scorer, String> {
        let how = format!("{NAMED_BY} may name an ffmpeg that has it");
        let program = match std::env::var_os(NAMED_BY) {
            Some(named) => PathBuf::from(named),
            None => on_path("ffmpeg").ok_or_else(|| format!("there is no ffmpeg on the PATH; {how}"))?,
        };
        let shown = program.display();
        let filters = ask(&program, &["-hide_banner", "-filters"]).await.map_err(|why| format!("{shown}: {why}"))?;
        if !filters.lines().any(|line| line.split_whitespace().nth(1) == Some("libvmaf")) {
            return Err(format!("{shown} has no libvmaf; {how}"));
        }
        let version = ask(&program, &["-version"]).await.map_err(|why| format!("{shown}: {why}"))?;
        let version = version.split_whitespace().nth(2).unwrap_or("of unknown version").to_owned();
        Ok(Scorer { name: format!("ffmpeg {version} ({shown})"), program })
    }

    /// VMAF of every frame of the pair, in order, by libvmaf's own default model. `scratch`: its log goes there.
    ///
    /// # Errors
    /// The scorer's, with the last lines it wrote; and when it did not score exactly the frames asked for.
    pub async fn vmaf(&self, pair: &Pair<'_>, threads: u16, scratch: &Path) -> anyhow::Result<Vec<f64>> {
        let output = Command::new(&self.program)
            .args(arguments(pair, threads))
            .current_dir(scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("the scorer {} cannot be started", self.name))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(5)..].join("\n  ");
            anyhow::bail!("the scorer {} failed ({}):\n  {tail}", self.name, output.status);
        }
        let log = std::fs::read(scratch.join(LOG)).context("the scorer left no log")?;
        let scores = read_log(&log).with_context(|| format!("the log of the scorer {}", self.name))?;
        let (found, wanted) = (scores.len(), pair.manifest.frames);
        if u64::try_from(found).ok() != Some(wanted) {
            anyhow::bail!(
                "the scorer {} scored {found} frames of {wanted}: it decodes one of the films otherwise; leave vmaf out",
                self.name
            );
        }
        Ok(scores)
    }
}

/// In the scratch directory, so that no path stands in a filter's arguments.
const LOG: &str = "vmaf.json";

/// What the scorer is called with. Filters hold numbers and libav's own names only.
fn arguments(pair: &Pair<'_>, threads: u16) -> Vec<OsString> {
    let manifest = pair.manifest;
    let like = &manifest.reference;
    let (first, end) = (manifest.first_frame, manifest.first_frame.saturating_add(manifest.frames));
    let stream = |of: fn(Streams) -> u32| pair.streams.map_or("V:0".to_owned(), |streams| of(streams).to_string());
    // By number: each film's frames are counted before their times are thrown away.
    let frames = format!("trim=start_frame={first}:end_frame={end},settb=AVTB,setpts=N");
    let graph = format!(
        "[0:{}]scale={}:{}:flags=bicubic,format={},{frames}[d];[1:{}]format={},{frames}[r];\
         [d][r]libvmaf=log_fmt=json:log_path={LOG}:n_threads={threads}",
        stream(|streams| streams.distorted),
        like.width,
        like.height,
        like.pix_fmt,
        stream(|streams| streams.reference),
        like.pix_fmt,
    );
    let mut arguments: Vec<OsString> = ["-hide_banner", "-nostdin", "-nostats", "-v", "error"].map(Into::into).into();
    let [reference, distorted] = pair.files;
    for file in [distorted, reference] {
        arguments.extend(["-protocol_whitelist", "file", "-format_whitelist"].map(Into::into));
        arguments.push(spool_media::av::input::FORMATS.into());
        arguments.push("-i".into());
        let mut name = OsString::from("file:");
        name.push(file);
        arguments.push(name);
    }
    arguments.extend(["-lavfi", &graph, "-f", "null", "-"].map(Into::into));
    arguments
}

/// libvmaf's JSON log: `{"frames":[{"frameNum":0,"metrics":{"vmaf":93.1,…}},…],…}`.
fn read_log(log: &[u8]) -> anyhow::Result<Vec<f64>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Frame {
        frame_num: u64,
        metrics: Metrics,
    }
    #[derive(Deserialize)]
    struct Metrics {
        vmaf: f64,
    }
    #[derive(Deserialize)]
    struct Log {
        frames: Vec<Frame>,
    }
    let mut frames = serde_json::from_slice::<Log>(log)?.frames;
    frames.sort_by_key(|frame| frame.frame_num);
    Ok(frames.into_iter().map(|frame| frame.metrics.vmaf).collect())
}

/// What a program says about itself.
async fn ask(program: &Path, args: &[&str]) -> Result<String, String> {
    let asked = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(ASK_WITHIN, asked).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(format!("it ends with {}", output.status)),
        Ok(Err(error)) => Err(format!("it cannot be started: {error}")),
        Err(_) => Err(format!("it does not answer within {} s", ASK_WITHIN.as_secs())),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use spool_proto::call::PictureFacts;

    use super::*;

    #[test]
    fn no_name_of_the_users_stands_in_a_filter() {
        let files = [PathBuf::from("/films/a,b[0]:x.mkv"), PathBuf::from("/films/-c 'd'.mp4")];
        let picture = |width| PictureFacts { width, height: 360, pix_fmt: "yuv420p".into() };
        let manifest = QualityManifest {
            first_frame: 240,
            frames: 100,
            first_time_us: 0,
            reference: picture(640),
            distorted: picture(320),
            scores: Vec::new(),
        };
        let pair = Pair { files: &files, streams: Some(Streams { reference: 2, distorted: 0 }), manifest: &manifest };
        let arguments: Vec<String> =
            arguments(&pair, 4).into_iter().map(|word| word.into_string().expect("text")).collect();
        let after = |flag: &str| {
            let places = arguments.iter().enumerate().filter(|(_, word)| *word == flag);
            places.map(|(at, _)| arguments[at + 1].clone()).collect::<Vec<_>>()
        };
        assert_eq!(after("-i"), ["file:/films/-c 'd'.mp4", "file:/films/a,b[0]:x.mkv"]);
        assert_eq!(after("-protocol_whitelist"), ["file", "file"]);
        assert_eq!(
            after("-lavfi"),
            [
                "[0:0]scale=640:360:flags=bicubic,format=yuv420p,trim=start_frame=240:end_frame=340,settb=AVTB,setpts=N[d];\
              [1:2]format=yuv420p,trim=start_frame=240:end_frame=340,settb=AVTB,setpts=N[r];\
              [d][r]libvmaf=log_fmt=json:log_path=vmaf.json:n_threads=4"
            ]
        );
    }

    #[test]
    fn the_log_is_read_in_order_of_frames() {
        let log = br#"{"version":"3.0.0","frames":[{"frameNum":1,"metrics":{"integer_adm2":0.9,"vmaf":91.5}},
            {"frameNum":0,"metrics":{"vmaf":97.25}}],"pooled_metrics":{"vmaf":{"mean":94.4}}}"#;
        assert_eq!(read_log(log).expect("a log"), [97.25, 91.5]);
        assert!(read_log(br#"{"frames":[{"frameNum":0,"metrics":{}}]}"#).is_err());
    }
}
