use super::*;
use spool_proto::ids::JobId;
use spool_proto::pool::WarmSpec;

const COSTS: Costs = Costs {
    cold: Span::from_millis(400),
    warm: Span::from_millis(2),
    kill: Span::from_millis(300),
    idle: Span::from_secs(10),
    self_test: Span::from_secs(3),
};

fn cpu(cpu: u64) -> Amounts {
    let mut amounts = Amounts::default();
    amounts.0[0] = cpu;
    amounts
}

fn worker() -> Worker {
    let mut worker = Worker::new("w".into(), (Resources::ZERO, Vec::new()), cpu(2000), 2.0, 1);
    worker.start();
    worker
}

fn call(number: u64, need: u64) -> Call {
    let task = TaskId { job: JobId(1), index: 0 };
    let fate = Fate { run: Span::from_secs(4), fails_after: None };
    Call::new(task, Fence(number), 0, cpu(need), 0, fate)
}

fn admitted(acts: &[Act]) -> Vec<u64> {
    acts.iter().filter_map(|act| if let Act::Admitted { fence, .. } = act { Some(fence.0) } else { None }).collect()
}

fn at(ms: u64) -> Timestamp {
    Timestamp(ms * 1000)
}

#[test]
fn orders_to_run_now_go_before_those_sent_ahead_and_none_overtakes_in_its_line() {
    let (mut worker, mut acts) = (worker(), Vec::new());
    for (number, need, ahead) in [(1, 1000, false), (2, 1500, false), (3, 500, false), (4, 500, true)] {
        worker.lease(at(0), call(number, need), ahead, &COSTS, &mut acts);
    }
    assert_eq!(admitted(&acts), [1], "3 would fit, but 2 is before it");
    acts.clear();
    worker.due(at(400), Due::Start(Fence(1)), &COSTS, &mut acts);
    worker.due(at(2400), Due::End(Fence(1)), &COSTS, &mut acts);
    assert_eq!(admitted(&acts), [2, 3]);
    assert!(acts.iter().any(|act| matches!(act, Act::After(Span(2_000_000), Due::End(Fence(1))))), "4 s at speed 2");
}

#[test]
fn a_second_call_finds_the_executor_warm() {
    let (mut worker, mut acts) = (worker(), Vec::new());
    worker.lease(at(0), call(1, 1000), false, &COSTS, &mut acts);
    worker.due(at(400), Due::Start(Fence(1)), &COSTS, &mut acts);
    worker.due(at(2400), Due::End(Fence(1)), &COSTS, &mut acts);
    acts.clear();
    worker.lease(at(3000), call(2, 1000), false, &COSTS, &mut acts);
    assert!(acts.iter().any(|act| matches!(act, Act::After(Span(2_000), Due::Start(Fence(2))))), "{acts:?}");
}

#[test]
fn what_is_stopped_keeps_its_room_until_it_is_dead() {
    let (mut worker, mut acts) = (worker(), Vec::new());
    worker.lease(at(0), call(1, 2000), false, &COSTS, &mut acts);
    worker.lease(at(0), call(2, 2000), true, &COSTS, &mut acts);
    let task = call(1, 0).task;
    worker.revoke(at(1000), (task, Fence(1)), revoke::RETRACTED, &COSTS, &mut acts);
    assert_eq!(worker.holds(), (1, 1), "too late to retract");
    worker.revoke(at(1000), (task, Fence(1)), revoke::PREEMPTED, &COSTS, &mut acts);
    assert_eq!(admitted(&acts), [1]);
    worker.due(at(1300), Due::Killed(Fence(1)), &COSTS, &mut acts);
    assert_eq!(admitted(&acts), [1, 2]);
    acts.clear();
    worker.due(at(2400), Due::End(Fence(1)), &COSTS, &mut acts);
    assert!(acts.is_empty(), "its end is void");
}

#[test]
fn executors_are_kept_as_asked_and_no_longer() {
    let mut executors = Executors::new(2);
    let spec = WarmSpec { min: 1, max: Some(2), idle_timeout: Span::from_secs(60) };
    executors.set_targets(vec![Some(spec), None]);
    assert_eq!(executors.tend(at(0), COSTS.idle), [0], "one is missing");
    assert!(executors.tend(at(1), COSTS.idle).is_empty(), "it is on its way");
    executors.warmed_up(0, at(400));
    for _ in 0..3 {
        executors.take(0);
        executors.take(1);
    }
    for _ in 0..3 {
        executors.give(0, at(1000));
        executors.give(1, at(1000));
    }
    executors.tend(at(12_000), COSTS.idle);
    assert_eq!((executors.idle(0), executors.idle(1)), (2, 0), "up to the most stay");
    executors.tend(at(62_000), COSTS.idle);
    assert_eq!(executors.idle(0), 1, "then the least");
}
