//! The services that come with the server: rules like any others, under `services/` of the repository.

use std::collections::BTreeMap;

use spool_dialect::Sources;

macro_rules! services {
    ($($name:literal: $($file:literal),+;)+) => {
        &[$(&[$(($file, include_str!(concat!("../../../services/", $name, "/", $file)))),+]),+]
    };
}

const SERVICES: &[&[(&str, &str)]] = services! {
    "video-encode": "main.star";
};

pub(super) fn all() -> impl Iterator<Item = Sources> {
    SERVICES.iter().map(|files| {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Sources(files.collect::<BTreeMap<_, _>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_well_and_nothing_about_them_is_suspicious() {
        for files in all() {
            let (compiled, warnings) = spool_dialect::check(&files).expect("it reads");
            assert_eq!(warnings, [], "{}", compiled.set.service);
        }
    }
}
