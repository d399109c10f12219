//! The frozen spec of a job of rules: which rule set it began with, and its input.
//!
//! ```text
//! {"service": "rules", "name": NAME, "version": HASH, "input": …}       of a service that somebody pushed
//! {"service": "video-encode", "rules": HASH, … the spec's fields …}     of one that comes with the server: people see its spec as ever
//! {…, "track": …}                                                       the same, as a part of a title: one track of its package
//! ```

use serde_json::Value as Json;
use spool_core::io::Blob;
use spool_core::job::Job;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{RulesSpec, Service};
use spool_rules::value::Value;

use super::registry::Registry;

/// The field that names the rule set of a service that comes with the server.
const RULES: &str = "rules";

/// The field that says what a track is to be for the package it goes into.
pub(super) const TRACK: &str = "track";

pub(super) fn bad_input(service: &str, why: &str) -> Failure {
    Failure::new(Class::Spec, "bad_input", format!("input of {service}: {why}"))
}

/// The job's spec, if its workflow is rules.
pub(crate) fn spec(job: &Job) -> Option<RulesSpec> {
    if !job.request().reactive {
        return None;
    }
    spec_of(&serde_json::from_slice(&job.request().spec).ok()?)
}

/// As [`spec`], of a spec as people are shown it.
pub(crate) fn spec_of(spec: &Json) -> Option<RulesSpec> {
    let mut spec = spec.as_object()?.clone();
    match spec.remove(RULES) {
        Some(Json::String(version)) => {
            let name = spec.remove("service")?.as_str()?.to_owned();
            let track = spec.remove(TRACK);
            let mut input = serde_json::json!({"spec": spec});
            if let Some(track) = track {
                input[TRACK] = track;
            }
            Some(RulesSpec { name, version, input })
        }
        _ => match serde_json::from_value(Json::Object(spec)) {
            Ok(Service::Rules(spec)) => Some(spec),
            _ => None,
        },
    }
}

/// Freezes a spec: with the version that is to run it, and its input as the service wants it. True: its workflow is rules. `track`: of
/// an encode that is a track of a package.
///
/// # Errors
/// When there is no such service or version, or the input is not what it takes.
pub(crate) fn freeze(registry: &Registry, service: Service, track: Option<Json>) -> Result<(Blob, bool), Failure> {
    let json = |service: &Service| serde_json::to_value(service).expect("a spec is plain data with string keys");
    let (spec, is_rules) = match service {
        Service::Rules(rules) => (json(&Service::Rules(freeze_rules(registry, rules)?)), true),
        own @ (Service::VideoEncode(_) | Service::Title(_)) => {
            let version = registry.take(own.name(), "")?;
            let mut spec = json(&own);
            spec[RULES] = version.hash.clone().into();
            if let Some(track) = track {
                spec[TRACK] = track;
            }
            (spec, true)
        }
        other => (json(&other), false),
    };
    Ok((serde_json::to_vec(&spec).expect("plain data").into(), is_rules))
}

fn freeze_rules(registry: &Registry, spec: RulesSpec) -> Result<RulesSpec, Failure> {
    let version = registry.take(&spec.name, &spec.version)?;
    if version.is_built_in && super::registry::TAKEN.contains(&&*spec.name) {
        let why = format!("{} is submitted as what it is: `spool encode`, or a job file", spec.name);
        return Err(Failure::new(Class::Spec, "not_by_rules", why));
    }
    let input: Value = serde_json::from_value(spec.input).map_err(|e| bad_input(&spec.name, &e.to_string()))?;
    let input = spool_rules::schema::conform(&version.set.input, &input)
        .map_err(|mismatch| bad_input(&spec.name, &mismatch.to_string()))?;
    let input = serde_json::to_value(&input).expect("a value is plain data with string keys");
    Ok(RulesSpec { version: version.hash.clone(), input, ..spec })
}
