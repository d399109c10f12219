//! One service: its versions, which of them takes new jobs, and the files both lie in.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spool_proto::failure::{Class, Failure};

use super::super::canary::{Routes, Tally};
use super::{PREFIX_MIN, ServiceState, Version, refused};
use crate::files::write_json;

#[derive(Debug, Default)]
pub(super) struct Service {
    /// In order of being pushed.
    pub(super) versions: Vec<Arc<Version>>,
    pub(super) routes: Routes,
    /// Since the server started.
    pub(super) tallies: HashMap<String, Tally>,
    /// Jobs that were routed while there was a canary.
    pub(super) routed: u64,
}

impl Service {
    pub(super) fn read(folder: &Path) -> std::io::Result<Service> {
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

    pub(super) fn state(&self, name: &str) -> ServiceState {
        let tally = |version: &Arc<Version>| self.tallies.get(&version.hash).copied().unwrap_or_default();
        let versions = self.versions.iter().rev().map(|version| (version.clone(), tally(version))).collect();
        ServiceState { name: name.to_owned(), routes: self.routes.clone(), versions }
    }

    /// The version a new job gets: of 100 in a row the canary's share.
    pub(super) fn route(&mut self) -> String {
        let Some(canary) = &self.routes.canary else { return self.routes.stable.clone() };
        self.routed += 1;
        // 61 and 100 have no common divisor: each hundred goes through all places, well mixed.
        let is_canary = self.routed * 61 % 100 < u64::from(canary.percent);
        if is_canary { canary.hash.clone() } else { self.routes.stable.clone() }
    }

    pub(super) fn find(&self, name: &str, version: &str) -> Result<&Arc<Version>, Failure> {
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

pub(super) fn find<'a>(services: &'a BTreeMap<String, Service>, name: &str) -> Result<&'a Service, Failure> {
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

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{} cannot be written: {error}; see to the data directory, then try again", path.display());
    Failure::new(Class::Host, "store_unwritable", message)
}

/// As people are shown hashes.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|e| std::io::Error::other(format!("{}: {e}", path.display())))
}

pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    write_json(path, value).map_err(|e| unwritable(path, &e))
}
