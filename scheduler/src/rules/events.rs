//! What is new of a job, as events for its rules.

use spool_core::engine::Engine;
use spool_core::job::Job;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::TaskId;
use spool_proto::time::Timestamp;
use spool_proto::view::TaskState;
use spool_rules::history::Event;
use spool_rules::instance::Instance;
use spool_rules::value::Value;

use super::{CANCEL, EVENTS, MIGRATE, RESUME, Rules, children, orders, spec};

impl Rules {
    /// What is new, in order, and up to which signal.
    pub(super) fn events(
        &mut self,
        now: Timestamp,
        engine: &Engine,
        job: &Job,
        instance: &Instance,
    ) -> (Vec<Event>, u64) {
        let id = job.id();
        let (mut events, mut taken) = (Vec::new(), 0);
        let slot = self.slots.get_mut(&id).expect("it is open");
        if std::mem::take(&mut slot.sweep) {
            slot.arrived.extend(instance.waits_for());
            slot.children.extend(children::over(engine, id, instance));
            if self.start_later(id, children::lost(engine, id, instance)) {
                return (events, taken);
            }
        }
        let slot = self.slots.get_mut(&id).expect("it is open");
        if job.log().is_empty()
            && let Some(spec) = spec(job)
        {
            let input = serde_json::from_value(spec.input).unwrap_or_default();
            events.push(Event::Started { input });
        }
        while let Some(index) = slot.arrived.pop_first() {
            if !instance.awaits_task(index) {
                continue;
            }
            let Some(task) = engine.task(TaskId { job: id, index }) else { continue };
            events.extend(match task.state {
                TaskState::Done => Some(match orders::value(&task) {
                    Ok(value) => Event::TaskDone { task: index, value },
                    Err(failure) => Event::TaskFailed { task: index, failure },
                }),
                TaskState::Failed | TaskState::Cancelled => {
                    let failure = task.failure().cloned();
                    let failure =
                        failure.unwrap_or_else(|| Failure::new(Class::Transient, "cancelled", "it was called off"));
                    Some(Event::TaskFailed { task: index, failure })
                }
                _ => None,
            });
            if events.len() >= EVENTS {
                slot.again = true;
                return (events, taken);
            }
        }
        for (effect, outcome) in slot.children.drain(..) {
            events.push(match outcome {
                Ok(value) => Event::ChildDone { effect, value },
                Err(failure) => Event::ChildFailed { effect, failure },
            });
        }
        for signal in job.signals() {
            if events.len() >= EVENTS || (signal.name == MIGRATE && !events.is_empty()) {
                // Another rule set has another process: it begins with what migrates to it.
                slot.again = true;
                return (events, taken);
            }
            taken = signal.number;
            let payload: Value = serde_json::from_slice(&signal.payload).unwrap_or_default();
            let text = || payload.as_text().unwrap_or_default().to_owned();
            match signal.name.as_str() {
                CANCEL => events.push(Event::Cancel { reason: text() }),
                RESUME => events.push(Event::Resume),
                MIGRATE => {
                    slot.again = true;
                    events.push(Event::Migrated { rules: text().into() });
                    return (events, taken);
                }
                name => {
                    let (name, dedupe) = (name.to_owned(), signal.dedupe.to_string());
                    events.push(Event::Signal { name, payload, dedupe });
                }
            }
        }
        if instance.next_alarm().is_some_and(|at| at <= now) {
            let waits = |task: &u32| {
                let task = engine.task(TaskId { job: id, index: *task });
                let is_new = |state| matches!(state, TaskState::Queued | TaskState::Prefetched);
                task.is_some_and(|task| is_new(task.state) && task.history.is_empty())
            };
            let unstarted = instance.starts_due(now).into_iter().filter(waits).collect();
            events.push(Event::Tick { unstarted });
        }
        (events, taken)
    }
}
