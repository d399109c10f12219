//! How far an encode is, told as ffmpeg 5.1 tells it: a line on stderr that is written over, and blocks of `key=value` for `-progress`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use spool_proto::view::{JobState, JobView};

use super::line::{ERROR, INFO, Terminal, WARNING};
use crate::progress::{Figures, output_of};

/// Where a job's progress goes.
#[derive(Debug)]
pub struct Status {
    terminal: Terminal,
    /// As the user named it.
    output: String,
    has_video: bool,
    blocks: Option<File>,
    shown: Option<Instant>,
    seen: Numbers,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Numbers {
    frames: u64,
    fps: f64,
    bytes: u64,
    time_us: u64,
    speed: Option<f64>,
}

impl Status {
    /// Opens what `-progress` names.
    ///
    /// # Errors
    /// ffmpeg's text for one that cannot be opened.
    pub fn open(terminal: Terminal, output: String, has_video: bool) -> Result<Status, String> {
        let failed =
            |url: &str, error: &io::Error| format!("Failed to open progress URL \"{url}\": {}", super::reason(error));
        let open = |url: &String| {
            let file = match &**url {
                "-" | "pipe:1" => io::stdout().as_fd().try_clone_to_owned().map(File::from),
                "pipe:2" => io::stderr().as_fd().try_clone_to_owned().map(File::from),
                url => match url.strip_prefix("pipe:") {
                    Some(number) => File::options().write(true).open(format!("/dev/fd/{number}")),
                    None => File::create(url),
                },
            };
            file.map_err(|error| failed(url, &error))
        };
        let blocks = terminal.progress.as_ref().map(open).transpose()?;
        Ok(Status { terminal, output, has_video, blocks, shown: None, seen: Numbers::default(), ended: false })
    }

    /// Tells a state of the job, when the last one is old enough.
    pub fn show(&mut self, job: &JobView, figures: &Figures) {
        let done = &job.progress;
        self.seen = Numbers {
            frames: done.frames,
            fps: done.fps,
            bytes: done.bytes,
            time_us: done.out_time_us,
            speed: figures.speed,
        };
        if job.state.is_final() || done.out_time_us == 0 {
            return;
        }
        if self.shown.is_none_or(|at| at.elapsed() >= self.terminal.every) {
            self.shown = Some(Instant::now());
            self.report(false);
        }
    }

    /// A word to the user, where ffmpeg would have one.
    pub fn say(&self, text: &str) {
        self.log(INFO, &format!("[spool] {text}"));
    }

    /// The last report, and what a final job comes to.
    pub fn tell_end(&mut self, job: &JobView) {
        let output = output_of(job);
        if let Some(film) = &output {
            self.seen.frames = film.frames.unwrap_or(self.seen.frames);
            self.seen.bytes = film.bytes;
            self.seen.time_us = u64::try_from(film.duration_us).unwrap_or(0);
        }
        self.report(true);
        if let Some(reason) = output.and_then(|film| film.unsplit_reason) {
            self.say(&format!("encoded in one piece: {reason}"));
        }
        for warning in &job.warnings {
            let stream = warning.stream.map(|stream| format!("stream {stream}: ")).unwrap_or_default();
            self.log(WARNING, &format!("[spool] {stream}{} ({})", warning.text, warning.code));
        }
        if job.state != JobState::Done {
            let why = job.failure.as_ref().map_or_else(|| job.state.name().to_owned(), crate::exit::failure_text);
            self.log(ERROR, &format!("{}: {why}", self.output));
            self.log(ERROR, "Conversion failed!");
        }
    }

    fn log(&self, level: i32, text: &str) {
        super::log(&self.terminal, level, text);
    }

    fn report(&mut self, last: bool) {
        self.ended |= last;
        let Terminal { stats, level, .. } = self.terminal;
        // What ffmpeg logs at INFO; -stats shows it at any level, -nostats all but the last.
        if (level >= INFO || stats == Some(true)) && (last || stats != Some(false)) {
            let end = if last { '\n' } else { '\r' };
            let _ = write!(io::stderr(), "{}    {end}", self.seen.line(self.has_video, last));
        }
        if let Some(blocks) = &mut self.blocks {
            // Who reads it may have gone; the film matters more.
            let _ = blocks.write_all(self.seen.block(self.has_video, last).as_bytes());
        }
    }
}

/// Readers of `-progress` wait for its end, however the run ends.
impl Drop for Status {
    fn drop(&mut self) {
        if !self.ended {
            self.report(true);
        }
    }
}

impl Numbers {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn bitrate(&self) -> String {
        match self.time_us {
            0 => "N/A".into(),
            us => format!("{:6.1}kbits/s", self.bytes as f64 * 8.0 / (us as f64 / 1000.0)),
        }
    }

    fn clock(&self) -> String {
        let seconds = self.time_us / 1_000_000;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn speed(&self) -> String {
        self.speed.map_or_else(|| "N/A".to_owned(), |speed| format!("{:>4}x", three_digits(speed)))
    }

    fn line(&self, has_video: bool, last: bool) -> String {
        let decimals = usize::from(self.fps < 9.95);
        let video = format!("frame={:5} fps={:3.decimals$} q=-0.0 ", self.frames, self.fps);
        format!(
            "{}{}size={:8}kB time={}.{:02} bitrate={} speed={}",
            if has_video { &*video } else { "" },
            if last { "L" } else { "" },
            (self.bytes + 512) / 1024,
            self.clock(),
            self.time_us / 10_000 % 100,
            self.bitrate(),
            self.speed()
        )
    }

    fn block(&self, has_video: bool, last: bool) -> String {
        let video = format!("frame={}\nfps={:.2}\nstream_0_0_q=-0.0\n", self.frames, self.fps);
        let us = self.time_us;
        format!(
            "{}bitrate={}\ntotal_size={}\nout_time_us={us}\nout_time_ms={us}\nout_time={}.{:06}\ndup_frames=0\ndrop_frames=0\nspeed={}\nprogress={}\n",
            if has_video { &*video } else { "" },
            self.bitrate(),
            self.bytes,
            self.clock(),
            us % 1_000_000,
            self.speed(),
            if last { "end" } else { "continue" }
        )
    }
}

/// C's `%.3g`.
fn three_digits(value: f64) -> String {
    let scientific = format!("{value:.2e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if !(-4..3).contains(&power) {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), power.abs());
    }
    let decimals = usize::try_from(2 - power).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_blocks_look_as_ffmpeg_writes_them() {
        let numbers = Numbers { frames: 120, fps: 30.0, bytes: 1_048_576, time_us: 5_000_000, speed: Some(1.25) };
        assert_eq!(
            numbers.line(true, false),
            "frame=  120 fps= 30 q=-0.0 size=    1024kB time=00:00:05.00 bitrate=1677.7kbits/s speed=1.25x"
        );
        let short = Numbers { bytes: 180_438, time_us: 2_020_136, fps: 9.5, speed: Some(11.0), ..numbers };
        assert_eq!(short.line(false, true), "Lsize=     176kB time=00:00:02.02 bitrate= 714.6kbits/s speed=  11x");
        assert_eq!(
            short.block(true, true),
            "frame=120\nfps=9.50\nstream_0_0_q=-0.0\nbitrate= 714.6kbits/s\ntotal_size=180438\nout_time_us=2020136\n\
             out_time_ms=2020136\nout_time=00:00:02.020136\ndup_frames=0\ndrop_frames=0\nspeed=  11x\nprogress=end\n"
        );
        assert!(Numbers::default().line(true, false).ends_with("bitrate=N/A speed=N/A"));
    }

    #[test]
    fn speeds_have_three_digits_as_in_c() {
        for (value, text) in
            [(1.0, "1"), (0.5, "0.5"), (1.256, "1.26"), (12.54, "12.5"), (123.4, "123"), (1234.0, "1.23e+03")]
        {
            assert_eq!(three_digits(value), text);
        }
    }
}
