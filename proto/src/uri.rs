//! `file://` URIs: absolute paths, percent-encoded byte for byte, so that any path a file system allows survives the
//! journal and the wire.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Why a URI names no file here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUri {
    #[error("{uri:?} has the scheme {scheme:?}; only file:// is supported")]
    Scheme { uri: String, scheme: String },
    #[error("{uri:?} is not a URI of an absolute path (expected file:///path)")]
    Malformed { uri: String },
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
    let malformed = || BadUri::Malformed { uri: uri.into() };
    let (scheme, rest) = uri.split_once("://").ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(BadUri::Scheme { uri: uri.into(), scheme: scheme.into() });
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
}
