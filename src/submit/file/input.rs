//! `input` of a job: what is encoded, and which parts of it.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use spool_proto::spec::{Clip, parse};
use spool_proto::time::Span;

use crate::quantity;
use crate::yaml::Text;

/// `film.mov`, or `{uri: film.mov, clips: [{start: 10s, end: 20s}]}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputBody {
    /// A path or a URI.
    pub uri: Option<String>,
    /// Joined, in this order. Empty: all of it.
    pub clips: Vec<Clip>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    clips: Vec<ClipBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClipBody {
    #[serde(default)]
    start: Option<Moment>,
    #[serde(default)]
    end: Option<Moment>,
}

/// `65.5`, `1:05.5`, `1m`.
struct Moment(Span);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let read = parse::time(&text).map_err(D::Error::custom);
        read.or_else(|error| quantity::span(&text).map_err(|_| error)).map(Moment)
    }
}

impl<'de> Deserialize<'de> for InputBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = InputBody;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path, a URI, or {uri, clips}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<InputBody, E> {
                Ok(InputBody { uri: Some(text.into()), clips: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InputBody, A::Error> {
                let Fields { uri, clips } = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let at = |moment: Option<Moment>| moment.map(|Moment(at)| at);
                let clips = clips.into_iter().map(|clip| Clip { start: at(clip.start), end: at(clip.end) });
                Ok(InputBody { uri, clips: clips.collect() })
            }
        }
        deserializer.deserialize_any(Any)
    }
}
