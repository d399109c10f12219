//! The scenarios that ship with the program.

use super::Scenario;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        const SHIPPED: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}
shipped!(
    "big-tasks",
    "black-hole",
    "clip-and-title",
    "clip-and-title-unguarded",
    "diurnal",
    "poison",
    "quota-edit",
    "rack-loss",
    "reclaim",
    "scale",
    "viral",
);

/// In order.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// `None`: there is none of that name.
pub fn builtin(name: &str) -> Option<Scenario> {
    let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(text).expect("a test reads every one that ships"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_ships_can_be_read() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!scenario.expect.is_empty(), "{name} expects nothing");
        }
        assert!(builtin("nonsense").is_none());
        assert_eq!(names().count(), SHIPPED.len());
    }
}
