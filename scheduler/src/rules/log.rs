//! What a job of rules keeps in its log: the history of its rules, a page a step; and the way from there back to where it stood.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_core::io::Blob;
use spool_proto::failure::{Class, Failure};
use spool_rules::history::{Entry, Event, effective};
use spool_rules::instance::{Instance, Kept, Program, Status};
use spool_rules::limits::Limits;

use super::registry::Registry;

/// A log that grows past this is trimmed behind a snapshot, if that is much smaller.
const TRIM_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Page {
    /// All that was before is in here.
    Kept(Box<Kept>),
    Entries(Vec<Entry>),
}

impl Page {
    pub(super) fn write(&self) -> Blob {
        serde_json::to_vec(self).expect("a page is plain data with string keys").into()
    }

    fn read(blob: &Blob) -> Result<Page, Failure> {
        serde_json::from_slice(blob).map_err(|e| unreadable(&e.to_string()))
    }
}

fn unreadable(why: &str) -> Failure {
    let message = format!(
        "the history of its rules cannot be brought back: {why}; this is a bug, or the job is from a newer server"
    );
    Failure::new(Class::Internal, "bad_history", message)
}

/// A log as it was written.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) kept: Option<Box<Kept>>,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    pub(crate) fn read(pages: &[Blob]) -> Result<Log, Failure> {
        let mut log = Log::default();
        for page in pages {
            match Page::read(page)? {
                Page::Kept(kept) => log = Log { kept: Some(kept), entries: Vec::new() },
                Page::Entries(entries) => log.entries.extend(entries),
            }
        }
        Ok(log)
    }

    /// Where a job with this log stands. `hash`: of the rule set it began with.
    pub(crate) fn bring_back(self, registry: &Registry, hash: &str) -> Result<Instance, Failure> {
        let mut instance = self.begin(registry, hash)?;
        for entry in effective(&self.entries) {
            replay(&mut instance, entry, registry)?;
        }
        Ok(instance)
    }

    /// Where it stood before the entry that ended it; and whether there was one.
    pub(super) fn before_end(mut self, registry: &Registry, hash: &str) -> Result<(Instance, bool), Failure> {
        let Some(last) = self.entries.pop() else { return Ok((self.begin(registry, hash)?, false)) };
        let before = self.bring_back(registry, hash)?;
        let mut after = before.clone();
        replay(&mut after, &last, registry)?;
        if matches!(after.status(), Status::Ended(_)) { Ok((before, true)) } else { Ok((after, false)) }
    }

    fn begin(&self, registry: &Registry, hash: &str) -> Result<Instance, Failure> {
        match &self.kept {
            Some(kept) => {
                let program = registry.program(&kept.rules)?;
                Instance::restore(program, Limits::default(), kept.as_ref().clone())
                    .map_err(|e| unreadable(&e.to_string()))
            }
            None => Ok(Instance::new(registry.program(hash)?, Limits::default())),
        }
    }
}

fn replay(instance: &mut Instance, entry: &Entry, registry: &Registry) -> Result<(), Failure> {
    if let Event::Migrated { rules } = &entry.event {
        put_under(instance, registry.program(rules)?)?;
    }
    instance.replay(entry).map(drop).map_err(|e| unreadable(&e.to_string()))
}

/// Puts a job under another rule set.
pub(super) fn put_under(
    instance: &mut Instance,
    program: Arc<Program>,
) -> Result<spool_rules::instance::Migration, Failure> {
    instance.migrate(program).map_err(|e| unreadable(&e.to_string()))
}

/// How large a job's log is, and when trimming it is worth another look: making a snapshot costs as much as the job's state is large, so
/// it is tried when the log has doubled, not at every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    bytes: usize,
    trim_at: usize,
}

impl Size {
    pub(super) fn of(pages: &[Blob]) -> Size {
        let bytes = pages.iter().map(|page| page.len()).sum();
        Size { bytes, trim_at: TRIM_BYTES.max(bytes) }
    }

    /// The next page: entries; or a snapshot, which takes the place of all (true).
    pub(super) fn write(&mut self, instance: &Instance, entries: Vec<Entry>) -> (Blob, bool) {
        let page = Page::Entries(entries).write();
        self.bytes += page.len();
        if self.bytes < self.trim_at || matches!(instance.status(), Status::Ended(_)) {
            return (page, false);
        }
        let kept = Page::Kept(Box::new(instance.keep())).write();
        let is_smaller = kept.len() * 4 < self.bytes;
        if is_smaller {
            self.bytes = kept.len();
        }
        self.trim_at = TRIM_BYTES.max(self.bytes * 2);
        if is_smaller { (kept, true) } else { (page, false) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spool_proto::time::Timestamp;
    use spool_rules::history::SectionFailure;
    use spool_rules::instance::{Ask, Sections};
    use spool_rules::value::Value;

    use super::*;

    struct Silent;

    impl Sections for Silent {
        fn run(&mut self, _: &Ask<'_>) -> Result<Vec<spool_rules::effect::Effect>, SectionFailure> {
            Ok(Vec::new())
        }
    }

    /// Of a job without rules, which waits.
    fn instance() -> Instance {
        let set = serde_json::json!({"service": "t", "version": "1", "hash": "0", "standing": true, "rules": []});
        let set = serde_json::from_value(set).expect("a rule set");
        Instance::new(Arc::new(Program::new(set).expect("it can be matched")), Limits::default())
    }

    fn event(n: u64, bytes: usize) -> Event {
        Event::Signal { name: n.to_string(), payload: Value::text("x".repeat(bytes)), dedupe: String::new() }
    }

    #[test]
    fn a_log_is_trimmed_behind_a_small_state() {
        let (instance, mut size) = (instance(), Size::of(&[]));
        let mut snapshots = 0;
        for n in 0..1_000 {
            let entry = Entry { at: Timestamp(n), event: event(n, 10_000), sections: Vec::new() };
            snapshots += u32::from(size.write(&instance, vec![entry]).1);
            assert!(size.bytes < TRIM_BYTES + 20_000, "{size:?}");
        }
        assert!((8..=11).contains(&snapshots), "ten megabytes: {snapshots}");
    }

    #[test]
    fn a_state_as_large_as_its_log_is_not_written_at_every_page() {
        let (mut instance, mut size) = (instance(), Size::of(&[]));
        let mut looks = BTreeSet::new();
        for n in 0..1_000 {
            let step = instance.step(Timestamp(n), event(n, 10_000), &mut Silent);
            assert!(!size.write(&instance, vec![step.entry]).1, "it would save nothing");
            looks.insert(size.trim_at);
        }
        assert!((3..=6).contains(&looks.len()), "{looks:?}");
    }
}
