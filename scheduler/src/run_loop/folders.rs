//! Folders of jobs' pieces: removed when a job is done. What a part of a job answers with is kept for the job it is a part of, and goes
//! with that one's.
//!
//! ```text
//! j17/              pieces of job 17
//! j17/parts/j18     an empty file: j18 was a part of it, is done, and left something that is still there
//! j18/              what j18's answer names
//! ```

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use spool_core::engine::Engine;
use spool_core::io::Blob;
use spool_core::job::Job;
use spool_proto::ids::JobId;
use spool_proto::uri;
use spool_proto::view::JobState;
use tracing::warn;

const PARTS: &str = "parts";

#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    /// To the thread that does the work, one after the other: what is kept of a part is known before the whole goes.
    work: mpsc::Sender<Work>,
}

#[derive(Debug)]
enum Work {
    Remove(JobId),
    /// A part is done: the whole, and the part's answer.
    Keep {
        part: JobId,
        whole: JobId,
        answer: Option<Blob>,
    },
}

impl Folders {
    pub(super) fn new(root: PathBuf) -> Folders {
        let (work, orders) = mpsc::channel();
        let shelf = Shelf { root: root.clone() };
        let run = move || orders.into_iter().for_each(|order| shelf.carry_out(order));
        if let Err(e) = std::thread::Builder::new().name("folders".into()).spawn(run) {
            warn!(error = %e, "no thread that removes jobs' artifacts; they are removed at the next start");
        }
        Folders { root, work }
    }

    /// After a start: folders of jobs nobody will go on with, or that became final just before.
    pub(super) fn find_left(&self, engine: &Engine) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let found: Vec<(String, Option<JobId>)> = names.map(|name| (name.clone(), name.parse().ok())).collect();
        let shelf = Shelf { root: self.root.clone() };
        let is_open = |id: JobId| engine.job(id).is_some_and(|job| job.state() != JobState::Done);
        let open = found.iter().filter_map(|(_, id)| id.filter(|id| is_open(*id)));
        let mut kept: BTreeSet<JobId> = open.collect();
        let mut next: Vec<JobId> = kept.iter().copied().collect();
        while let Some(whole) = next.pop() {
            next.extend(shelf.parts(whole).into_iter().filter(|part| kept.insert(*part)));
        }
        for (name, id) in found {
            match id {
                Some(id) if kept.contains(&id) => {}
                Some(id) => match engine.job(id) {
                    Some(job) => self.done(engine, job),
                    None => self.remove(id),
                },
                None => remove(&self.root.join(name)),
            }
        }
    }

    pub(super) fn done(&self, engine: &Engine, job: &Job) {
        let whole =
            job.request().part_of.filter(|whole| engine.job(*whole).is_some_and(|w| w.state() != JobState::Done));
        let work = match whole {
            Some(whole) => Work::Keep { part: job.id(), whole, answer: job.output().cloned() },
            None => Work::Remove(job.id()),
        };
        self.order(work);
    }

    pub(super) fn remove(&self, job: JobId) {
        self.order(Work::Remove(job));
    }

    fn order(&self, work: Work) {
        // Without the thread they are left for the next start.
        drop(self.work.send(work));
    }
}

/// The folders, and what is done with them.
struct Shelf {
    root: PathBuf,
}

impl Shelf {
    fn carry_out(&self, work: Work) {
        match work {
            Work::Remove(job) => self.remove(job),
            Work::Keep { part, whole, answer } => {
                let named = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
                let mut uris = BTreeSet::new();
                collect(&named.unwrap_or_default(), &mut uris);
                if !self.keep(part, &uris) {
                    return remove(&self.folder(part));
                }
                let parts = self.folder(whole).join(PARTS);
                let kept =
                    std::fs::create_dir_all(&parts).and_then(|()| std::fs::write(parts.join(part.to_string()), ""));
                if let Err(e) = kept {
                    warn!(%part, %whole, error = %e, "what a part left may be gone after a restart");
                }
            }
        }
    }

    fn folder(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }

    fn parts(&self, whole: JobId) -> Vec<JobId> {
        let Ok(entries) = std::fs::read_dir(self.folder(whole).join(PARTS)) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// With what was kept of its parts.
    fn remove(&self, job: JobId) {
        for part in self.parts(job) {
            self.remove(part);
        }
        remove(&self.folder(job));
    }

    /// Keeps of a job and its parts what is named. False: nothing was.
    fn keep(&self, job: JobId, uris: &BTreeSet<String>) -> bool {
        let mut any = false;
        for part in self.parts(job) {
            if self.keep(part, uris) {
                any = true;
            } else {
                remove(&self.folder(part));
                drop(std::fs::remove_file(self.folder(job).join(PARTS).join(part.to_string())));
            }
        }
        let prefix = uri::prefix_of_job(job);
        let Ok(files) = std::fs::read_dir(self.folder(job)) else { return any };
        for file in files.flatten() {
            let name = file.file_name();
            if name.to_str().is_some_and(|name| uris.contains(&format!("{prefix}{name}"))) {
                any = true;
            } else if name != PARTS {
                remove(&file.path());
            }
        }
        any
    }
}

/// All texts in a value.
fn collect(value: &serde_json::Value, texts: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) => drop(texts.insert(text.clone())),
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

/// Removes a file or a folder that may not be there.
fn remove(path: &Path) {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            warn!(path = %path.display(), error = %e, "artifacts could not be removed; they are removed at the next start");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(root: &Path, job: u64, names: &[&str]) {
        let folder = root.join(JobId(job).to_string());
        std::fs::create_dir_all(&folder).unwrap();
        names.iter().for_each(|name| std::fs::write(folder.join(name), name).unwrap());
    }

    fn left(root: &Path) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut next = vec![root.to_owned()];
        while let Some(folder) = next.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() { next.push(path) } else { all.push(name) }
            }
        }
        all.sort();
        all
    }

    #[test]
    fn what_a_part_answers_with_outlives_it_and_goes_with_the_whole() {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf { root: root.path().to_owned() };
        for (job, names) in [(1, &["a"][..]), (2, &["b", "c"]), (3, &["d", "e"]), (4, &["f"])] {
            fill(root.path(), job, names);
        }
        let keep = |part, whole, answer: &str| {
            let (part, whole) = (JobId(part), JobId(whole));
            shelf.carry_out(Work::Keep { part, whole, answer: Some(answer.as_bytes().into()) });
        };
        // j3 and j4 are parts of j2, which is a part of j1.
        keep(3, 2, r#"{"track": {"uri": "spool://j3/d", "other": ["spool://j3/e"]}}"#);
        keep(4, 2, r#"{"nothing": 1}"#);
        assert_eq!(left(root.path()), ["j1/a", "j2/b", "j2/c", "j2/parts/j3", "j3/d", "j3/e"]);
        keep(2, 1, r#"["spool://j3/e", "spool://j2/c"]"#);
        assert_eq!(left(root.path()), ["j1/a", "j1/parts/j2", "j2/c", "j2/parts/j3", "j3/e"]);
        shelf.carry_out(Work::Remove(JobId(1)));
        assert_eq!(left(root.path()), [""; 0]);
    }
}
