//! A run as a picture: who uses the fleet, who has what it is guaranteed, who waits; over time.

use spool_chart::{Axis, Document, Line, Panel, colour};

use crate::num::{count, float};
use crate::report::{Chart, Report, Series};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 64.0;
/// Of a panel, and from one to the next.
const HEIGHT: f64 = 210.0;
const STEP: f64 = 270.0;
/// Pools beyond these are drawn as one.
const POOLS_MOST: usize = 8;

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
    let title = format!("{} (seed {}, {} workers)", report.title, report.seed, report.workers);
    let mut svg = Document::new(WIDTH, TOP + 3.0 * STEP, LEFT, &title);
    let line = |colour, values: Vec<f64>| Line::even(colour, values, report.simulated_s);

    let bands: Vec<Line> =
        pools.iter().enumerate().map(|(n, pool)| line(Some(colour(n)), scaled(&pool.running))).collect();
    let capacity = line(None, scaled(&chart.capacity));
    panel(0.0, format!("In use by pool, stacked, {}; above: the fleet", unit.0)).stacked(&mut svg, &bands, &capacity);

    let guarantees = pools.iter().enumerate().filter(|(_, pool)| pool.guarantee.iter().any(|amount| *amount > 0));
    let lines: Vec<Line> = (guarantees.map(|(n, pool)| line(Some(colour(n)), scaled(&pool.guarantee)).dashed()))
        .chain(pools.iter().enumerate().map(|(n, pool)| line(Some(colour(n)), scaled(&pool.running))))
        .collect();
    panel(1.0, format!("Each pool's use, and dashed what it is guaranteed, {}", unit.0)).lines(
        &mut svg,
        Axis::FromZero,
        &lines,
        &[],
    );

    let waiting = |(n, pool): (usize, &Series)| line(Some(colour(n)), pool.queued.iter().map(|n| float(*n)).collect());
    let lines: Vec<Line> = pools.iter().enumerate().map(waiting).collect();
    panel(2.0, "Tasks that wait for a worker".into()).lines(&mut svg, Axis::FromZero, &lines, &[]);

    for (n, pool) in pools.iter().enumerate() {
        svg.key(WIDTH - RIGHT + 18.0, TOP + 10.0 + 20.0 * float(count(n)), colour(n), &pool.pool.0);
    }
    svg.finish()
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
