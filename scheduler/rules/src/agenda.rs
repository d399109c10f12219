//! Which activations wait to fire, kept in step with the facts: what changed is joined with what is there, and nothing else is
//! looked at.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::fact::{Fact, FactId};
use crate::memory::{Memory, mark};
use crate::network::{Check, Join, Least, Network, PatternIx, PatternNet, RuleIx, Source};
use crate::ruleset::How;
use crate::value::Value;

/// A rule and the facts that its positive patterns found, in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) rule: RuleIx,
    pub(crate) facts: Box<[FactId]>,
}

/// Which activation of a key it is: over what it read.
pub(crate) type Digest = u128;

/// Who fires first: the least.
type Order = (Reverse<i64>, u64, u32, Key);

#[derive(Debug, Clone)]
struct Entry {
    digest: Digest,
    trigger: u64,
    /// Under which keys of its conditions' indexes it looks: a change there may end it.
    watches: Vec<(PatternIx, Vec<Value>)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda {
    entries: HashMap<Key, Entry>,
    order: BTreeSet<Order>,
    by_fact: HashMap<FactId, HashSet<Key>>,
    by_watch: HashMap<(RuleIx, PatternIx, Vec<Value>), HashSet<Key>>,
    /// Activations that have fired. Versions only grow, so of a key the last one is enough, except where a collection may become
    /// again what it was.
    fired: HashMap<Key, Vec<Digest>>,
    fired_by_fact: HashMap<FactId, Vec<Key>>,
}

/// A change of a fact: as it was, and as it is.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) old: Option<Arc<Fact>>,
    pub(crate) new: Option<Arc<Fact>>,
}

/// More was looked at than an event may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// What may be looked at yet.
#[derive(Debug)]
pub(crate) struct Budget(pub(crate) u64);

impl Budget {
    fn spend(&mut self) -> Result<(), TooMuch> {
        self.0 = self.0.checked_sub(1).ok_or(TooMuch)?;
        Ok(())
    }
}

impl Agenda {
    /// The activation that fires next.
    pub(crate) fn first(&self) -> Option<(&Key, Digest)> {
        let (.., key) = self.order.first()?;
        Some((key, self.entries[key].digest))
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// In the order in which they would fire.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, Digest)> {
        self.order.iter().map(|(.., key)| (key, self.entries[key].digest))
    }

    pub(crate) fn has_fired(&self, key: &Key, digest: Digest) -> bool {
        self.fired.get(key).is_some_and(|fired| fired.contains(&digest))
    }

    /// It fires now, and never again.
    pub(crate) fn fire(&mut self, net: &Network, key: &Key, digest: Digest) {
        self.drop_entry(net, key);
        self.remember(net, key.clone(), digest);
    }

    pub(crate) fn remember(&mut self, net: &Network, key: Key, digest: Digest) {
        let known = self.fired.entry(key.clone()).or_insert_with(|| {
            for fact in &key.facts {
                self.fired_by_fact.entry(*fact).or_default().push(key.clone());
            }
            Vec::new()
        });
        if !net.rules[key.rule].collects {
            known.clear();
        }
        known.push(digest);
    }

    /// It did not fire after all. It is found again when the agenda is made anew.
    pub(crate) fn forget(&mut self, key: &Key, digest: Digest) {
        if let Some(fired) = self.fired.get_mut(key) {
            fired.retain(|known| *known != digest);
        }
    }

    /// What has fired, for keeping. In no order.
    pub(crate) fn fired(&self) -> impl Iterator<Item = (&Key, &[Digest])> {
        self.fired.iter().map(|(key, digests)| (key, digests.as_slice()))
    }

    /// Follows changes that are in the memory already.
    pub(crate) fn update(
        &mut self,
        net: &Network,
        memory: &Memory,
        changes: &[Change],
        budget: &mut Budget,
    ) -> Result<(), TooMuch> {
        let mut seeds: Vec<(RuleIx, PatternIx, Arc<Fact>)> = Vec::new();
        for Change { old, new } in changes {
            if let Some(old) = old {
                for key in self.by_fact.remove(&old.id).unwrap_or_default() {
                    self.drop_entry(net, &key);
                }
                if new.is_none() {
                    for key in self.fired_by_fact.remove(&old.id).unwrap_or_default() {
                        self.fired.remove(&key);
                    }
                }
            }
            for (fact, is_new) in old.iter().map(|old| (old, false)).chain(new.iter().map(|new| (new, true))) {
                for alpha in net.alphas_of(fact) {
                    for (rule, pattern) in &net.alphas[alpha].users {
                        let how = net.rules[*rule].patterns[*pattern].how;
                        if how != How::Fact {
                            self.end_watchers(net, *rule, *pattern, fact);
                        }
                        if is_new || how != How::Fact {
                            seeds.push((*rule, *pattern, fact.clone()));
                        }
                    }
                }
            }
        }
        for (rule, pattern, fact) in seeds {
            // A later change of the same turn may have replaced it.
            let is_fact = net.rules[rule].patterns[pattern].how == How::Fact;
            if is_fact && memory.get(fact.id).is_none_or(|now| !Arc::ptr_eq(now, &fact)) {
                continue;
            }
            self.seed(net, memory, rule, pattern, fact, budget)?;
        }
        Ok(())
    }

    /// Everything anew, for a memory that was filled before.
    pub(crate) fn rebuild(&mut self, net: &Network, memory: &Memory, budget: &mut Budget) -> Result<(), TooMuch> {
        for fact in memory.iter() {
            for alpha in net.alphas_of(fact) {
                for (rule, pattern) in &net.alphas[alpha].users {
                    // One positive pattern of a rule finds all its activations.
                    if net.rules[*rule].facts.first() == Some(pattern) {
                        self.seed(net, memory, *rule, *pattern, fact.clone(), budget)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn seed(
        &mut self,
        net: &Network,
        memory: &Memory,
        rule: RuleIx,
        pattern: PatternIx,
        fact: Arc<Fact>,
        budget: &mut Budget,
    ) -> Result<(), TooMuch> {
        let mut bound = vec![None; net.rules[rule].patterns.len()];
        bound[pattern] = Some(fact);
        let mut search = Search { net, memory, rule, budget, found: Vec::new() };
        search.join(&net.rules[rule].patterns[pattern].joins, &mut bound)?;
        for (key, entry) in search.found {
            if !self.has_fired(&key, entry.digest) {
                self.insert(net, key, entry);
            }
        }
        Ok(())
    }

    fn insert(&mut self, net: &Network, key: Key, entry: Entry) {
        self.drop_entry(net, &key);
        for fact in &key.facts {
            self.by_fact.entry(*fact).or_default().insert(key.clone());
        }
        for (pattern, value) in &entry.watches {
            self.by_watch.entry((key.rule, *pattern, value.clone())).or_default().insert(key.clone());
        }
        self.order.insert(order(net, &key, entry.trigger));
        self.entries.insert(key, entry);
    }

    fn drop_entry(&mut self, net: &Network, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.order.remove(&order(net, key, entry.trigger));
        for fact in &key.facts {
            if let Some(keys) = self.by_fact.get_mut(fact) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_fact.remove(fact);
                }
            }
        }
        for (pattern, value) in entry.watches {
            let watch = (key.rule, pattern, value);
            if let Some(keys) = self.by_watch.get_mut(&watch) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_watch.remove(&watch);
                }
            }
        }
    }

    /// Whatever looked where this fact of a condition is, or was, is looked for anew.
    fn end_watchers(&mut self, net: &Network, rule: RuleIx, pattern: PatternIx, fact: &Fact) {
        let condition = &net.rules[rule].patterns[pattern];
        let index = condition.index.expect("a condition has an index");
        let Some(value) = net.indexes[index].key.iter().map(|path| fact.at(path)).collect::<Option<Vec<_>>>() else {
            return;
        };
        for key in self.by_watch.remove(&(rule, pattern, value)).unwrap_or_default() {
            self.drop_entry(net, &key);
        }
    }
}

fn order(net: &Network, key: &Key, trigger: u64) -> Order {
    let rule = &net.rules[key.rule];
    (Reverse(rule.salience), trigger, rule.rank, key.clone())
}

/// Facts by the pattern that found them. A condition's fact is bound only while it is the seed.
type Bound = Vec<Option<Arc<Fact>>>;

struct Search<'a> {
    net: &'a Network,
    memory: &'a Memory,
    rule: RuleIx,
    budget: &'a mut Budget,
    found: Vec<(Key, Entry)>,
}

impl Search<'_> {
    fn join(&mut self, joins: &[Join], bound: &mut Bound) -> Result<(), TooMuch> {
        self.budget.spend()?;
        let Some((join, rest)) = joins.split_first() else {
            if let Some(found) = self.judge(bound)? {
                self.found.push(found);
            }
            return Ok(());
        };
        let Some(key) = values(&join.key, bound) else { return Ok(()) };
        // The memory does not change while it is searched.
        let memory = self.memory;
        for id in &memory.bucket(join.index, &key).facts {
            bound[join.pattern] = memory.get(*id).cloned();
            if join.checks.iter().all(|check| holds(check, bound)) {
                self.join(rest, bound)?;
            }
        }
        bound[join.pattern] = None;
        Ok(())
    }

    /// All positive patterns are bound: do the conditions hold?
    fn judge(&mut self, bound: &mut Bound) -> Result<Option<(Key, Entry)>, TooMuch> {
        let rule = &self.net.rules[self.rule];
        let mut hasher = blake3::Hasher::new();
        let (mut trigger, mut watches) = (0, Vec::new());
        for ix in &rule.facts {
            let Some(fact) = &bound[*ix] else { return Ok(None) };
            hasher.update(&fact.id.0.to_le_bytes());
            trigger = trigger.max(fact.born);
            for field in &rule.patterns[*ix].reads {
                let version = fact.version(field);
                trigger = trigger.max(version);
                hasher.update(&version.to_le_bytes());
            }
        }
        for ix in &rule.conditions {
            let condition = &rule.patterns[*ix];
            // What is not there equals nothing: then no fact can be meant.
            let Some(key) = values(&condition.key, bound) else {
                if condition.how == How::None || is_enough(condition, 0, bound) {
                    continue;
                }
                return Ok(None);
            };
            let index = condition.index.expect("a condition has an index");
            let bucket = self.memory.bucket(index, &key);
            let (count, digest) = if condition.checks.is_empty() {
                (bucket.facts.len(), bucket.digest)
            } else {
                let seeded = bound[*ix].take();
                let among = self.among(condition, *ix, bucket, bound)?;
                bound[*ix] = seeded;
                among
            };
            match condition.how {
                How::None if count > 0 => return Ok(None),
                How::Collect if !is_enough(condition, count, bound) => return Ok(None),
                How::Collect => {
                    hasher.update(&digest.to_le_bytes());
                    hasher.update(&count.to_le_bytes());
                }
                _ => {}
            }
            watches.push((*ix, key));
        }
        let facts = rule.facts.iter().filter_map(|ix| bound[*ix].as_ref().map(|fact| fact.id)).collect();
        let digest = u128::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"));
        Ok(Some((Key { rule: self.rule, facts }, Entry { digest, trigger, watches })))
    }

    /// How many of a bucket's facts pass what no index answers, and the digest of those.
    fn among(
        &mut self,
        condition: &PatternNet,
        ix: PatternIx,
        bucket: &crate::memory::Bucket,
        bound: &mut Bound,
    ) -> Result<(usize, u64), TooMuch> {
        let (mut count, mut digest) = (0, 0u64);
        for id in &bucket.facts {
            self.budget.spend()?;
            bound[ix] = self.memory.get(*id).cloned();
            if condition.checks.iter().all(|check| holds(check, bound)) {
                count += 1;
                let fact = bound[ix].as_ref().expect("just bound");
                digest = digest.wrapping_add(mark(fact, &condition.reads));
            }
        }
        bound[ix] = None;
        Ok((count, digest))
    }
}

/// Facts of a collection, oldest first, for an activation whose positive facts are given by pattern.
pub(crate) fn collected(
    net: &Network,
    memory: &Memory,
    rule: RuleIx,
    ix: PatternIx,
    bound: &mut Bound,
) -> Vec<Arc<Fact>> {
    let condition = &net.rules[rule].patterns[ix];
    let Some(key) = values(&condition.key, bound) else { return Vec::new() };
    let bucket = memory.bucket(condition.index.expect("a condition has an index"), &key);
    let mut facts = Vec::new();
    for fact in bucket.facts.iter().filter_map(|id| memory.get(*id)) {
        bound[ix] = Some(fact.clone());
        if condition.checks.iter().all(|check| holds(check, bound)) {
            facts.push(fact.clone());
        }
    }
    bound[ix] = None;
    facts
}

fn is_enough(condition: &PatternNet, count: usize, bound: &Bound) -> bool {
    let least = match &condition.at_least {
        None => Some(Value::Int(1)),
        Some(Least::Const(value)) => Some(value.clone()),
        Some(Least::Of(source)) => value(source, bound),
    };
    let count = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    least.is_some_and(|least| count.compare(&least).is_some_and(|is| is != std::cmp::Ordering::Less))
}

fn value(source: &Source, bound: &Bound) -> Option<Value> {
    bound[source.pattern].as_ref()?.at(&source.path)
}

fn values(sources: &[Source], bound: &Bound) -> Option<Vec<Value>> {
    sources.iter().map(|source| value(source, bound)).collect()
}

fn holds(check: &Check, bound: &Bound) -> bool {
    let right = value(&check.right, bound);
    right.is_some_and(|right| check.op.holds(value(&check.left, bound).as_ref(), &right))
}
