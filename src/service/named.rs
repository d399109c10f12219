//! A service and perhaps a version of it, as people name them: `encode`, `encode@4`, `encode@1f6a90`.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub service: String,
    /// A hash, at least 6 digits of its beginning, or what its author calls the version: of several the newest. Empty: none was named.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_with_its_version_or_alone() {
        assert_eq!("encode@4".parse(), Ok(Named { service: "encode".into(), version: "4".into() }));
        let alone: Named = "encode".parse().expect("a name");
        assert_eq!((alone.version.as_str(), alone.to_string().as_str()), ("", "encode"));
        assert!("encode@".parse::<Named>().unwrap_err().contains("behind the @"));
        assert!("Encode".parse::<Named>().unwrap_err().contains("no name"));
    }
}
