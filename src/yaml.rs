//! Files that people write: YAML read with the line and the path of what is wrong, and the values YAML has no words for.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spool_proto::time::Span;

use crate::quantity;

/// One document, with the path of what is wrong.
pub fn read<T: DeserializeOwned>(source: &str, text: &str) -> Result<T, String> {
    let path = RefCell::new(String::new());
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        let mut track = serde_path_to_error::Track::new();
        let value = T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track));
        *path.borrow_mut() = track.path().to_string();
        value
    });
    read.map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        let error = error.without_snippet().to_string();
        let error = error.trim_start_matches("error: ");
        // It says the place once more, in front or behind.
        let what = error.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).map_or(error, |(_, what)| what);
        let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what);
        match path.into_inner() {
            path if path.is_empty() || path == "." || path.ends_with('?') => format!("{source}{place}: {what}"),
            path => format!("{source}{place}: {path}: {what}"),
        }
    })
}

/// `10s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Time(pub Span);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&quantity::span_text(self.0))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        quantity::span(&text).map(Time).map_err(D::Error::custom)
    }
}

/// A text that may also be written as a plain number: `128k`, `128000`.
#[derive(Debug, Clone, PartialEq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.into()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
