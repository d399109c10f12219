//! Functions that users pushed: every version kept in the data directory, looked up by name, turned into tasks.
//!
//! ```text
//! functions/NAME/HASH/files/       as pushed: function.toml and the rest
//! functions/NAME/HASH/pushed.json  when, by whom
//! ```
//!
//! A version appears as a whole, by one rename, and is never changed nor taken away: a job that was accepted with it finds it.

mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use spool_core::io::{NewTask, Shape};
use spool_function::package::is_hash;
use spool_function::{Manifest, Package, order};
use spool_proto::call::UserOrder;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::FunctionSpec;
use spool_proto::time::Timestamp;

/// Digits of a hash that may stand for it, at least.
const PREFIX_MIN: usize = 6;
/// Other functions or versions named in a refusal.
const NAMED: usize = 8;

/// One version of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub manifest: Manifest,
    /// Hex.
    pub hash: String,
    pub pushed: Pushed,
}

/// How a version came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// When last. Calls without a version take the greatest.
    pub at: Timestamp,
    pub by: String,
    pub files: u32,
    pub bytes: u64,
}

impl Entry {
    /// What a call with this input takes.
    ///
    /// # Errors
    /// Class `spec`: `function_input` with the path of what does not conform, `bad_uri`, `unsupported_scheme`.
    pub fn order(&self, input: &serde_json::Value) -> Result<UserOrder, Failure> {
        order::order(&self.manifest, &self.hash, input)
    }
}

/// The task of an order. `output_prefix`: where files that the function leaves are stored; ends in `/`.
pub fn task(order: &UserOrder, output_prefix: String) -> NewTask {
    let call = order.call(output_prefix);
    NewTask {
        shape: Shape {
            function: order.function(),
            backend: order.backend.clone(),
            resources: order.resources.clone(),
            timeout: order.timeout,
            no_progress: order.no_progress,
        },
        label: order.label.clone(),
        payload: serde_json::to_vec(&call).expect("a call is plain data with string keys").into(),
        weight: order.expected.0,
        max_attempts: order.max_attempts,
    }
}

/// All versions of all functions. Cheap to clone; looking up never waits for the disk.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// By name, newest last.
    versions: RwLock<BTreeMap<String, Vec<Arc<Entry>>>>,
    /// One push at a time writes.
    pushing: Mutex<()>,
}

impl Registry {
    /// Reads what the data directory keeps. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read. A version that is damaged is left out, and logged.
    pub fn open(root: &Path) -> std::io::Result<Registry> {
        let mut versions = store::load(root)?;
        for entries in versions.values_mut() {
            entries.sort_by(|a, b| (a.pushed.at, &a.hash).cmp(&(b.pushed.at, &b.hash)));
        }
        let shared = Shared { root: root.to_owned(), versions: RwLock::new(versions), pushing: Mutex::new(()) };
        Ok(Registry { shared: Arc::new(shared) })
    }

    /// The version that `name` or `name@version` stands for: a hash, at least 6 digits of its beginning, or what the author calls it
    /// (the newest called so). Without a version the one pushed last.
    ///
    /// # Errors
    /// Class `spec`: `no_such_function`, `no_such_version`, with what there is.
    pub fn resolve(&self, name: &str) -> Result<Arc<Entry>, Failure> {
        let (name, version) = name.split_once('@').map_or((name, ""), |(name, version)| (name, version));
        self.version(name, version)
    }

    /// As [`Registry::resolve`], of a version on its own; empty: the one pushed last.
    ///
    /// # Errors
    /// As there.
    pub fn version(&self, name: &str, version: &str) -> Result<Arc<Entry>, Failure> {
        let versions = self.shared.versions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = versions.get(name) else {
            let known: Vec<&str> = versions.keys().map(String::as_str).collect();
            let text = format!("there is no function {name:?}; {}", some_of("there are", &known, "none was pushed"));
            return Err(Failure::new(Class::Spec, "no_such_function", text));
        };
        let begins = |entry: &&Arc<Entry>| version.len() >= PREFIX_MIN && entry.hash.starts_with(version);
        let mut beginning = entries.iter().filter(begins);
        let found = match (version, beginning.next(), beginning.next()) {
            ("", ..) => entries.last(),
            (_, Some(_), Some(_)) => {
                let text = format!("more than one version of {name} begins with {version}; give more digits");
                return Err(Failure::new(Class::Spec, "no_such_version", text));
            }
            (_, Some(one), None) => Some(one),
            _ => entries.iter().rev().find(|entry| entry.manifest.version == version),
        };
        found.cloned().ok_or_else(|| {
            let known: Vec<String> =
                entries.iter().rev().map(|entry| format!("{} ({:.12})", entry.manifest.version, entry.hash)).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let text = format!("there is no version {version:?} of {name}; {}", some_of("there are", &known, ""));
            Failure::new(Class::Spec, "no_such_version", text)
        })
    }

    /// All versions by name, the newest of each first.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        let versions = self.shared.versions.read().unwrap_or_else(PoisonError::into_inner);
        versions.values().flat_map(|entries| entries.iter().rev().cloned()).collect()
    }

    /// Whether calls without a version take this one.
    pub fn is_current(&self, entry: &Entry) -> bool {
        self.version(&entry.manifest.name, "").is_ok_and(|current| current.hash == entry.hash)
    }

    /// Keeps a version, durably, before it answers; calls without a version take it from then on. True: the same was there before.
    /// Blocks.
    ///
    /// # Errors
    /// Class `host`: `disk_full`, `function_store_failed`.
    pub fn push(&self, package: &Package, by: &str) -> Result<(Arc<Entry>, bool), Failure> {
        let _alone = self.shared.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (manifest, hash) = (package.manifest(), package.hash());
        let before = self.shared.versions.read().unwrap_or_else(PoisonError::into_inner).get(&manifest.name).cloned();
        let before = before.unwrap_or_default();
        let after_last = before.last().map_or(0, |last| last.pushed.at.0 + 1);
        let pushed = Pushed {
            at: Timestamp::now().max(Timestamp(after_last)),
            by: by.to_owned(),
            files: u32::try_from(package.files().len()).unwrap_or(u32::MAX),
            bytes: package.bytes(),
        };
        let existing = before.iter().any(|entry| entry.hash == hash);
        let kept = match existing {
            true => store::mark(&self.shared.root, &manifest.name, hash, &pushed),
            false => store::keep(&self.shared.root, package, &pushed),
        };
        kept.map_err(|(path, error)| store::failure(&path, &error))?;
        let entry = Arc::new(Entry { manifest: manifest.clone(), hash: hash.to_owned(), pushed });
        let mut versions = self.shared.versions.write().unwrap_or_else(PoisonError::into_inner);
        let entries = versions.entry(manifest.name.clone()).or_default();
        entries.retain(|other| other.hash != hash);
        entries.push(Arc::clone(&entry));
        Ok((entry, existing))
    }

    /// The files of a version, checked against its hash. Blocks.
    ///
    /// # Errors
    /// `no_such_version` (spec); `function_damaged` (host).
    pub fn read(&self, hash: &str) -> Result<Package, Failure> {
        let versions = self.shared.versions.read().unwrap_or_else(PoisonError::into_inner);
        let found = versions.values().flatten().find(|entry| is_hash(hash) && entry.hash == hash).cloned();
        drop(versions);
        let entry = found.ok_or_else(|| {
            let text = format!("no function has the version {hash:?}: is this the server that the job is from?");
            Failure::new(Class::Spec, "no_such_version", text)
        })?;
        store::read(&self.shared.root, &entry.manifest.name, hash)
    }

    /// Settles a job's version and input, for as long as the job is kept.
    ///
    /// # Errors
    /// As [`Registry::version`] and [`Entry::order`].
    pub(crate) fn freeze(&self, spec: &mut FunctionSpec) -> Result<(), Failure> {
        let (name, inline) = spec.name.split_once('@').unwrap_or((&spec.name, ""));
        let entry = self.version(name, if spec.version.is_empty() { inline } else { &spec.version })?;
        let order = entry.order(&spec.input)?;
        (spec.name, spec.version) = (entry.manifest.name.clone(), entry.hash.clone());
        spec.input = order.args.input.clone();
        spec.order = Some(Box::new(order));
        Ok(())
    }
}

fn some_of(words: &str, names: &[&str], none: &str) -> String {
    match names {
        [] => none.to_owned(),
        names if names.len() > NAMED => {
            format!("{words} {} and {} more", names[..NAMED].join(", "), names.len() - NAMED)
        }
        names => format!("{words} {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
