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

/// The next page of a log with so many bytes: entries, or a snapshot that takes the place of all.
pub(super) fn page(instance: &Instance, entries: Vec<Entry>, logged_bytes: usize) -> (Blob, bool) {
    let page = Page::Entries(entries).write();
    let ended = matches!(instance.status(), Status::Ended(_));
    if ended || logged_bytes + page.len() < TRIM_BYTES {
        return (page, false);
    }
    let kept = Page::Kept(Box::new(instance.keep())).write();
    if kept.len() * 4 < logged_bytes + page.len() { (kept, true) } else { (page, false) }
}
