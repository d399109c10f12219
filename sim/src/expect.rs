//! What a scenario demands of its run: `METRIC_max = N` and `METRIC_min = N` of the whole, `POOL.METRIC_max = N` of one pool. Metrics are
//! named as in the JSON; `total` ones stand alone, resources as `utilisation.cpu`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::report::{Missed, Report};

/// In order of name.
pub(crate) fn missed(expected: &BTreeMap<String, f64>, report: &Report) -> Vec<Missed> {
    let judge = |(what, bound): (&String, &f64)| {
        let (metric, most) = match (what.strip_suffix("_max"), what.strip_suffix("_min")) {
            (Some(metric), _) => (metric, true),
            (_, Some(metric)) => (metric, false),
            _ => (what.as_str(), true),
        };
        let got = find(metric, report);
        let met = got.is_some_and(|got| if most { got <= *bound } else { got >= *bound });
        (!met).then(|| Missed { what: what.clone(), expected: *bound, got })
    };
    expected.iter().filter_map(judge).collect()
}

fn find(metric: &str, report: &Report) -> Option<f64> {
    if let Some(resource) = metric.strip_prefix("utilisation.") {
        return report.total.utilisation.get(resource).copied();
    }
    let number = |value: serde_json::Result<Value>, name: &str| value.ok()?.get(name)?.as_f64();
    match metric.rsplit_once('.') {
        Some((pool, name)) => {
            let of = report.pools.iter().find(|of| *of.pool.0 == *pool)?;
            // A pool that never had to wait for what it is owed met every bound.
            let never = name.starts_with("restored_") || name.starts_with("room_");
            number(serde_json::to_value(of), name).or(never.then_some(0.0))
        }
        None => {
            let never = metric.starts_with("restored_");
            number(serde_json::to_value(&report.total), metric).or(never.then_some(0.0))
        }
    }
}
