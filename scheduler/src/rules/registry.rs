//! The services that were pushed: every version ever, and which of them takes new jobs.
//!
//! ```text
//! DATA/services/NAME/HASH.json      a version: its files, never changed
//! DATA/services/NAME/routes.json    which version takes new jobs
//! ```
//!
//! A file is written aside, synced and renamed, so that what was acknowledged is there whole or, unacknowledged, not at all.

mod service;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use spool_dialect::{Hosted, Keeper, Problem, Severity, Sources};
use spool_proto::failure::{Class, Failure};
use spool_proto::time::Timestamp;
use spool_rules::instance::Program;
use spool_rules::ruleset::RuleSet;

use super::built_in;
use super::canary::{Canary, Routes, Tally};
use super::sections::Runner;
pub(crate) use service::short;
use service::{Service, find, write};

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

impl Version {
    fn new(files: Sources, set: RuleSet, pushed: Timestamp, is_built_in: bool) -> Version {
        Version {
            hash: set.hash.to_string(),
            version: set.version.to_string(),
            pushed,
            rules: u32::try_from(set.rules.len()).unwrap_or(u32::MAX),
            is_built_in,
            files,
            set,
        }
    }
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
    /// Held while files are written, which the run loop does not wait for.
    writing: Mutex<()>,
    /// That come with the server and were not asked for yet, by name.
    unread: Mutex<BTreeMap<String, Sources>>,
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
        let unread = built_in::all().map(|(name, files)| (name.to_owned(), files)).collect();
        Ok(Registry {
            folder,
            keeper,
            services: Mutex::new(services),
            writing: Mutex::default(),
            unread: Mutex::new(unread),
            programs: Mutex::default(),
        })
    }

    /// Reads a service that comes with the server when it is first asked for: most runs of a film need one of them. Versions of servers before
    /// stay for the jobs they have.
    fn bring(&self, name: &str) -> Result<(), Failure> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = unread.remove(name) else { return Ok(()) };
        let mut services = self.services();
        let service = services.entry(name.to_owned()).or_default();
        let hash = files.hash();
        if !service.versions.iter().any(|version| version.hash == hash) {
            // Its sections are run in this process, too.
            let read = spool_dialect::Compiled::new(&files).map_err(|problems| {
                let first = problems.first().map_or_else(String::new, ToString::to_string);
                let message = format!("the service {name}, which comes with this server: {first}");
                Failure::new(Class::Internal, "bad_rules", message)
            })?;
            service.versions.push(Arc::new(Version::new(files, read.set, Timestamp::now(), true)));
        }
        let is_ours = |version: &Arc<Version>| version.hash == service.routes.stable && version.is_built_in;
        let takes_over = service.routes.stable.is_empty() || service.versions.iter().any(is_ours);
        if takes_over && service.routes.stable != hash {
            // Not written: the next start finds the same.
            service.routes = match service.routes.stable.as_str() {
                "" => Routes { stable: hash, ..Routes::default() },
                _ => service.routes.promote(hash, String::new()),
            };
        }
        Ok(())
    }

    /// As [`Registry::resolve`], for a job that is to have the version for as long as it lives.
    ///
    /// # Errors
    /// As there; or when a version that comes with the server cannot be written, which is done at its first job.
    pub(super) fn take(&self, name: &str, version: &str) -> Result<Arc<Version>, Failure> {
        let version = self.resolve(name, version)?;
        let path = self.folder.join(name).join(format!("{}.json", version.hash));
        if version.is_built_in && !path.exists() {
            write(&path, version.as_ref())?;
        }
        Ok(version)
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs the sections of a rule set.
    ///
    /// # Errors
    /// When there is no such version.
    pub(super) fn runner(&self, hash: &str) -> Result<Runner, Failure> {
        let version = self.version(hash)?;
        let files = version.files.clone();
        Ok(if version.is_built_in {
            Runner::Here(files, None)
        } else {
            Runner::Process(Hosted::new(self.keeper.clone(), files))
        })
    }

    pub(super) fn is_built_in(&self, hash: &str) -> bool {
        self.version(hash).is_ok_and(|version| version.is_built_in)
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
        if warnings.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(warnings);
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
    ) -> Result<Pushed, Failure> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = set.service.to_string();
        let known = |services: &BTreeMap<String, Service>| {
            let versions = services.get(&name).map(|service| &service.versions)?;
            versions.iter().find(|version| version.hash == *set.hash).cloned()
        };
        if let Some(version) = known(&self.services()) {
            return Ok(Pushed { version, existing: true, problems });
        }
        let is_first = self.services().get(&name).is_none_or(|service| service.routes.stable.is_empty());
        let version = Arc::new(Version::new(files, set, now, false));
        let folder = self.folder.join(&name);
        write(&folder.join(format!("{}.json", version.hash)), version.as_ref())?;
        let routes = Routes { stable: version.hash.clone(), ..Routes::default() };
        if is_first {
            write(&folder.join("routes.json"), &routes)?;
        }
        let mut services = self.services();
        let service = services.entry(name).or_default();
        if is_first {
            service.routes = routes;
        }
        service.versions.push(version.clone());
        Ok(Pushed { version, existing: false, problems })
    }

    /// # Errors
    /// When one that comes with the server cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<ServiceState>, Failure> {
        for (name, _) in built_in::all() {
            self.bring(name)?;
        }
        Ok(self.services().iter().map(|(name, service)| service.state(name)).collect())
    }

    /// # Errors
    /// When there is no such service.
    pub(crate) fn get(&self, name: &str) -> Result<ServiceState, Failure> {
        self.bring(name)?;
        let services = self.services();
        Ok(find(&services, name)?.state(name))
    }

    /// The version that takes a new job, or the one that is named: by its hash, the beginning of it, or as its author calls it.
    ///
    /// # Errors
    /// When there is no such service or version.
    pub(crate) fn resolve(&self, name: &str, version: &str) -> Result<Arc<Version>, Failure> {
        self.bring(name)?;
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
        self.bring(name)?;
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.changed(name, change)?;
        write(&self.folder.join(name).join("routes.json"), &routes)?;
        let mut services = self.services();
        let service = services.get_mut(name).expect("services are never taken away");
        if let Change::Canary { .. } = change
            && let Some(canary) = &routes.canary
        {
            // It is judged by what it does from now on.
            service.tallies.remove(&canary.hash);
        }
        service.routes = routes;
        Ok(service.state(name))
    }

    /// The routes after a change.
    fn changed(&self, name: &str, change: &Change) -> Result<Routes, Failure> {
        let services = self.services();
        let service = find(&services, name)?;
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
        Ok(routes)
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
