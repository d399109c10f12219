//! The values in a file that YAML has no words for: amounts by resource.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spool_proto::pool::Limits;
use spool_proto::resources::{KNOWN, Resources};

use crate::quantity;

/// `{cpu: 64, memory: 256Gi}`, each in the unit it is kept in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Amounts(pub Limits);

impl Amounts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn resources(&self) -> Resources {
        let mut resources = Resources::ZERO;
        for (name, amount) in &self.0 {
            set(&mut resources, name, *amount);
        }
        resources
    }
}

/// Sets one amount by its name.
pub fn set(resources: &mut Resources, name: &str, amount: u64) {
    let known = match name {
        "cpu" => &mut resources.cpu,
        "memory" => &mut resources.memory,
        "scratch" => &mut resources.scratch,
        "gpu" => &mut resources.gpu,
        "encode_sessions" => &mut resources.encode_sessions,
        "decode_sessions" => &mut resources.decode_sessions,
        _ => {
            if amount == 0 {
                resources.other.remove(name);
            } else {
                resources.other.insert(name.into(), amount);
            }
            return;
        }
    };
    *known = amount;
}

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        // As people list them: cpu before memory before what they named themselves.
        let rank = |name: &str| KNOWN.iter().position(|known| *known == name).unwrap_or(KNOWN.len());
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort_by_key(|name| rank(name));
        for name in names {
            let text = quantity::amount_text(name, self.0[name]);
            match text.parse::<u64>() {
                Ok(number) => map.serialize_entry(name, &number)?,
                Err(_) => map.serialize_entry(name, &text)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Amounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("amounts by resource, such as {cpu: 64, memory: 256Gi}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Amounts, A::Error> {
                let mut amounts = BTreeMap::new();
                while let Some(resource) = map.next_key::<String>()? {
                    let amount = map.next_value_seed(AmountOf(&resource))?;
                    amounts.insert(resource, amount);
                }
                Ok(Amounts(amounts))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// Reads the amount of one resource, written as a number or as a text.
struct AmountOf<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for AmountOf<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for AmountOf<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an amount of {}", self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        quantity::amount(self.0, text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }
}
