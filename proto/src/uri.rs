//! URIs of sources, outputs and artifacts: `file://`, `http(s)://`, `s3://`, `spool://`. Paths in `file://` are absolute and
//! percent-encoded byte for byte, so that any path a file system allows survives the journal and the wire.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::failure::{Class, Failure};
use crate::ids::JobId;

/// Why a URI names nothing that can be read or written. What is shown of it holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUri {
    #[error("{uri:?} has the scheme {scheme:?}; there are file://, http://, https://, s3:// and spool://")]
    Scheme { uri: String, scheme: String },
    #[error("{uri:?} is not a URI of this form: {expected}")]
    Malformed { uri: String, expected: &'static str },
    #[error(
        "{uri:?} holds a user name or password, which would be kept with the job; give a signed URL, or open the source to the workers"
    )]
    Credentials { uri: String },
}

impl From<BadUri> for Failure {
    fn from(error: BadUri) -> Failure {
        let code = match error {
            BadUri::Scheme { .. } => "unsupported_scheme",
            BadUri::Malformed { .. } | BadUri::Credentials { .. } => "bad_uri",
        };
        Failure::new(Class::Spec, code, error.to_string())
    }
}

const FILE_FORM: &str = "file:///absolute/path";
const HTTP_FORM: &str = "https://host/path";
const S3_FORM: &str = "s3://bucket/key";
const SPOOL_FORM: &str = "spool://j17/name";

/// What a URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of the machine that opens it.
    File(PathBuf),
    /// `http` or `https`: the whole URL, for its query may be what signs it.
    Http(String),
    /// The key as it is: nothing in it is decoded.
    S3 { bucket: String, key: String },
    /// An artifact of a job, in the server's own store. The name is empty for the prefix of all of them.
    Spool { job: JobId, name: String },
}

impl Location {
    /// # Errors
    /// [`BadUri`] for another scheme, a form that the scheme does not have, or credentials in a URL.
    pub fn parse(uri: &str) -> Result<Location, BadUri> {
        let malformed = |expected| BadUri::Malformed { uri: shown(uri), expected };
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| malformed(FILE_FORM))?;
        match scheme.to_ascii_lowercase().as_str() {
            "file" => to_path(uri).map(Location::File),
            "http" | "https" => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let plain = uri.bytes().all(|byte| byte.is_ascii_graphic());
                if authority.contains('@') {
                    return Err(BadUri::Credentials { uri: shown(uri) });
                }
                if authority.is_empty() || !plain || rest.len() == authority.len() {
                    return Err(malformed(HTTP_FORM));
                }
                // A fragment is never sent.
                Ok(Location::Http(uri.split('#').next().unwrap_or_default().into()))
            }
            "s3" => {
                let (bucket, key) = rest.split_once('/').ok_or_else(|| malformed(S3_FORM))?;
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                let whole = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
                if bucket.is_empty() || !bucket.chars().all(is_name) || !whole || key.chars().any(char::is_control) {
                    return Err(malformed(S3_FORM));
                }
                Ok(Location::S3 { bucket: bucket.into(), key: key.into() })
            }
            "spool" => {
                let (job, name) = rest.split_once('/').ok_or_else(|| malformed(SPOOL_FORM))?;
                let job = Some(job).filter(|job| job.starts_with('j')).and_then(|job| job.parse().ok());
                let job = job.ok_or_else(|| malformed(SPOOL_FORM))?;
                if !name.is_empty() && !is_artifact_name(name) {
                    return Err(malformed(SPOOL_FORM));
                }
                Ok(Location::Spool { job, name: name.into() })
            }
            _ => Err(BadUri::Scheme { uri: shown(uri), scheme: scheme.into() }),
        }
    }
}

/// Whether it has the scheme of files.
pub fn is_file(uri: &str) -> bool {
    uri.split_once("://").is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("file"))
}

/// Whether an artifact may have this name: one plain component of a path, never hidden.
pub fn is_artifact_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=200).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// The URI prefix (ends in `/`) of a job's artifacts.
pub fn prefix_of_job(job: JobId) -> String {
    format!("spool://{job}/")
}

/// A URI as it may be printed: without a user, a password, or the query that signs it.
pub fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.into() };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return uri.into();
    }
    let (path, signed) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?…"),
        None => (rest, ""),
    };
    let authority = path.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}{signed}", &path[authority.len()..])
}

/// The last part of what a URI names, for people: `film.mov`.
pub fn file_name(uri: &str) -> Option<String> {
    match Location::parse(uri).ok()? {
        Location::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        Location::Http(url) => {
            let (_, rest) = url.split_once("://")?;
            let path = rest.split('?').next()?.split_once('/')?.1;
            path.rsplit('/').next().filter(|name| !name.is_empty()).map(Into::into)
        }
        Location::S3 { key, .. } => key.rsplit('/').next().map(Into::into),
        Location::Spool { name, .. } => Some(name),
    }
}

/// The URI of an absolute path.
///
/// # Panics
/// When the path is relative: who names a file for others must have made it absolute.
pub fn from_path(path: &Path) -> String {
    assert!(path.is_absolute(), "a URI needs an absolute path, not {path:?}");
    let mut uri = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ => write!(uri, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    uri
}

/// The URI prefix (ends in `/`) of an absolute directory.
///
/// # Panics
/// As [`from_path`].
pub fn prefix_from_path(directory: &Path) -> String {
    let mut uri = from_path(directory);
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

/// The path a `file://` URI names.
///
/// # Errors
/// [`BadUri`] for another scheme, a host, a relative path, a broken escape or a zero byte.
pub fn to_path(uri: &str) -> Result<PathBuf, BadUri> {
    let malformed = || BadUri::Malformed { uri: shown(uri), expected: FILE_FORM };
    let (scheme, rest) = uri.split_once("://").ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(BadUri::Scheme { uri: shown(uri), scheme: scheme.into() });
    }
    let encoded = rest.strip_prefix("localhost").unwrap_or(rest);
    if !encoded.starts_with('/') {
        return Err(malformed());
    }
    let mut path = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16));
            let value = digit().zip(digit()).map(|(high, low)| high * 16 + low).ok_or_else(malformed)?;
            u8::try_from(value).expect("two hexadecimal digits")
        } else {
            byte
        };
        if byte == 0 {
            return Err(malformed());
        }
        path.push(byte);
    }
    Ok(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_survives() {
        let all: Vec<u8> = (1..=255).collect();
        for bytes in [&b"/a b/\xff\xfe%41?#.mov"[..], b"/", &[b"/", &all[..]].concat()] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(to_path(&from_path(&path)), Ok(path));
        }
        assert_eq!(from_path(Path::new("/a b/ü.mov")), "file:///a%20b/%C3%BC.mov");
        assert_eq!(prefix_from_path(Path::new("/a")), "file:///a/");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        assert!(matches!(to_path("s3://bucket/key"), Err(BadUri::Scheme { scheme, .. }) if scheme == "s3"));
        for uri in ["/a", "file://host/a", "file:///%4", "file:///%zz", "file:///a%00b", "file://a"] {
            assert!(matches!(to_path(uri), Err(BadUri::Malformed { .. })), "{uri}");
        }
    }

    #[test]
    fn every_scheme_has_its_form() {
        let http = |url: &str| Location::Http(url.into());
        let s3 = |bucket: &str, key: &str| Location::S3 { bucket: bucket.into(), key: key.into() };
        let spool = |job, name: &str| Location::Spool { job: JobId(job), name: name.into() };
        for (uri, location) in [
            ("FILE:///a%20b", Location::File("/a b".into())),
            ("https://host/a.mp4?sign=x#t=3", http("https://host/a.mp4?sign=x")),
            ("http://[::1]:80/", http("http://[::1]:80/")),
            ("s3://films/a b/%41.mov", s3("films", "a b/%41.mov")),
            ("spool://j3/chunk.f7.piece", spool(3, "chunk.f7.piece")),
            ("spool://j3/", spool(3, "")),
        ] {
            assert_eq!(Location::parse(uri), Ok(location), "{uri}");
        }
        assert_eq!(Location::parse(&prefix_of_job(JobId(3))), Ok(spool(3, "")));
        for uri in [
            "film.mov",
            "http://",
            "https://host",
            "https:///a",
            "https://host/a b",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://b?c/key",
            "spool://3/a",
            "spool://j3",
            "spool://j3/a/b",
            "spool://j3/..",
            "spool://j3/.a",
        ] {
            assert!(matches!(Location::parse(uri), Err(BadUri::Malformed { .. })), "{uri}");
        }
        assert!(matches!(Location::parse("ftp://host/a"), Err(BadUri::Scheme { scheme, .. }) if scheme == "ftp"));
    }

    #[test]
    fn no_credentials_are_shown() {
        let refused = Location::parse("https://anna:geheim@host/a.mp4?key=geheim").unwrap_err();
        assert!(matches!(refused, BadUri::Credentials { .. }));
        let text = refused.to_string();
        assert!(text.contains("https://host/a.mp4?…") && !text.contains("geheim") && !text.contains("anna"), "{text}");
        assert_eq!(shown("https://host/@a?x"), "https://host/@a?…");
        assert_eq!(shown("s3://bucket/a?b"), "s3://bucket/a?b");
    }

    #[test]
    fn the_last_part_is_the_name() {
        for (uri, name) in [
            ("file:///a/b%20c.mov", Some("b c.mov")),
            ("https://host/a/film.mp4?x=1/2", Some("film.mp4")),
            ("https://host/", None),
            ("s3://bucket/a/film.mkv", Some("film.mkv")),
        ] {
            assert_eq!(file_name(uri).as_deref(), name, "{uri}");
        }
    }
}
