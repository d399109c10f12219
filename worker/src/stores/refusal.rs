//! What an object store's errors mean for the one who must act.

use object_store::Error;
use spool_proto::failure::{Class, Failure};

use super::Object;

/// The failure of a read. Says where, and what to do; never the part of a URL that signs it.
pub fn refusal(object: &Object, error: &Error) -> Failure {
    let shown = &object.shown;
    let input = |code: &str, text: String| Failure::new(Class::Input, code, text);
    match (error, http_status(error)) {
        (Error::NotFound { .. }, _) | (_, Some(404 | 410)) => {
            input("source_missing", format!("source {shown} does not exist there; check the address"))
        }
        (Error::Precondition { .. }, _) | (_, Some(412)) => changed(shown),
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
            input("source_unreadable", format!("source {shown} may not be read ({}); {}", cause(error), advice(shown)))
        }
        (_, Some(status @ 400..500)) if !matches!(status, 408 | 429) => {
            input("source_unreadable", format!("source {shown} cannot be read: {}; check the address", cause(error)))
        }
        _ if needs_credentials(error) => {
            input("source_unreadable", format!("source {shown} may not be read: no credentials; {}", advice(shown)))
        }
        _ => Failure::new(
            Class::Transient,
            "source_unreachable",
            format!(
                "source {shown} could not be fetched: {}; check the address, the store and the network",
                cause(error)
            ),
        ),
    }
}

/// It is not what it was when the job, or the call, first looked.
pub fn changed(shown: &str) -> Failure {
    let text = format!(
        "source {shown} changed while it was encoded; leave it alone until the job is done, and submit the job again"
    );
    Failure::new(Class::Input, "source_changed", text)
}

/// Worth another try, with the same request.
pub fn is_transient(failure: &Failure) -> bool {
    failure.class == Class::Transient
}

/// Answered a request for a range with everything, or with what cannot be told.
pub fn is_without_ranges(error: &Error) -> bool {
    let text = cause(error);
    text.contains("Range request not supported")
        || text.contains("non-partial response")
        || text.contains("CONTENT_RANGE")
        || text.contains("Content-Range")
}

pub fn advice(shown: &str) -> &'static str {
    if shown.starts_with("s3://") {
        "give the workers AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (AWS_ENDPOINT_URL for a store that is not Amazon's), \
         or a role, that may do this"
    } else {
        "give a signed URL, or open it to the workers"
    }
}

/// The innermost cause: those around it repeat it beside the URL, which may hold a signature.
pub fn cause(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    let text = innermost.to_string();
    // A server's page about it is not for here.
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The HTTP status in an error. The crate keeps its own type to itself, but not its words.
pub fn http_status(error: &Error) -> Option<u16> {
    let (_, rest) = cause(error).split_once("status code: ").map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    rest.get(..3)?.parse().ok()
}

/// Nothing was found to sign with: the last place asked is the cloud's own machine metadata.
fn needs_credentials(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.to_string().contains("169.254.169.254") {
            return true;
        }
        cause = inner.source();
    }
    false
}
