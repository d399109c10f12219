//! How far a job is, on stderr: a bar on a terminal, plain lines elsewhere, or JSON with the field names of `ffmpeg -progress`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{JobState, JobView, SourceFetch, TitleOutput};

use crate::ffmpeg::status::Status;
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, plain lines elsewhere
    Auto,
    Bar,
    Plain,
    /// A line of JSON at each step, fields as of `ffmpeg -progress`
    Json,
    None,
}

/// Between two plain or JSON lines of one phase.
const LINE_EVERY: Duration = Duration::from_secs(2);
const JSON_EVERY: Duration = Duration::from_millis(500);

/// What a job's progress comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Output time over the time the encoding took so far.
    pub speed: Option<f64>,
    eta: Option<Span>,
    size_estimate: Option<u64>,
    bits_per_second: Option<u64>,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "estimates for people to read; all operands are checked to be finite and not negative"
)]
fn figures(job: &JobView, now: Timestamp) -> Figures {
    let p = &job.progress;
    let out_time_us = p.out_time_us;
    let named = |name: &str| job.phases.iter().find(|phase| phase.name == name);
    let encoding = named("encoding").or_else(|| named("analysing"));
    let spent = encoding.map_or(Span::ZERO, |phase| phase.finished.unwrap_or(now).since(phase.started));
    let running = encoding.is_some_and(|phase| phase.finished.is_none());
    let left = p.frames_total.saturating_sub(p.frames) as f64;
    let scaled = |total: u64, part: u64| (u128::from(p.bytes) * u128::from(total) / u128::from(part.max(1))) as u64;
    Figures {
        speed: (spent > Span::ZERO && out_time_us > 0).then(|| out_time_us as f64 / spent.0 as f64),
        eta: (running && p.fps > 0.0 && p.fps.is_finite() && p.frames_total > 0)
            .then(|| Span((left / p.fps * 1e6) as u64)),
        size_estimate: (p.frames > 0 && p.frames_total > 0).then(|| scaled(p.frames_total, p.frames)),
        bits_per_second: (out_time_us > 0).then(|| scaled(8_000_000, out_time_us)),
    }
}

#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    last: Option<(String, Instant)>,
    /// In place of all other modes.
    ffmpeg: Option<Status>,
}

impl Progress {
    /// As ffmpeg tells it.
    pub fn as_ffmpeg(status: Status) -> Progress {
        Progress { mode: Mode::None, bar: None, last: None, ffmpeg: Some(status) }
    }

    pub fn new(mode: Mode) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let mode = match mode {
            Mode::Auto if terminal => Mode::Bar,
            Mode::Auto => Mode::Plain,
            mode => mode,
        };
        let bar = (mode == Mode::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>10} [{wide_bar:.cyan/blue}] {percent:>3}% {msg}");
            bar.set_style(style.expect("the template is a constant").progress_chars("━╸─"));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Progress { mode, bar, last: None, ffmpeg: None }
    }

    /// Shows a state of the job.
    pub fn show(&mut self, job: &JobView) {
        let figures = figures(job, Timestamp::now());
        if let Some(status) = &mut self.ffmpeg {
            return status.show(job, &figures);
        }
        let mode = self.mode;
        match mode {
            Mode::Bar => self.show_bar(job, &figures),
            Mode::Plain if self.is_due(job, LINE_EVERY) => line(&plain(job, &figures)),
            Mode::Json if self.is_due(job, JSON_EVERY) => line(&json_line(job, &figures)),
            _ => {}
        }
    }

    /// A word to the user that leaves the bar whole.
    pub fn say(&self, text: &str) {
        if let Some(status) = &self.ffmpeg {
            return status.say(text);
        }
        match (&self.bar, self.mode) {
            (Some(bar), _) => bar.suspend(|| eprintln!("{text}")),
            // Whoever reads JSON lines reads nothing else.
            (None, Mode::Json) => {}
            (None, _) => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// What a final job comes to.
    pub fn tell_end(&mut self, job: &JobView) {
        if let Some(status) = &mut self.ffmpeg {
            return status.tell_end(job);
        }
        if self.mode != Mode::None || job.state != JobState::Done {
            self.say(&summary(job));
        }
    }

    fn is_due(&mut self, job: &JobView, every: Duration) -> bool {
        let now = Instant::now();
        let due = match &self.last {
            Some((phase, at)) => *phase != job.phase || now.duration_since(*at) >= every || job.state.is_final(),
            None => true,
        };
        if due {
            self.last = Some((job.phase.clone(), now));
        }
        due
    }

    fn show_bar(&self, job: &JobView, figures: &Figures) {
        let Some(bar) = &self.bar else { return };
        bar.set_prefix(job.phase.clone());
        bar.set_length(job.progress.frames_total.max(1));
        bar.set_position(job.progress.frames.min(job.progress.frames_total));
        bar.set_message(rates(job, figures));
    }
}

fn line(text: &str) {
    // Nobody may be reading any more; the job matters, not the line.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `chunks 3/6  84.1 fps  3.5x  ETA 12.0s  ~14.2 MB`, as far as known.
fn rates(job: &JobView, figures: &Figures) -> String {
    let p = &job.progress;
    let mut parts = Vec::new();
    if p.chunks_total > 0 {
        parts.push(format!("chunks {}/{}", p.chunks_done, p.chunks_total));
    }
    if p.fps > 0.0 {
        parts.push(format!("{:.1} fps", p.fps));
    }
    parts.extend(figures.speed.map(|speed| format!("{speed:.2}x")));
    parts.extend(figures.eta.map(|eta| format!("ETA {}", output::span(eta))));
    parts.extend(figures.size_estimate.map(|bytes| format!("~{}", output::bytes(bytes))));
    parts.join("  ")
}

fn plain(job: &JobView, figures: &Figures) -> String {
    let p = &job.progress;
    let mut line = format!("{} {}", job.job, job.phase);
    if p.frames_total > 0 && job.service == "function" {
        return format!("{line}  {} %", p.frames * 100 / p.frames_total);
    }
    if p.frames_total > 0 {
        line.push_str(&format!("  frame {}/{}", p.frames, p.frames_total));
    }
    let rates = rates(job, figures);
    if rates.is_empty() { line } else { format!("{line}  {rates}") }
}

fn json_line(job: &JobView, figures: &Figures) -> String {
    let p = &job.progress;
    let out_time_us = p.out_time_us;
    let seconds = out_time_us / 1_000_000;
    let bitrate = figures
        .bits_per_second
        .map_or_else(|| "N/A".to_owned(), |bits| format!("{}.{}kbits/s", bits / 1000, bits % 1000 / 100));
    json!({
        "job": job.job,
        "state": job.state,
        "phase": job.phase,
        "chunks_done": p.chunks_done,
        "chunks_total": p.chunks_total,
        "frame": p.frames,
        "frames_total": p.frames_total,
        "fps": p.fps,
        "bitrate": bitrate,
        "total_size": p.bytes,
        "size_estimate": figures.size_estimate,
        "out_time_us": out_time_us,
        // ffmpeg prints microseconds under this name too.
        "out_time_ms": out_time_us,
        "out_time": format!(
            "{:02}:{:02}:{:02}.{:06}",
            seconds / 3600, seconds / 60 % 60, seconds % 60, out_time_us % 1_000_000
        ),
        // Not counted by chunks.
        "dup_frames": null,
        "drop_frames": null,
        "speed": figures.speed.map_or_else(|| "N/A".to_owned(), |speed| format!("{speed:.3}x")),
        "eta_us": figures.eta.map(|eta| eta.0),
        "progress": if job.state.is_final() { "end" } else { "continue" },
    })
    .to_string()
}

/// Warnings that are printed; a badly damaged film has one for each chunk.
const WARNINGS_SHOWN: usize = 20;

/// What a finished job comes to, a line or more.
pub fn summary(job: &JobView) -> String {
    let took = job.finished.map_or(Span::ZERO, |at| at.since(job.submitted));
    let mut text = match job.state {
        JobState::Done => match output_of(job) {
            Some(film) => {
                let name = film.path.as_deref().unwrap_or(&film.uri);
                let mut parts: Vec<String> = film.frames.iter().map(|frames| format!("{frames} frames")).collect();
                parts.push(output::span(Span(u64::try_from(film.duration_us).unwrap_or(0))));
                parts.push(output::bytes(film.bytes));
                let chunks = film.chunks.len();
                let made = if chunks > 0 { format!(", {chunks} chunk{}", plural(chunks)) } else { String::new() };
                format!("{name}: {} in {}{made}", parts.join(", "), output::span(took))
            }
            None => match title_of(job) {
                Some(title) => format!("{} in {}", title_text(&title), output::span(took)),
                None => format!("{} done in {}", job.job, output::span(took)),
            },
        },
        state => format!("{} {} after {}", job.job, state.name(), output::span(took)),
    };
    if let Some(quality) = output_of(job).and_then(|film| film.quality) {
        let scores = quality.scores.iter().map(|score| {
            let number = |value| spool_media::quality::chart::text(score.metric, value);
            let unit = score.metric.unit();
            let space = if unit.is_empty() { "" } else { " " };
            let (metric, mean, min) = (score.metric, number(score.mean), number(score.min));
            format!("{metric} {mean}{space}{unit} (worst {min}, frame {})", score.min_frame)
        });
        text.push_str(&format!("\nquality: {}", scores.collect::<Vec<_>>().join(", ")));
    }
    if let Some(source) = output_of(job).and_then(|film| film.source) {
        text.push_str(&format!("\n{}", fetched(&source)));
    }
    if let Some(rate) = output_of(job).and_then(|film| film.rate) {
        let (average, target) = (output::rate(rate.average_bps), output::rate(rate.target_bps));
        text.push_str(&format!("\nvideo: {average}, {target} asked for"));
    }
    if let Some(redone @ 1..) = output_of(job).map(|film| film.redone) {
        text.push_str(&format!("\nnote: chunks made again to meet the rate and the buffer: {redone}"));
    }
    if let Some(reason) = output_of(job).and_then(|film| film.unsplit_reason) {
        text.push_str(&format!("\nnote: encoded in one piece: {reason}"));
    }
    for warning in job.warnings.iter().take(WARNINGS_SHOWN) {
        let stream = warning.stream.map(|stream| format!("stream {stream}: ")).unwrap_or_default();
        text.push_str(&format!("\nwarning: {stream}{} ({})", warning.text, warning.code));
    }
    if let more @ 1.. = job.warnings.len().saturating_sub(WARNINGS_SHOWN) {
        text.push_str(&format!(
            "\nwarning: and {more} more, which --json (or spool job get {} -o json) shows",
            job.job
        ));
    }
    if let Some(failure) = &job.failure {
        text.push_str(&format!("\nerror: {}", crate::exit::failure_text(failure)));
    }
    text
}

/// How much of a source in a store was fetched.
fn fetched(source: &SourceFetch) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let times = |bytes: u64| bytes as f64 / source.source_bytes.max(1) as f64;
    let all = format!("{:.2}x of its {}", times(source.fetched_bytes), output::bytes(source.source_bytes));
    match source.chunks_fetched_bytes {
        0 => format!("source: read {all}"),
        chunks => format!("source: chunks read {:.2}x of it, all together {all}", times(chunks)),
    }
}

pub fn output_of(job: &JobView) -> Option<spool_proto::view::EncodeOutput> {
    // What a service made of rules answers may look like it.
    serde_json::from_value(job.output.clone().filter(|_| job.service == "video-encode")?).ok()
}

fn title_of(job: &JobView) -> Option<TitleOutput> {
    serde_json::from_value(job.output.clone().filter(|_| job.service == "title")?).ok()
}

/// What a player is pointed at, then a line a track.
fn title_text(title: &TitleOutput) -> String {
    let mut text = String::new();
    for track in &title.tracks {
        let picture = track.width.zip(track.height).map(|(w, h)| format!(" {w}x{h}")).unwrap_or_default();
        let average = output::rate(track.average_bps);
        text.push_str(&format!("{}: {}{picture}, {average}, {} segments\n", track.folder, track.codec, track.segments));
    }
    let name = title.path.as_deref().unwrap_or(&title.uri);
    let entries: Vec<&str> = title.packages.iter().map(|package| package.kind.entry()).collect();
    let length = output::span(Span(title.duration_us));
    text.push_str(&format!("{name} ({}): {length}, {}", entries.join(", "), output::bytes(title.bytes)));
    text
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use spool_proto::ids::JobId;
    use spool_proto::view::PhaseView;

    use super::*;
    use spool_proto::view::Progress as Done;

    /// Half of a 60 s film in 10 s.
    fn halfway() -> JobView {
        JobView {
            labels: [].into(),
            notify: None,
            part_of: None,
            job: JobId(7),
            name: "film".into(),
            service: "video-encode".into(),
            state: JobState::Running,
            phase: "encoding".into(),
            priority: 50,
            pool: spool_proto::pool::PoolName::default(),
            class: spool_proto::pool::Class::Standard,
            deadline: None,
            submitted: Timestamp(0),
            started: Some(Timestamp(0)),
            finished: None,
            phases: vec![PhaseView {
                name: "encoding".into(),
                started: Timestamp(1_000_000),
                finished: None,
                tasks: 6,
                done: 3,
                running: 2,
            }],
            progress: Done {
                chunks_done: 3,
                chunks_total: 6,
                frames: 720,
                frames_total: 1440,
                bytes: 3_000_000,
                fps: 72.0,
                out_time_us: 30_000_000,
                out_time_total_us: 60_000_000,
            },
            warnings: Vec::new(),
            failure: None,
            output: None,
            spec: serde_json::Value::Null,
            tasks: Vec::new(),
        }
    }

    #[test]
    fn the_rest_is_estimated_from_what_is_done() {
        let job = halfway();
        let figures = figures(&job, Timestamp(11_000_000));
        assert_eq!(figures.speed, Some(3.0));
        assert_eq!(figures.eta, Some(Span(10_000_000)));
        assert_eq!(figures.size_estimate, Some(6_000_000));
        assert_eq!(
            plain(&job, &figures),
            "j7 encoding  frame 720/1440  chunks 3/6  72.0 fps  3.00x  ETA 10.0s  ~6.0 MB"
        );
    }

    #[test]
    fn json_lines_carry_the_names_of_ffmpeg() {
        let line = json_line(&halfway(), &figures(&halfway(), Timestamp(11_000_000)));
        let value: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(value["frame"], 720);
        assert_eq!(value["bitrate"], "800.0kbits/s");
        assert_eq!(value["out_time"], "00:00:30.000000");
        assert_eq!(value["speed"], "3.000x");
        assert_eq!(value["progress"], "continue");
        assert_eq!(value["total_size"], 3_000_000);
    }

    #[test]
    fn nothing_is_estimated_from_nothing() {
        let job = JobView { progress: Done::default(), phases: Vec::new(), ..halfway() };
        let none = Figures { speed: None, eta: None, size_estimate: None, bits_per_second: None };
        assert_eq!(figures(&job, Timestamp(5)), none);
        assert_eq!(plain(&job, &none), "j7 encoding");
    }
}
