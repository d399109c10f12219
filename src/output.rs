//! Printing: tables for people, JSON, YAML and names for programs.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use spool_proto::pool::Class;
use spool_proto::time::{Span, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
    /// Names alone, a line each.
    Name,
}

/// How a list or a thing is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Style {
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// Leave the tables' first line out
    #[arg(long)]
    pub no_headers: bool,
}

impl Style {
    /// `value` for programs, `names` alone, or the `table` for people; it is told whether it may be wide.
    pub fn render<T: Serialize + ?Sized>(
        self,
        value: &T,
        names: impl FnOnce() -> Vec<String>,
        table: impl FnOnce(bool) -> String,
    ) -> anyhow::Result<String> {
        match self.output {
            Format::Json => json(value),
            Format::Yaml => yaml(value),
            Format::Name => Ok(names().into_iter().map(|name| name + "\n").collect()),
            Format::Table => Ok(table(false)),
            Format::Wide => Ok(table(true)),
        }
    }

    pub fn table(self, head: &[&str], rows: &[Vec<String>]) -> String {
        table(head, rows, !self.no_headers)
    }
}

/// Draws once, or every second until the user has seen enough.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Redraw {
    /// Draw again every second
    #[arg(long)]
    pub watch: bool,
}

impl Redraw {
    /// # Errors
    /// What `draw` fails with.
    pub async fn show(self, mut draw: impl AsyncFnMut() -> anyhow::Result<String>) -> anyhow::Result<()> {
        loop {
            let text = draw().await?;
            // Home, and clear what is below: only where somebody looks.
            let clear = if self.watch && io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
            if !write_out(&format!("{clear}{text}"))? || !self.watch {
                return Ok(());
            }
            tokio::time::sleep(REDRAW).await;
        }
    }
}

const REDRAW: Duration = Duration::from_secs(1);

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    write_out(text).map(drop)
}

/// False: the reader went away.
fn write_out(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}

pub fn print_json(value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    print(&json(value)?)
}

fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

pub fn yaml<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&value)?)
}

/// Columns as wide as their widest cell, two spaces between.
pub fn table(head: &[&str], rows: &[Vec<String>], headers: bool) -> String {
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let head = if headers { head[column].chars().count() } else { 0 };
        cells.max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..head.len()).map(width_of).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for row in headers.then_some(&head).into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `340ms`, `12.4s`, `3m07s`, `2h05m`.
pub fn span(span: Span) -> String {
    let seconds = span.0 / 1_000_000;
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long ago.
pub fn ago(then: Timestamp) -> String {
    span(Timestamp::now().since(then))
}

/// `a,b`; nothing is `-`.
pub fn list(parts: impl IntoIterator<Item = String>) -> String {
    let text = parts.into_iter().collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".into() } else { text }
}

/// `cpu=64,memory=256Gi`, in the units people type.
pub fn amounts<'a>(amounts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    list(amounts.into_iter().map(|(name, amount)| format!("{name}={}", crate::quantity::amount_text(name, amount))))
}

/// `standard`, `until 2026-05-01 12:00:00`.
pub fn class(class: Class) -> String {
    match class {
        Class::Standard => "standard".into(),
        Class::Opportunistic { start_by } => format!("until {}", time(start_by)),
    }
}

/// `1.4 MB`, in powers of 1000 as ffmpeg's users count.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut divisor = 1u64;
    while count / divisor >= 1000 && unit + 1 < UNITS.len() {
        divisor *= 1000;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    let tenths = count / (divisor / 10);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Bits a second: `5.2 Mb/s`.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub fn rate(bps: u64) -> String {
    match bps {
        0..1_000_000 => format!("{:.0} kb/s", bps as f64 / 1e3),
        _ => format!("{:.1} Mb/s", bps as f64 / 1e6),
    }
}

/// `2026-05-01 12:00:00` in UTC.
pub fn time(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{} µs", at.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_449_999, "1.4 MB"), (u64::MAX, "18446744.0 TB")]
        {
            assert_eq!(bytes(count), text);
        }
        for (us, text) in
            [(0, "0ms"), (340_000, "340ms"), (12_400_000, "12.4s"), (187_000_000, "3m07s"), (7_500_000_000, "2h05m")]
        {
            assert_eq!(span(Span(us)), text);
        }
        assert_eq!(time(Timestamp(0)), "1970-01-01 00:00:00");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["j1".into(), "ü.mov".into()], vec!["j100".into(), String::new()]];
        assert_eq!(table(&["JOB", "NAME"], &rows, true), "JOB   NAME\nj1    ü.mov\nj100\n");
        assert_eq!(table(&["JOB", "NAME"], &rows[..1], false), "j1  ü.mov\n");
    }
}
