//! The services that come with the server: rules like any others, under `services/` of the repository.

use std::collections::BTreeMap;

use spool_dialect::Sources;

macro_rules! services {
    ($($name:literal: $($file:literal),+;)+) => {
        &[$(($name, &[$(($file, include_str!(concat!("../../../services/", $name, "/", $file)))),+])),+]
    };
}

const SERVICES: &[Service] = services! {
    "audio-encode": "main.star";
    "clip": "main.star";
    "complexity": "main.star";
    "images": "main.star";
    "inspect": "main.star";
    "ladder": "main.star";
    "package": "main.star", "live.star", "tracks.star";
    "quality": "main.star";
    "reencode": "main.star";
    "text": "main.star";
    "title": "main.star";
    "validate": "main.star";
    "video-encode": "main.star", "chunks.star", "results.star", "source.star";
    "watch": "main.star";
};

/// Its name, and its files.
type Service = (&'static str, &'static [(&'static str, &'static str)]);

/// Whether a service of this name comes with the server.
pub(super) fn has(name: &str) -> bool {
    SERVICES.iter().any(|(own, _)| *own == name)
}

/// Each with its name.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Sources)> {
    SERVICES.iter().map(|(name, files)| {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        (*name, Sources(files.collect::<BTreeMap<_, _>>()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_well_and_nothing_about_them_is_suspicious() {
        for (name, files) in all() {
            let (compiled, warnings) = spool_dialect::check(&files).expect("it reads");
            assert_eq!(warnings, [], "{name}");
            assert_eq!(&*compiled.set.service, name, "a service is named as its folder");
        }
    }
}
