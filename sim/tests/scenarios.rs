//! Every scenario that ships, scaled down as it says itself, on the real engine.

use std::path::Path;

use spool_sim::{Options, Report, Scenario, scenario, svg};

/// Too large for a debug build at any scale that would still say anything.
const BY_HAND: [&str; 1] = ["scale"];

fn quick(name: &str, seed: Option<u64>) -> Report {
    let scenario = scenario::builtin(name).expect("it ships");
    let quick = scenario.quick.unwrap_or_else(|| panic!("{name} does not say how to be tested"));
    let options = Options {
        seed,
        duration_s: quick.duration_s,
        workers_scale: Some(quick.workers_scale),
        check_invariants: false,
    };
    spool_sim::run(&scenario, &options).expect("a test reads every one that ships")
}

fn assert_good(name: &str) {
    let report = quick(name, None);
    assert!(report.is_good(), "{}", report.table());
    assert!(report.total.done > 100, "{name} does hardly anything:\n{}", report.table());
}

macro_rules! meets_its_expectations {
    ($($test:ident = $name:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            assert_good($name);
        }
    )*
        const TESTED: &[&str] = &[$($name),*];
    };
}
meets_its_expectations!(
    big_tasks_are_not_starved = "big-tasks",
    black_holes_lose_no_task_out_of_the_books = "black-hole",
    clips_with_a_guarantee_hardly_wait = "clip-and-title",
    clips_without_one_do = "clip-and-title-unguarded",
    a_day_goes_by = "diurnal",
    poison_fails_its_own_job_alone = "poison",
    edits_of_quotas_take_hold_within_grace = "quota-edit",
    a_lost_rack_costs_nobody_a_task = "rack-loss",
    borrowers_give_back_within_grace = "reclaim",
    a_viral_burst_stays_in_its_pool = "viral",
);

#[test]
fn no_scenario_is_left_out() {
    for name in scenario::names() {
        assert!(TESTED.contains(&name) != BY_HAND.contains(&name), "{name}");
    }
}

/// Everything but the wall clock.
fn told(mut report: Report) -> String {
    report.wall = spool_sim::report::Wall { seconds: 0.0, engine_s: 0.0, decisions_per_s: 0.0, task_events_per_s: 0.0 };
    serde_json::to_string(&report).expect("a report is plain data") + &svg::draw(&report)
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_gives_another() {
    let first = told(quick("reclaim", Some(99)));
    assert_eq!(first, told(quick("reclaim", Some(99))));
    assert_ne!(first, told(quick("reclaim", Some(100))));
}

#[test]
fn what_was_accepted_is_finished_or_still_there_whatever_the_seed() {
    for seed in 0..6 {
        for name in ["rack-loss", "black-hole", "quota-edit"] {
            let report = quick(name, Some(seed));
            assert!(report.violations.is_empty(), "{name}, seed {seed}: {:?}", report.violations);
            let total = &report.total;
            let somewhere = total.done + total.failed + total.cancelled + total.queued_end + total.leased_end;
            assert_eq!(total.tasks, somewhere, "{name}, seed {seed}");
        }
    }
}

const TINY: &str = r#"
    title = "tiny"
    seed = 1
    duration_s = 300
    fleet = [{ name = "cpu", count = 2, capacity = { cpu = 4000, memory = 8192 }, leave_s = 200 },
             { name = "late", count = 1, capacity = { cpu = 4000, memory = 8192 }, arrive_s = 100 }]
    tenants = [{ name = "a", pool = "a", rate_per_hour = 1200, tasks = { min = 1, max = 3, alpha = 1.1 }, until_s = 150,
      shapes = { count = 2, resources = [{ cpu = 1000, memory = 512 }] }, run = { median_ms = 2000, sigma = 0.2 } }]
    [pools.a]
    guarantee = { cpu = 4000 }
    [expect]
    failed_max = 0
"#;

fn tiny(with: &str) -> Report {
    let scenario = Scenario::parse(&(TINY.to_owned() + with)).expect("it is a scenario");
    spool_sim::run(&scenario, &Options { check_invariants: true, ..Options::default() }).expect("it can be played")
}

#[test]
fn an_idle_fleet_runs_everything_at_once_and_workers_come_and_go() {
    let report = tiny("\"a.wait_p99_ms_max\" = 1000\n\"a.jobs_done_min\" = 20");
    assert!(report.is_good(), "{}", report.table());
    assert_eq!(report.total.done, report.total.tasks);
    assert_eq!(report.total.used_core_s, report.pools.iter().map(|pool| pool.used_core_s).sum::<f64>());
}

#[test]
fn what_a_scenario_expects_and_does_not_get_is_named() {
    let report = tiny("\"a.wait_p99_ms_max\" = 0\n\"a.nonsense_min\" = 1\nfairness_min = 0.5");
    let missed: Vec<(&str, bool)> = report.missed.iter().map(|miss| (&*miss.what, miss.got.is_some())).collect();
    assert_eq!(missed, [("a.nonsense_min", false), ("a.wait_p99_ms_max", true), ("fairness_min", false)]);
    assert!(!report.is_good() && report.table().contains("MISSED           a.nonsense_min"));
}

#[test]
fn a_chart_names_its_pools_and_stays_within_its_bounds() {
    let svg = svg::draw(&quick("clip-and-title", None));
    for part in ["<svg", "clip</text>", "title</text>", "stroke-dasharray", "cores", " min</text>", "</svg>"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn the_readme_names_every_scenario() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    for name in scenario::names() {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
    }
}
