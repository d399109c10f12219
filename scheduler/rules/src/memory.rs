//! The facts of a job, and the indexes over them that its rule set asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::fact::{Fact, FactId};
use crate::network::{AlphaIx, IndexIx, Network};
use crate::value::Value;

#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    facts: BTreeMap<FactId, Arc<Fact>>,
    /// By [`IndexIx`].
    indexes: Vec<HashMap<Vec<Value>, Bucket>>,
    /// Bytes of all facts, about.
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    pub(crate) facts: BTreeSet<FactId>,
    /// Over its facts, the sum of what names each and the versions of what is read of it: changes when any of them does.
    pub(crate) digest: u64,
}

static EMPTY: std::sync::LazyLock<Bucket> = std::sync::LazyLock::new(Bucket::default);

impl Memory {
    pub(crate) fn new(net: &Network) -> Memory {
        Memory { facts: BTreeMap::new(), indexes: vec![HashMap::new(); net.indexes.len()], bytes: 0 }
    }

    pub(crate) fn get(&self, id: FactId) -> Option<&Arc<Fact>> {
        self.facts.get(&id)
    }

    /// By id: oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Fact>> {
        self.facts.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.facts.len()
    }

    pub(crate) fn bucket(&self, index: IndexIx, key: &[Value]) -> &Bucket {
        self.indexes[index].get(key).unwrap_or(&EMPTY)
    }

    /// Puts a fact in the place of the one with its id. Answers with that one.
    pub(crate) fn put(&mut self, net: &Network, fact: Arc<Fact>) -> Option<Arc<Fact>> {
        let old = self.remove(net, fact.id);
        for alpha in net.alphas_of(&fact) {
            for (index, key) in keys(net, alpha, &fact) {
                let bucket = self.indexes[index].entry(key).or_default();
                bucket.facts.insert(fact.id);
                bucket.digest = bucket.digest.wrapping_add(part(net, index, &fact));
            }
        }
        self.bytes += fact.size();
        self.facts.insert(fact.id, fact);
        old
    }

    pub(crate) fn remove(&mut self, net: &Network, id: FactId) -> Option<Arc<Fact>> {
        let old = self.facts.remove(&id)?;
        for alpha in net.alphas_of(&old) {
            for (index, key) in keys(net, alpha, &old) {
                let buckets = &mut self.indexes[index];
                let Some(bucket) = buckets.get_mut(&key) else { continue };
                bucket.facts.remove(&id);
                bucket.digest = bucket.digest.wrapping_sub(part(net, index, &old));
                if bucket.facts.is_empty() {
                    buckets.remove(&key);
                }
            }
        }
        self.bytes = self.bytes.saturating_sub(old.size());
        Some(old)
    }
}

/// Where a fact of the alpha stands in its indexes. A fact without one of the fields stands in none: nothing equals what is not there.
fn keys<'a>(net: &'a Network, alpha: AlphaIx, fact: &'a Fact) -> impl Iterator<Item = (IndexIx, Vec<Value>)> + 'a {
    net.alphas[alpha].indexes.iter().filter_map(|index| {
        let key = net.indexes[*index].key.iter().map(|path| fact.at(path)).collect::<Option<Vec<_>>>()?;
        Some((*index, key))
    })
}

/// A fact's part in the digest of its bucket.
fn part(net: &Network, index: IndexIx, fact: &Fact) -> u64 {
    net.indexes[index].reads.as_ref().map_or(0, |reads| mark(fact, reads))
}

/// Names a fact and the versions of what is read of it.
pub(crate) fn mark(fact: &Fact, reads: &[Arc<str>]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fact.id.0.to_le_bytes());
    for field in reads {
        hasher.update(&fact.version(field).to_le_bytes());
    }
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
