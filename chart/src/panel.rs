//! One panel of a chart: axes, grid, and lines or bands over time.

use crate::scale::{number, round_step, time_step};
use crate::{Document, escape};

/// Where a panel stands and how far its time axis goes. Pixels and seconds.
#[derive(Debug, Clone)]
pub struct Panel {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    /// What is shown, with its unit.
    pub title: String,
    /// Of the time axis, which begins at 0.
    pub end_s: f64,
}

/// What the upright axis spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Axis {
    /// From nothing to the greatest value: for amounts.
    FromZero,
    /// From below the least to above the greatest value, no further than the bounds: for scores, whose differences count.
    Around { floor: f64, ceiling: f64 },
}

#[derive(Debug, Clone)]
pub struct Line {
    /// `None`: the colour of ink.
    pub colour: Option<&'static str>,
    /// Seconds and value, in order of time. Values that are not finite are gaps.
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
}

/// A line across the panel at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    pub at_s: f64,
}

/// The span of values shown.
#[derive(Debug, Clone, Copy)]
struct Span {
    low: f64,
    high: f64,
    step: f64,
}

impl Line {
    /// Values at even intervals from 0 to `end_s`.
    pub fn even(colour: Option<&'static str>, values: impl IntoIterator<Item = f64>, end_s: f64) -> Line {
        let values: Vec<f64> = values.into_iter().collect();
        let last = f64::from(u32::try_from(values.len().saturating_sub(1)).unwrap_or(u32::MAX)).max(1.0);
        let points = (0u32..).zip(values).map(|(at, value)| (end_s * f64::from(at) / last, value)).collect();
        Line { colour, points, dashed: false }
    }

    #[must_use]
    pub fn dashed(self) -> Line {
        Line { dashed: true, ..self }
    }

    /// As many points as `columns` can show: of each column its least and its greatest, in their order, so that no dip is lost.
    #[must_use]
    pub fn thinned(self, columns: u32, end_s: f64) -> Line {
        let most = usize::try_from(columns).unwrap_or(usize::MAX).saturating_mul(2);
        if self.points.len() <= most {
            return self;
        }
        let column = |s: f64| (s / end_s.max(f64::MIN_POSITIVE) * f64::from(columns)).floor();
        let mut points: Vec<(f64, f64)> = Vec::new();
        for run in self.points.chunk_by(|a, b| column(a.0) == column(b.0)) {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (Some(&least), Some(&greatest)) = (run.iter().min_by(by_value), run.iter().max_by(by_value)) else {
                continue;
            };
            let (first, second) = if least.0 <= greatest.0 { (least, greatest) } else { (greatest, least) };
            points.push(first);
            if second != first {
                points.push(second);
            }
        }
        Line { points, ..self }
    }
}

impl Panel {
    /// Bands on top of each other, below a line. All have a value at the same moments.
    pub fn stacked(&self, to: &mut Document, bands: &[Line], above: &Line) {
        let value = |line: &Line, at: usize| line.points.get(at).map_or(0.0, |point| point.1);
        let sum = |upto: usize, at: usize| bands[..upto].iter().map(|band| value(band, at)).sum::<f64>();
        let points = above.points.len();
        let most = (0..points).map(|at| sum(bands.len(), at).max(value(above, at))).fold(0.0, f64::max);
        let span = self.axes(to, Axis::FromZero.span(0.0, most));
        let point = |at: usize, value: f64| self.point((above.points[at].0, value), span);
        for (number, band) in bands.iter().enumerate() {
            let upper = (0..points).map(|at| point(at, sum(number + 1, at)));
            let lower = (0..points).rev().map(|at| point(at, sum(number, at)));
            let path: Vec<String> = upper.chain(lower).collect();
            let colour = band.colour.map_or("class=\"ink\"".to_owned(), |colour| format!("fill=\"{colour}\""));
            to.push(&format!("<polygon points=\"{}\" {colour} fill-opacity=\"0.85\"/>", path.join(" ")));
        }
        self.line(to, above, span);
    }

    /// Lines over each other, behind them marks.
    pub fn lines(&self, to: &mut Document, axis: Axis, lines: &[Line], marks: &[Mark]) {
        let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1).filter(|v| v.is_finite());
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(0.0, f64::max);
        let span = self.axes(to, axis.span(if least.is_finite() { least } else { 0.0 }, most));
        let bottom = self.top + self.height;
        for mark in marks {
            let x = self.x(mark.at_s);
            to.push(&format!(
                "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\" class=\"mark\" stroke-dasharray=\"2 3\"/>",
                self.top
            ));
        }
        for line in lines {
            self.line(to, line, span);
        }
    }

    fn line(&self, to: &mut Document, line: &Line, span: Span) {
        let dash = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let colour = line.colour.map_or("class=\"drawn\"".to_owned(), |colour| format!("stroke=\"{colour}\""));
        for run in line.points.split(|point| !point.1.is_finite()).filter(|run| !run.is_empty()) {
            let path: Vec<String> = run.iter().map(|point| self.point(*point, span)).collect();
            to.push(&format!(
                "<polyline points=\"{}\" fill=\"none\" {colour} stroke-width=\"1.6\"{dash}/>",
                path.join(" ")
            ));
        }
    }

    fn x(&self, at_s: f64) -> f64 {
        self.left + self.width * (at_s / self.end_s.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64, span: Span) -> f64 {
        self.top + self.height * (1.0 - (value - span.low) / (span.high - span.low))
    }

    fn point(&self, (at_s, value): (f64, f64), span: Span) -> String {
        format!("{:.1},{:.1}", self.x(at_s), self.y(value, span))
    }

    /// Title, frame and grid.
    fn axes(&self, to: &mut Document, span: Span) -> Span {
        let Panel { left, top, width, height, .. } = *self;
        let title = escape(&self.title);
        to.push(&format!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top - 10.0));
        let steps = ((span.high - span.low) / span.step).round();
        let mut at = 0.0;
        while at <= steps {
            let value = span.low + at * span.step;
            let y = self.y(value, span);
            let right = left + width;
            to.push(&format!("<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" class=\"grid\"/>"));
            let text = number(value, span.step);
            to.push(&format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", left - 8.0, y + 4.0));
            at += 1.0;
        }
        let (step, unit, name) = time_step(self.end_s);
        let bottom = top + height;
        let mut at = 0.0;
        while at * step <= self.end_s * 1.000_001 {
            let x = self.x(at * step);
            to.push(&format!(
                "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" class=\"frame\"/>",
                bottom + 4.0
            ));
            let text = format!("{} {name}", number(at * step / unit, step / unit));
            to.push(&format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0));
            at += 1.0;
        }
        to.push(&format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" class=\"frame\"/>"
        ));
        span
    }
}

impl Axis {
    /// About five round steps from the least to the greatest value.
    fn span(self, least: f64, most: f64) -> Span {
        let (low, high) = match self {
            Axis::FromZero => (0.0, most.max(1.0)),
            Axis::Around { floor, ceiling } => (least.max(floor), most.min(ceiling)),
        };
        let step = round_step(((high - low) / 5.0).max(1e-4));
        let (mut low, mut high) = ((low / step + 1e-6).floor() * step, (high / step - 1e-6).ceil() * step);
        if let Axis::Around { floor, ceiling } = self {
            (low, high) = (low.max(floor), high.min(ceiling));
        }
        Span { low, high: high.max(low + step), step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(end_s: f64) -> Panel {
        Panel { left: 50.0, top: 60.0, width: 100.0, height: 50.0, title: "SSIM".into(), end_s }
    }

    #[test]
    fn scores_near_one_fill_the_panel() {
        let span = Axis::Around { floor: 0.0, ceiling: 1.0 }.span(0.981, 0.9987);
        assert!((span.low - 0.98).abs() < 1e-9 && (span.high - 1.0).abs() < 1e-9, "{span:?}");
        let flat = Axis::Around { floor: 0.0, ceiling: 1.0 }.span(1.0, 1.0);
        assert!(flat.high > flat.low, "{flat:?}");
        let amounts = Axis::FromZero.span(3.0, 13.0);
        assert_eq!((amounts.low, amounts.high, amounts.step), (0.0, 15.0, 5.0));
    }

    #[test]
    fn thinning_keeps_every_dip() {
        let points: Vec<(f64, f64)> =
            (0..100_000u32).map(|n| (f64::from(n), if n == 54_321 { 0.1 } else { 0.9 })).collect();
        let line = Line { colour: None, points, dashed: false }.thinned(500, 100_000.0);
        assert!(line.points.len() <= 1_001, "{}", line.points.len());
        assert!(line.points.contains(&(54_321.0, 0.1)));
        assert!(line.points.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn gaps_are_not_drawn() {
        let mut document = Document::new(200.0, 150.0, 50.0, "a < b");
        let points = vec![(0.0, 0.5), (0.5, f64::INFINITY), (1.0, 0.75), (1.5, 1.0)];
        panel(2.0).lines(
            &mut document,
            Axis::Around { floor: 0.0, ceiling: 1.0 },
            &[Line { colour: Some("#0072b2"), points, dashed: false }],
            &[Mark { at_s: 1.0 }],
        );
        let text = document.finish();
        assert_eq!(text.matches("<polyline").count(), 2);
        assert!(text.contains("points=\"100.0,85.0 125.0,60.0\""), "{text}");
        assert!(text.contains("x1=\"100.0\" y1=\"60\" x2=\"100.0\" y2=\"110\" class=\"mark\""), "{text}");
        assert!(text.contains("a &lt; b") && !text.contains("inf") && !text.contains("NaN"), "{text}");
    }
}
