use spool_proto::pool::PoolSpec;
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

use super::*;
use crate::output::Format;

const STYLE: Style = Style { output: Format::Table, no_headers: false };

fn resource(resource: &str, guarantee: u64, used: u64, limit: Option<u64>) -> PoolResource {
    let borrowed = used.saturating_sub(guarantee);
    PoolResource { resource: resource.into(), guarantee, used, borrowed, lent: 0, reserved: 0, limit, queued: 2_000 }
}

fn pool(name: &str, resources: Vec<PoolResource>) -> PoolView {
    PoolView {
        pool: name.into(),
        spec: PoolSpec {
            guarantee: Resources::cpu_memory(64_000, 256 << 10),
            borrow: [("cpu".into(), 500)].into(),
            ..PoolSpec::default()
        },
        hold: Hold::Open,
        hold_reason: String::new(),
        leaf: true,
        resources,
        share_milli: 1_250,
        open_jobs: 3,
        queued_tasks: 40,
        leased_tasks: 8,
        oldest_wait: Some(Span::from_secs(75)),
        preempted: 1,
        warm: Vec::new(),
    }
}

#[test]
fn a_list_shows_what_was_configured_and_what_there_is() {
    let pools = [PoolView { hold: Hold::Held, ..pool("studio/films", Vec::new()) }];
    assert_eq!(
        list(&pools, false, STYLE),
        "\
POOL          STATE  GUARANTEE            BORROW    LEND  WEIGHT  JOBS  QUEUED  RUNNING  OLDEST
studio/films  held   cpu=64,memory=256Gi  cpu=500m  -     1       3     40      8        1m15s
"
    );
    let wide = list(&pools, true, STYLE);
    assert!(wide.contains("SHARE") && wide.contains("1.250") && wide.contains("reclaim"), "{wide}");
}

#[test]
fn a_tree_names_each_pool_once_and_indents_it() {
    let cpu_and_memory = vec![resource("cpu", 2_000, 3_500, Some(4_000)), resource("memory", 1_024, 512, None)];
    let pools = [pool("/", Vec::new()), pool("studio", Vec::new()), pool("studio/films", cpu_and_memory)];
    assert_eq!(
        usage(&pools, true, false, STYLE),
        "\
POOL       STATE  RESOURCE  OWN  USED   BORROWED  LENT  LIMIT  QUEUED  OLDEST
/          open   -         -    -      -         -     -      -       1m15s
  studio   open   -         -    -      -         -     -      -       1m15s
    films  open   cpu       2    3500m  1500m     0     4      2       1m15s
                  memory    1Gi  512Mi  0Mi       0Mi   -      2000Mi
"
    );
}

#[test]
fn flat_usage_repeats_the_pool_on_every_line() {
    let pools = [pool("a/b", vec![resource("cpu", 1, 1, None), resource("gpu", 1, 1, None)])];
    let text = usage(&pools, false, false, Style { no_headers: true, ..STYLE });
    assert_eq!(text.lines().filter(|line| line.starts_with("a/b  open")).count(), 2, "{text}");
}

#[test]
fn warm_capacity_is_a_table_of_its_own() {
    let warm = WarmView {
        key: "media.encode/cpu/libx264".into(),
        min: 2,
        max: 4,
        idle: 1,
        warm_starts: 9,
        cold_starts: 0,
        warm_start_p50: Span::from_millis(3),
        cold_start_p50: Span::ZERO,
    };
    let text = usage(&[PoolView { warm: vec![warm], ..pool("a", Vec::new()) }], false, true, STYLE);
    let table = text.split_once("\n\n").expect("an empty line between").1;
    assert_eq!(
        table,
        "\
POOL  WARM                      MIN  MAX  IDLE  WARM-STARTS  P50  COLD-STARTS  P50
a     media.encode/cpu/libx264  2    4    1     9            3ms  0            -
"
    );
}

#[test]
fn changes_are_shown_in_the_units_people_type() {
    let field = |field: &str, before: &str, after: &str| FieldChange {
        pool: "a".into(),
        field: field.into(),
        before: before.into(),
        after: after.into(),
    };
    let changes = vec![
        field("guarantee.cpu", "64000", "500"),
        field("borrow.memory", "", "1024"),
        field("grace", "1500 ms", "300000 ms"),
        field("preemption", "\"reclaim\"", "\"fair\""),
    ];
    let change = PoolChangeView {
        version: 8,
        at: Timestamp(0),
        by: "ada@host".into(),
        reason: "launch week".into(),
        changes: changes.clone(),
    };
    assert_eq!(
        history(&[change], STYLE),
        "\
VERSION  AT                   BY        REASON       POOL  FIELD          BEFORE   AFTER
8        1970-01-01 00:00:00  ada@host  launch week  a     guarantee.cpu  64       500m
                                                     a     borrow.memory  -        1Gi
                                                     a     grace          1500ms   5m
                                                     a     preemption     reclaim  fair
"
    );
}
