//! A service and perhaps a version of it, as people name them: `encode`, `encode@4`, `encode@1f6a90`.

use std::fmt;
use std::str::FromStr;

use crate::client::Client;
use crate::client::rules::{State, Version};
use crate::exit::Stop;

/// Digits of a hash that name a version, at least.
const PREFIX_MIN: usize = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub service: String,
    /// A hash, the beginning of one, or what its author calls the version. Empty: none was named.
    pub version: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let (service, version) = match text.split_once('@') {
            Some((_, "")) => return Err(format!("{text:?}: a version goes behind the @, such as encode@4")),
            Some((service, version)) => (service, version),
            None => (text, ""),
        };
        let service = super::init::name(service)?;
        Ok(Named { service, version: version.to_owned() })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, "@{}", self.version) }
    }
}

impl Named {
    /// The version as a server knows it: a hash or its beginning; empty where none was named. An author's name stands for the newest
    /// version that has it.
    ///
    /// # Errors
    /// What the server refuses; a [`Stop`] with exit 2 when no version is called so.
    pub async fn resolve(&self, client: &Client) -> anyhow::Result<String> {
        resolve(client, &self.service, &self.version).await
    }
}

/// As [`Named::resolve`].
///
/// # Errors
/// As [`Named::resolve`].
pub async fn resolve(client: &Client, service: &str, version: &str) -> anyhow::Result<String> {
    if version.is_empty() {
        return Ok(String::new());
    }
    let state = client.service(service, "").await?.state;
    find(&state, version).map(|version| version.hash.clone()).map_err(Stop::usage)
}

fn find<'a>(state: &'a State, wanted: &str) -> Result<&'a Version, String> {
    let is_hash = wanted.len() >= PREFIX_MIN && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_hash: Vec<&Version> =
        state.versions.iter().filter(|version| is_hash && version.hash.starts_with(wanted)).collect();
    match by_hash.as_slice() {
        [one] => return Ok(one),
        [] => {}
        [_, second, ..] => {
            return Err(format!("{}@{wanted}: more than one version begins so, {} too", state.service, second.hash));
        }
    }
    state.versions.iter().find(|version| version.version == wanted).ok_or_else(|| {
        let known: Vec<String> = state.versions.iter().take(5).map(Version::shown).collect();
        let more = if state.versions.len() > 5 { ", …" } else { "" };
        format!("{}@{wanted}: there is no such version; there are {}{more}", state.service, known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(hash: &str, version: &str) -> Version {
        Version { hash: hash.into(), version: version.into(), ..Version::default() }
    }

    #[test]
    fn versions_are_named_by_hash_or_by_their_author() {
        assert_eq!("encode@4".parse(), Ok(Named { service: "encode".into(), version: "4".into() }));
        assert!("encode@".parse::<Named>().unwrap_err().contains("behind the @"));
        assert!("Encode".parse::<Named>().unwrap_err().contains("no name"));
        let versions = vec![version("aaaaaa33", "2"), version("abcdef11", "1"), version("abcdef22", "1")];
        let state = State { service: "s".into(), versions, ..State::default() };
        assert_eq!(find(&state, "1").unwrap().hash, "abcdef11", "the newest");
        assert_eq!(find(&state, "abcdef2").unwrap().hash, "abcdef22");
        assert!(find(&state, "abcdef").unwrap_err().contains("more than one"));
        assert!(find(&state, "3").unwrap_err().contains("2 (aaaaaa33)"));
    }
}
