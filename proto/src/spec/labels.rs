//! What users write on a job: labels to find it by, and where to tell when it has ended.

use std::collections::BTreeMap;

use super::check::refused;
use crate::failure::Failure;

/// By key.
pub type Labels = BTreeMap<String, String>;

/// Most labels of a job: a bound, not a wish.
pub const LABELS_MAX: usize = 32;
const KEY_MAX: usize = 63;
const VALUE_MAX: usize = 255;
const URL_MAX: usize = 2048;

/// `key=value`.
///
/// # Errors
/// What is wrong with it.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE, such as show=news"))?;
    check_label(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

fn check_label(key: &str, value: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if key.is_empty() || key.len() > KEY_MAX || !key.chars().all(plain) {
        return Err(format!("the label {key:?}: a key has 1 to {KEY_MAX} letters, digits, '.', '_', '-' or '/'"));
    }
    if value.len() > VALUE_MAX || value.chars().any(char::is_control) {
        return Err(format!("the label {key}: a value has at most {VALUE_MAX} bytes, and no control characters"));
    }
    Ok(())
}

pub(super) fn check_labels(labels: &Labels) -> Result<(), Failure> {
    if labels.len() > LABELS_MAX {
        return Err(refused(format!("{} labels; at most {LABELS_MAX} are taken", labels.len())));
    }
    labels.iter().try_for_each(|(key, value)| check_label(key, value).map_err(refused))
}

pub(super) fn check_notify(url: &str) -> Result<(), Failure> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let told = crate::uri::shown(url);
    match host {
        None => Err(refused(format!("--notify {told}: http:// or https:// is called when the job has ended"))),
        Some(host) if host.is_empty() || host.contains('@') => Err(refused(format!(
            "--notify {told}: name a host, without user and password; a secret may stand in the query"
        ))),
        Some(_) if url.len() > URL_MAX || url.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err(refused(format!("--notify {told}: an address has at most {URL_MAX} bytes, and no spaces")))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_addresses_are_judged() {
        assert_eq!(label("show=news=late"), Ok(("show".into(), "news=late".into())));
        assert_eq!(label("a.b/c-d_e="), Ok(("a.b/c-d_e".into(), String::new())));
        for text in ["show", "=x", "sh ow=x", "ä=x", "show=a\nb"] {
            assert!(label(text).is_err(), "{text:?} was taken");
        }
        let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
        assert!(check_labels(&many).is_err_and(|failure| failure.message.contains("at most 32")));
        for url in ["https://a.example/b?c=d", "http://127.0.0.1:9/x"] {
            assert!(check_notify(url).is_ok(), "{url}");
        }
        for url in ["ftp://a", "a.example", "http://", "https://u:p@a/", "http://a/b c"] {
            assert!(check_notify(url).is_err(), "{url} was taken");
        }
        assert!(!check_notify("ftp://a/?key=secret").unwrap_err().message.contains("password"));
    }
}
