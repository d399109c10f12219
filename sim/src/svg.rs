//! A run as a picture: who uses the fleet, who has what it is guaranteed, who waits; over time.

mod panel;

use crate::num::{count, float};
use crate::report::{Chart, Report, Series};
use panel::{Line, Panel, escape};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 64.0;
/// Of a panel, and from one to the next.
const HEIGHT: f64 = 210.0;
const STEP: f64 = 270.0;
/// Pools beyond these are drawn as one.
const POOLS_MOST: usize = 8;

/// Distinct also for most who do not see all colours (Okabe and Ito).
const COLOURS: [&str; 9] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7f5fc4", "#999999"];

/// One SVG document.
pub fn draw(report: &Report) -> String {
    let chart = &report.chart;
    let pools = pick(chart);
    let unit = if chart.resource == "cpu" { ("cores", 1000.0) } else { (chart.resource.as_str(), 1.0) };
    let scaled = |values: &[u64]| values.iter().map(|value| float(*value) / unit.1).collect::<Vec<f64>>();
    let plot = WIDTH - LEFT - RIGHT;
    let panel = |number: f64, title: String| Panel {
        left: LEFT,
        top: TOP + number * STEP,
        width: plot,
        height: HEIGHT,
        title,
        end_s: report.simulated_s,
    };
    let height = TOP + 3.0 * STEP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{}</text>\n",
        escape(&format!("{} (seed {}, {} workers)", report.title, report.seed, report.workers))
    );
    let colour = |n: usize| COLOURS[n.min(COLOURS.len() - 1)];

    let bands: Vec<Line> = (pools.iter().enumerate())
        .map(|(n, pool)| Line { colour: colour(n), values: scaled(&pool.running), dashed: false })
        .collect();
    let capacity = Line { colour: "#222", values: scaled(&chart.capacity), dashed: false };
    panel(0.0, format!("In use by pool, stacked, {}; black: the fleet", unit.0)).stacked(&mut svg, &bands, &capacity);

    let guarantees = pools.iter().enumerate().filter(|(_, pool)| pool.guarantee.iter().any(|amount| *amount > 0));
    let lines: Vec<Line> = (guarantees.map(|(n, pool)| (colour(n), &pool.guarantee, true)))
        .chain(pools.iter().enumerate().map(|(n, pool)| (colour(n), &pool.running, false)))
        .map(|(colour, values, dashed)| Line { colour, values: scaled(values), dashed })
        .collect();
    panel(1.0, format!("Each pool's use, and dashed what it is guaranteed, {}", unit.0)).lines(&mut svg, &lines);

    let waiting = |(n, pool): (usize, &Series)| {
        let values = pool.queued.iter().map(|n| float(*n)).collect();
        Line { colour: colour(n), values, dashed: false }
    };
    let lines: Vec<Line> = pools.iter().enumerate().map(waiting).collect();
    panel(2.0, "Tasks that wait for a worker".into()).lines(&mut svg, &lines);

    for (n, pool) in pools.iter().enumerate() {
        let y = TOP + 10.0 + 20.0 * float(count(n));
        let x = WIDTH - RIGHT + 18.0;
        let name = escape(&pool.pool.0);
        svg.push_str(&format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n",
            y - 10.0,
            colour(n)
        ));
        svg.push_str(&format!("<text x=\"{}\" y=\"{y}\">{name}</text>\n", x + 18.0));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Leaves that ever had or wanted anything, the greatest first, the rest of them as one; then by name.
fn pick(chart: &Chart) -> Vec<Series> {
    let weight = |series: &Series| series.running.iter().sum::<u64>();
    let lives = |series: &&Series| series.leaf && (weight(series) > 0 || series.queued.iter().any(|n| *n > 0));
    let mut pools: Vec<Series> = chart.series.iter().filter(lives).cloned().collect();
    pools.sort_by_key(|series| std::cmp::Reverse(weight(series)));
    let rest = pools.split_off(pools.len().min(POOLS_MOST));
    pools.sort_by(|a, b| a.pool.cmp(&b.pool));
    if let Some(first) = rest.first() {
        let name = format!("{} others", rest.len());
        let mut sum = Series { pool: name.as_str().into(), ..first.clone() };
        for series in &rest[1..] {
            let columns = [
                (&mut sum.running, &series.running),
                (&mut sum.guarantee, &series.guarantee),
                (&mut sum.queued, &series.queued),
            ];
            for (sum, add) in columns {
                sum.iter_mut().zip(add).for_each(|(sum, add)| *sum += add);
            }
        }
        pools.push(sum);
    }
    pools
}
