//! What a job knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ruleset::{ID, Path};
use crate::value::Value;

/// A fact of one job. Never used again, even when the fact is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FactId(pub u64);

impl fmt::Display for FactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl FactId {
    pub fn parse(text: &str) -> Option<FactId> {
        text.strip_prefix('f')?.parse().ok().map(FactId)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub id: FactId,
    pub kind: Arc<str>,
    pub fields: BTreeMap<Arc<str>, Field>,
    /// When it came to be.
    pub born: u64,
    /// How many firings it is away from what came from outside.
    pub depth: u32,
}

/// A field and when it last changed: a number of the job's own order of changes, so the later change has the greater number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub value: Value,
    pub version: u64,
}

impl Fact {
    /// What stands at the path. The fact's handle under `id`.
    pub fn at(&self, path: &Path) -> Option<Value> {
        let (first, rest) = path.0.split_first()?;
        if first.as_ref() == ID {
            return rest.is_empty().then(|| Value::text(self.id.to_string()));
        }
        let mut found = &self.fields.get(first)?.value;
        for key in rest {
            found = found.get(key)?;
        }
        Some(found.clone())
    }

    /// When the field changed; when the fact came to be, for one it does not have.
    pub fn version(&self, field: &str) -> u64 {
        self.fields.get(field).map_or(self.born, |field| field.version)
    }

    /// As sections see it: its fields and its handle.
    pub fn value(&self) -> Value {
        let fields = self.fields.iter().map(|(name, field)| (name.clone(), field.value.clone()));
        Value::map(fields.chain([(Arc::from(ID), Value::text(self.id.to_string()))]))
    }

    /// Bytes, about.
    pub fn size(&self) -> u64 {
        let text = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
        64 + text(&self.kind) + self.fields.iter().map(|(name, f)| 24 + text(name) + f.value.size()).sum::<u64>()
    }
}
