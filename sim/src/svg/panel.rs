//! One panel of a chart: axes, grid, and lines or bands over time.

use crate::num::{count, float};

pub(super) struct Panel {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub title: String,
    /// Of the time axis, which begins at 0.
    pub end_s: f64,
}

pub(super) struct Line {
    pub colour: &'static str,
    /// At even intervals, from the start.
    pub values: Vec<f64>,
    pub dashed: bool,
}

impl Panel {
    /// Bands on top of each other, below a line.
    pub fn stacked(&self, svg: &mut String, bands: &[Line], above: &Line) {
        let points = above.values.len();
        let sums = |upto: usize, at: usize| bands[..upto].iter().map(|band| value(band, at)).sum::<f64>();
        let most = (0..points).map(|at| sums(bands.len(), at).max(value(above, at))).fold(0.0, f64::max);
        let most = self.axes(svg, most);
        for (number, band) in bands.iter().enumerate() {
            let upper = (0..points).map(|at| self.point(at, points, sums(number + 1, at), most));
            let lower = (0..points).rev().map(|at| self.point(at, points, sums(number, at), most));
            let path: Vec<String> = upper.chain(lower).collect();
            svg.push_str(&format!(
                "<polygon points=\"{}\" fill=\"{}\" fill-opacity=\"0.85\"/>\n",
                path.join(" "),
                band.colour
            ));
        }
        self.line(svg, above, most);
    }

    pub fn lines(&self, svg: &mut String, lines: &[Line]) {
        let most = lines.iter().flat_map(|line| &line.values).copied().fold(0.0, f64::max);
        let most = self.axes(svg, most);
        lines.iter().for_each(|line| self.line(svg, line, most));
    }

    fn line(&self, svg: &mut String, line: &Line, most: f64) {
        let points = line.values.len();
        let path: Vec<String> = (0..points).map(|at| self.point(at, points, value(line, at), most)).collect();
        let dash = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"{dash}/>\n",
            path.join(" "),
            line.colour
        ));
    }

    fn point(&self, at: usize, points: usize, value: f64, most: f64) -> String {
        let along = float(count(at)) / float(count(points.saturating_sub(1)).max(1));
        format!("{:.1},{:.1}", self.left + along * self.width, self.y(value, most))
    }

    fn y(&self, value: f64, most: f64) -> f64 {
        self.top + self.height * (1.0 - value / most)
    }

    /// Title, frame and grid. Gives the top of the scale.
    fn axes(&self, svg: &mut String, most: f64) -> f64 {
        let Panel { left, top, width, height, .. } = *self;
        svg.push_str(&format!(
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>\n",
            top - 10.0,
            escape(&self.title)
        ));
        let step = round_step(most / 5.0);
        let steps = (most / step).ceil().max(1.0);
        let most = steps * step;
        let mut at = 0.0;
        while at <= steps {
            let y = self.y(at * step, most);
            svg.push_str(&format!(
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n",
                left + width
            ));
            let text = number(at * step);
            svg.push_str(&format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                left - 8.0,
                y + 4.0
            ));
            at += 1.0;
        }
        let (step, unit, name) = time_step(self.end_s);
        let mut at = 0.0;
        while at <= self.end_s {
            let x = left + width * at / self.end_s;
            let bottom = top + height;
            svg.push_str(&format!(
                "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#888\"/>\n",
                bottom + 4.0
            ));
            let text = format!("{} {name}", number(at / unit));
            svg.push_str(&format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>\n", bottom + 18.0));
            at += step;
        }
        svg.push_str(&format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#888\"/>\n"
        ));
        most
    }
}

fn value(line: &Line, at: usize) -> f64 {
    line.values.get(at).copied().unwrap_or(0.0)
}

/// The next of 1, 2, 5, 10, 20, …
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(0.2).log10().floor());
    let of = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least.max(0.2)).unwrap_or(10.0);
    of * power
}

/// Step, unit in seconds, and its name.
fn time_step(end_s: f64) -> (f64, f64, &'static str) {
    let steps = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
    let step = steps.into_iter().find(|step| end_s / step <= 10.0).unwrap_or(864_000.0);
    match step {
        ..60.0 => (step, 1.0, "s"),
        ..3600.0 => (step, 60.0, "min"),
        _ => (step, 3600.0, "h"),
    }
}

fn number(x: f64) -> String {
    match x {
        1_000_000.0.. => format!("{}M", x / 1e6),
        10_000.0.. => format!("{}k", x / 1e3),
        _ => format!("{}", (x * 100.0).round() / 100.0),
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round() {
        for (least, step) in [(0.0, 0.2), (0.9, 1.0), (1.1, 2.0), (13.0, 20.0), (30.0, 50.0), (800.0, 1000.0)] {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}: {}", round_step(least));
        }
        assert_eq!(time_step(3600.0), (600.0, 60.0, "min"));
        assert_eq!(time_step(86_400.0), (14_400.0, 3600.0, "h"));
        assert_eq!(["12k", "1.5M", "0.2"], [12_000.0, 1.5e6, 0.2].map(number));
    }
}
