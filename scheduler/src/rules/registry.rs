//! The services that were pushed: every version ever, and which of them takes new jobs.
//!
//! ```text
//! DATA/services/NAME/HASH.json      a version: its files, never changed
//! DATA/services/NAME/routes.json    which version takes new jobs
//! ```
//!
//! A file is written aside, synced and renamed, so that what was acknowledged is there whole or, unacknowledged, not at all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spool_dialect::{Hosted, Keeper, Problem, Severity, Sources};
use spool_proto::failure::{Class, Failure};
use spool_proto::time::Timestamp;
use spool_rules::instance::Program;
use spool_rules::ruleset::RuleSet;

use super::built_in;
use super::canary::{Canary, Routes, Tally};

/// Digits of a hash that name a version at least.
const PREFIX_MIN: usize = 6;
/// Longest name of a service.
const NAME_MAX: usize = 64;
/// Names that the server's own workflows have.
pub(super) const TAKEN: [&str; 3] = ["video-encode", "title", "bench"];

/// A version of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) hash: String,
    /// As its author calls it.
    pub(crate) version: String,
    pub(crate) pushed: Timestamp,
    pub(crate) rules: u32,
    /// It came with a server.
    #[serde(default)]
    pub(crate) is_built_in: bool,
    pub(crate) files: Sources,
    /// Read from the files when they were pushed; the same language reads the same.
    pub(crate) set: RuleSet,
}

#[derive(Debug, Default)]
struct Service {
    /// In order of being pushed.
    versions: Vec<Arc<Version>>,
    routes: Routes,
    /// Since the server started.
    tallies: HashMap<String, Tally>,
    /// Jobs that were routed while there was a canary.
    routed: u64,
}

/// What people see of a service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceState {
    pub(crate) name: String,
    pub(crate) routes: Routes,
    /// Newest first.
    pub(crate) versions: Vec<(Arc<Version>, Tally)>,
}

/// A change of which version takes new jobs.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Canary {
        version: String,
        percent: u32,
    },
    /// Empty: the canary.
    Promote(String),
    Rollback,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) version: Arc<Version>,
    pub(crate) existing: bool,
    /// Warnings.
    pub(crate) problems: Vec<Problem>,
}

pub(crate) struct Registry {
    folder: PathBuf,
    keeper: Keeper,
    services: Mutex<BTreeMap<String, Service>>,
    /// By hash; made when first needed.
    programs: Mutex<HashMap<String, Arc<Program>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn refused(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(Class::Spec, code, message)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{} cannot be written: {error}; see to the data directory, then push again", path.display());
    Failure::new(Class::Host, "store_unwritable", message)
}

impl Registry {
    /// # Errors
    /// When the folder, or what it holds, cannot be read.
    pub(crate) fn open(folder: PathBuf, keeper: Keeper) -> std::io::Result<Registry> {
        std::fs::create_dir_all(&folder)?;
        let mut services = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                let service = Service::read(&path)?;
                if let Some(name) = service.versions.first().map(|version| version.set.service.to_string()) {
                    services.insert(name, service);
                }
            }
        }
        let registry = Registry { folder, keeper, services: Mutex::new(services), programs: Mutex::default() };
        for files in built_in::all() {
            registry.bring(files).map_err(|failure| std::io::Error::other(failure.message))?;
        }
        Ok(registry)
    }

    /// A service that comes with the server. Versions of servers before stay for the jobs they have.
    fn bring(&self, files: Sources) -> Result<(), Failure> {
        let hash = files.hash();
        let is_known = |services: &BTreeMap<String, Service>| {
            services.values().flat_map(|service| &service.versions).any(|version| version.hash == hash)
        };
        if is_known(&self.services()) {
            return Ok(());
        }
        // Its sections are run like all others'; reading it here costs no process.
        let read = spool_dialect::Compiled::new(&files).map_err(|problems| {
            let first = problems.first().map_or_else(String::new, ToString::to_string);
            Failure::new(Class::Internal, "bad_rules", format!("a service that comes with this server: {first}"))
        })?;
        let (name, kept) =
            (read.set.service.to_string(), self.keep(files, read.set, Vec::new(), Timestamp::now(), true)?);
        let stands = self.get(&name)?;
        let is_ours = |version: &Version| version.hash == stands.routes.stable && version.is_built_in;
        if stands.versions.iter().any(|(version, _)| is_ours(version)) && stands.routes.stable != kept.version.hash {
            self.change(&name, &Change::Promote(kept.version.hash.clone()))?;
        }
        Ok(())
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that runs the sections of a rule set.
    ///
    /// # Errors
    /// When there is no such version.
    pub(super) fn host(&self, hash: &str) -> Result<Hosted, Failure> {
        Ok(Hosted::new(self.keeper.clone(), self.version(hash)?.files.clone()))
    }

    fn version(&self, hash: &str) -> Result<Arc<Version>, Failure> {
        let services = self.services();
        let found = services.values().flat_map(|service| &service.versions).find(|version| version.hash == hash);
        found.cloned().ok_or_else(|| refused("no_such_version", format!("there is no rule set {hash}")))
    }

    /// # Errors
    /// When there is no such version.
    pub(crate) fn program(&self, hash: &str) -> Result<Arc<Program>, Failure> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(hash) {
            return Ok(program.clone());
        }
        let version = self.version(hash)?;
        let program = Program::new(version.set.clone()).map_err(|bad| {
            let first = bad.first().map_or_else(String::new, |bad| format!("{}: {}", bad.rule, bad.what));
            Failure::new(Class::Internal, "bad_rules", format!("rule set {hash} cannot be run any more: {first}"))
        })?;
        let program = Arc::new(program);
        programs.insert(hash.to_owned(), program.clone());
        Ok(program)
    }

    /// Reads the files in a process of their own. Takes a while: not for the run loop.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn read(&self, files: &Sources) -> Result<(RuleSet, Vec<Problem>), Vec<Problem>> {
        let (set, warnings) = Hosted::new(self.keeper.clone(), files.clone()).check()?;
        if let Err(why) = check_name(&set.service) {
            let (file, code) = ("main.star".to_owned(), "bad_service".to_owned());
            let message = format!("service(name = {:?}): {why}", set.service);
            return Err(vec![Problem { file, line: 0, column: 0, severity: Severity::Error, code, message }]);
        }
        Ok((set, warnings))
    }

    /// Keeps a rule set that was read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(
        &self,
        files: Sources,
        set: RuleSet,
        problems: Vec<Problem>,
        now: Timestamp,
        is_built_in: bool,
    ) -> Result<Pushed, Failure> {
        let mut services = self.services();
        let name = set.service.to_string();
        let service = services.entry(name.clone()).or_default();
        if let Some(version) = service.versions.iter().find(|version| version.hash == *set.hash) {
            return Ok(Pushed { version: version.clone(), existing: true, problems });
        }
        let version = Arc::new(Version {
            hash: set.hash.to_string(),
            version: set.version.to_string(),
            pushed: now,
            rules: u32::try_from(set.rules.len()).unwrap_or(u32::MAX),
            is_built_in,
            files,
            set,
        });
        let folder = self.folder.join(&name);
        let written = write(&folder.join(format!("{}.json", version.hash)), version.as_ref());
        let written = written.and_then(|()| {
            if service.routes.stable.is_empty() {
                let routes = Routes { stable: version.hash.clone(), ..Routes::default() };
                write(&folder.join("routes.json"), &routes)?;
                service.routes = routes;
            }
            Ok(())
        });
        if let Err(failure) = written {
            services.retain(|_, service| !service.versions.is_empty());
            return Err(failure);
        }
        service.versions.push(version.clone());
        Ok(Pushed { version, existing: false, problems })
    }

    pub(crate) fn list(&self) -> Vec<ServiceState> {
        self.services().iter().map(|(name, service)| service.state(name)).collect()
    }

    /// # Errors
    /// When there is no such service.
    pub(crate) fn get(&self, name: &str) -> Result<ServiceState, Failure> {
        let services = self.services();
        Ok(find(&services, name)?.state(name))
    }

    /// The version that takes a new job, or the one that is named: by its hash, the beginning of it, or as its author calls it.
    ///
    /// # Errors
    /// When there is no such service or version.
    pub(crate) fn resolve(&self, name: &str, version: &str) -> Result<Arc<Version>, Failure> {
        let mut services = self.services();
        find(&services, name)?;
        let service = services.get_mut(name).expect("just found");
        if !version.is_empty() {
            return service.find(name, version).cloned();
        }
        let hash = service.route();
        service.find(name, &hash).cloned()
    }

    /// # Errors
    /// When there is nothing of the kind to change, or it cannot be written.
    pub(crate) fn change(&self, name: &str, change: &Change) -> Result<ServiceState, Failure> {
        let mut services = self.services();
        find(&services, name)?;
        let service = services.get_mut(name).expect("just found");
        let mut routes = service.routes.clone();
        match change {
            Change::Canary { version, percent } => {
                let hash = service.find(name, version)?.hash.clone();
                if !(1..=99).contains(percent) {
                    let advice = "a canary takes 1 to 99 of 100 new jobs; `spool service promote` gives it all";
                    return Err(refused("bad_percent", format!("{percent} %: {advice}")));
                }
                if hash == routes.stable {
                    let why = format!("version {} takes all new jobs of {name} already", short(&hash));
                    return Err(refused("already_stable", why));
                }
                service.tallies.remove(&hash);
                routes.canary = Some(Canary { hash, percent: *percent });
            }
            Change::Promote(version) if version.is_empty() => match &routes.canary {
                Some(canary) => routes = routes.promote(canary.hash.clone(), String::new()),
                None => {
                    let why = format!("{name} has no canary; name the version that is to take all new jobs");
                    return Err(refused("no_canary", why));
                }
            },
            Change::Promote(version) => {
                routes = routes.promote(service.find(name, version)?.hash.clone(), String::new());
            }
            Change::Rollback => match (routes.canary.take(), routes.before.clone()) {
                (Some(canary), _) => routes.verdict = format!("canary {} was taken back by hand", short(&canary.hash)),
                (None, Some(before)) => routes = routes.promote(before, String::new()),
                (None, None) => {
                    return Err(refused(
                        "no_version_before",
                        format!("{name} has no canary and no version before this one"),
                    ));
                }
            },
        }
        write(&self.folder.join(name).join("routes.json"), &routes)?;
        service.routes = routes;
        Ok(service.state(name))
    }

    /// A job has begun. What is said of versions that are gone is not kept.
    pub(super) fn begun(&self, name: &str, hash: &str) {
        if let Some(service) = self.services().get_mut(name) {
            service.tallies.entry(hash.to_owned()).or_default().begun += 1;
        }
    }

    /// A job has ended, well or not; a canary may be judged by it. Answers with the verdict.
    pub(super) fn ended(&self, name: &str, hash: &str, well: bool) -> Option<String> {
        let mut services = self.services();
        let service = services.get_mut(name)?;
        let tally = service.tallies.entry(hash.to_owned()).or_default();
        if well {
            tally.done += 1
        } else {
            tally.failed += 1
        }
        let canary = service.routes.canary.as_ref().filter(|canary| canary.hash == hash)?;
        let stable = service.tallies.get(&service.routes.stable).copied().unwrap_or_default();
        let is_good = service.tallies[hash].judge(stable)?;
        let verdict = service.tallies[hash].verdict(&short(&canary.hash), stable, is_good);
        let routes = if is_good {
            service.routes.promote(canary.hash.clone(), verdict.clone())
        } else {
            Routes { canary: None, verdict: verdict.clone(), ..service.routes.clone() }
        };
        // Unwritten, it is judged again after a restart.
        drop(write(&self.folder.join(name).join("routes.json"), &routes));
        service.routes = routes;
        Some(verdict)
    }
}

impl Service {
    fn read(folder: &Path) -> std::io::Result<Service> {
        let mut service = Service::default();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("routes.json") => service.routes = read(&path)?,
                Some(name) if name.ends_with(".json") => service.versions.push(Arc::new(read(&path)?)),
                _ => {}
            }
        }
        service.versions.sort_by_key(|version| version.pushed);
        Ok(service)
    }

    fn state(&self, name: &str) -> ServiceState {
        let tally = |version: &Arc<Version>| self.tallies.get(&version.hash).copied().unwrap_or_default();
        let versions = self.versions.iter().rev().map(|version| (version.clone(), tally(version))).collect();
        ServiceState { name: name.to_owned(), routes: self.routes.clone(), versions }
    }

    /// The version a new job gets: of 100 in a row the canary's share.
    fn route(&mut self) -> String {
        let Some(canary) = &self.routes.canary else { return self.routes.stable.clone() };
        self.routed += 1;
        // 61 and 100 have no common divisor: each hundred goes through all places, well mixed.
        let is_canary = self.routed * 61 % 100 < u64::from(canary.percent);
        if is_canary { canary.hash.clone() } else { self.routes.stable.clone() }
    }

    fn find(&self, name: &str, version: &str) -> Result<&Arc<Version>, Failure> {
        let is_hash = version.len() >= PREFIX_MIN && version.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found: Vec<_> = self.versions.iter().filter(|v| is_hash && v.hash.starts_with(version)).collect();
        if found.is_empty() {
            // Of several with one name the newest.
            found.extend(self.versions.iter().rev().find(|v| v.version == version));
        }
        match found[..] {
            [one] => Ok(one),
            [] => {
                let known: Vec<_> =
                    self.versions.iter().rev().take(8).map(|v| format!("{} ({})", short(&v.hash), v.version)).collect();
                let known = known.join(", ");
                Err(refused("no_such_version", format!("{name} has no version {version:?}; the newest are {known}")))
            }
            _ => Err(refused(
                "ambiguous_version",
                format!("{} versions of {name} begin with {version}: give more of it", found.len()),
            )),
        }
    }
}

fn find<'a>(services: &'a BTreeMap<String, Service>, name: &str) -> Result<&'a Service, Failure> {
    services.get(name).ok_or_else(|| {
        let known: Vec<_> = services.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "none was pushed yet".to_owned() } else { format!("there are {}", known.join(", ")) };
        refused(
            "no_such_service",
            format!("there is no service {name:?}: {known}; `spool service push FOLDER` adds one"),
        )
    })
}

fn check_name(name: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty()
        || name.len() > NAME_MAX
        || !name.bytes().all(is_word)
        || !name.as_bytes()[0].is_ascii_lowercase()
    {
        return Err(format!("a name is 1 to {NAME_MAX} lower-case letters, digits, - and _, a letter first"));
    }
    if TAKEN.contains(&name) || built_in::has(name) {
        let advice = "choose another; what it does may be changed by pushing a copy of its files under that";
        return Err(format!("the server has a service of this name itself; {advice}"));
    }
    Ok(())
}

/// As people are shown hashes.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|e| std::io::Error::other(format!("{}: {e}", path.display())))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let folder = path.parent().expect("a file lies in a folder");
    let written = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, value)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    written().map_err(|e| unwritable(path, &e))
}
