//! Round numbers for axes, and numbers as axes show them.

/// The next of 1, 2, 5, 10, 20, … that is no less.
pub fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    // A hair below, for steps that are round but for their last bit.
    let of = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.999_999);
    of.unwrap_or(10.0) * power
}

/// Step, unit in seconds, and its name.
pub fn time_step(end_s: f64) -> (f64, f64, &'static str) {
    let steps = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
    let step = steps.into_iter().find(|step| end_s / step <= 10.0).unwrap_or(864_000.0);
    match step {
        _ if end_s < 2.0 => (round_step((end_s / 10.0).max(1e-3)), 1.0, "s"),
        ..60.0 => (step, 1.0, "s"),
        ..3600.0 => (step, 60.0, "min"),
        _ => (step, 3600.0, "h"),
    }
}

/// With as many places as a scale of this step needs.
pub fn number(x: f64, step: f64) -> String {
    match x.abs() {
        1_000_000.0.. => return format!("{}M", x / 1e6),
        10_000.0.. => return format!("{}k", x / 1e3),
        _ => {}
    }
    let mut power = 1.0;
    while power < 1e6 && ((step * power).round() - step * power).abs() > 1e-6 * power * step {
        power *= 10.0;
    }
    format!("{}", (x * power).round() / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round() {
        for (least, step) in [(0.2, 0.2), (0.9, 1.0), (1.1, 2.0), (13.0, 20.0), (30.0, 50.0), (800.0, 1000.0)] {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}: {}", round_step(least));
        }
        assert!((round_step(0.0013) - 0.002).abs() < 1e-12);
        assert_eq!(time_step(3600.0), (600.0, 60.0, "min"));
        assert_eq!(time_step(86_400.0), (14_400.0, 3600.0, "h"));
        assert_eq!(time_step(1.0), (0.1, 1.0, "s"));
    }

    #[test]
    fn numbers_have_the_places_of_their_scale() {
        assert_eq!(["12k", "1.5M", "0.2"], [(12_000.0, 2_000.0), (1.5e6, 5e5), (0.2, 0.2)].map(|(x, s)| number(x, s)));
        assert_eq!(
            ["0.998", "1", "40"],
            [(0.998, 0.002), (0.999_999_999, 0.002), (40.0, 5.0)].map(|(x, s)| number(x, s))
        );
    }
}
