//! What matching a rule set takes, worked out once: which sets of facts its patterns share, by which fields they are looked up, and
//! in which order a rule's patterns are joined when one of them has changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::fact::Fact;
use crate::ruleset::{How, Op, Operand, Path, Pattern, RuleSet, Test};
use crate::value::Value;

/// The facts of one type that pass the same constant tests: an alpha memory.
pub(crate) type AlphaIx = usize;
/// An alpha's facts by some of their fields.
pub(crate) type IndexIx = usize;
pub(crate) type RuleIx = usize;
/// Of a pattern in its rule.
pub(crate) type PatternIx = usize;

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) alphas: Vec<Alpha>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) rules: Vec<RuleNet>,
    /// Alphas by type.
    kinds: HashMap<Arc<str>, KindNet>,
}

#[derive(Debug)]
pub(crate) struct Alpha {
    kind: Arc<str>,
    tests: Vec<Test>,
    pub(crate) indexes: Vec<IndexIx>,
    /// Who looks for them.
    pub(crate) users: Vec<(RuleIx, PatternIx)>,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) alpha: AlphaIx,
    /// May be empty: all facts of the alpha in one bucket.
    pub(crate) key: Vec<Path>,
    /// Fields whose versions are summed up over a bucket: what a collect pattern reads.
    pub(crate) reads: Option<Vec<Arc<str>>>,
}

/// Alphas of one type, found by a constant that one of their tests wants, so that a fact is held only against those that it may be in.
#[derive(Debug, Default)]
struct KindNet {
    by_constant: BTreeMap<Path, HashMap<Value, Vec<AlphaIx>>>,
    others: Vec<AlphaIx>,
}

#[derive(Debug)]
pub(crate) struct RuleNet {
    /// Of the name among all rules' names: the last word in who fires first.
    pub(crate) rank: u32,
    pub(crate) salience: i64,
    /// One a pattern.
    pub(crate) patterns: Vec<PatternNet>,
    /// Positive patterns, in order: what an activation is made of.
    pub(crate) facts: Vec<PatternIx>,
    /// The others.
    pub(crate) conditions: Vec<PatternIx>,
    pub(crate) collects: bool,
}

#[derive(Debug)]
pub(crate) struct PatternNet {
    pub(crate) how: How,
    pub(crate) alpha: AlphaIx,
    /// Whose change makes another activation of it.
    pub(crate) reads: Vec<Arc<str>>,
    /// The joins to do when a fact of this pattern has changed.
    pub(crate) joins: Vec<Join>,
    /// Of a condition: where its facts are, and what they are held against.
    pub(crate) index: Option<IndexIx>,
    pub(crate) key: Vec<Source>,
    pub(crate) checks: Vec<Check>,
    pub(crate) at_least: Option<Least>,
}

#[derive(Debug)]
pub(crate) enum Least {
    Const(Value),
    Of(Source),
}

/// A value of a fact that is bound already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) pattern: PatternIx,
    pub(crate) path: Path,
}

/// `left op right`, between two facts.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) left: Source,
    pub(crate) op: Op,
    pub(crate) right: Source,
}

/// Bind one pattern more.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) pattern: PatternIx,
    pub(crate) index: IndexIx,
    pub(crate) key: Vec<Source>,
    pub(crate) checks: Vec<Check>,
}

impl Network {
    pub(crate) fn new(set: &RuleSet) -> Network {
        let mut net = Network { alphas: Vec::new(), indexes: Vec::new(), rules: Vec::new(), kinds: HashMap::new() };
        let mut names: Vec<_> = set.rules.iter().map(|rule| rule.name.clone()).collect();
        names.sort();
        for (at, rule) in set.rules.iter().enumerate() {
            let rank = names.iter().position(|name| *name == rule.name).unwrap_or(at);
            let mut patterns: Vec<PatternNet> =
                rule.patterns.iter().enumerate().map(|(ix, pattern)| net.pattern(at, ix, pattern)).collect();
            let links = links(&rule.patterns);
            for seed in 0..patterns.len() {
                let links = seeding(&links, &rule.patterns, seed);
                patterns[seed].joins = net.joins(&rule.patterns, &patterns, &links, seed);
            }
            for ix in 0..patterns.len() {
                if patterns[ix].how != How::Fact {
                    net.condition(&rule.patterns, &mut patterns, &links, ix);
                }
            }
            let is_fact = |ix: &PatternIx| rule.patterns[*ix].how == How::Fact;
            let (facts, conditions) = (0..patterns.len()).partition(is_fact);
            net.rules.push(RuleNet {
                rank: u32::try_from(rank).unwrap_or(u32::MAX),
                salience: rule.salience,
                collects: rule.patterns.iter().any(|pattern| pattern.how == How::Collect),
                patterns,
                facts,
                conditions,
            });
        }
        net
    }

    fn pattern(&mut self, rule: RuleIx, ix: PatternIx, pattern: &Pattern) -> PatternNet {
        let mut tests: Vec<Test> =
            pattern.tests.iter().filter(|test| matches!(test.operand, Operand::Const(_))).cloned().collect();
        tests.sort_by(|a, b| (&a.path, a.op, &a.operand).cmp(&(&b.path, b.op, &b.operand)));
        let alpha = self.alpha(&pattern.kind, tests);
        self.alphas[alpha].users.push((rule, ix));
        let tested = pattern.tests.iter().map(|test| test.path.field());
        let mut reads: Vec<_> = tested.chain(&pattern.reads).cloned().collect();
        reads.sort();
        reads.dedup();
        PatternNet {
            how: pattern.how,
            alpha,
            reads,
            joins: Vec::new(),
            index: None,
            key: Vec::new(),
            checks: Vec::new(),
            at_least: None,
        }
    }

    fn alpha(&mut self, kind: &Arc<str>, tests: Vec<Test>) -> AlphaIx {
        let found = self.alphas.iter().position(|alpha| alpha.kind == *kind && alpha.tests == tests);
        found.unwrap_or_else(|| {
            let ix = self.alphas.len();
            let kinds = self.kinds.entry(kind.clone()).or_default();
            let constant = tests.iter().find_map(|test| match (&test.op, &test.operand) {
                (Op::Eq, Operand::Const(value)) => Some((test.path.clone(), value.clone())),
                _ => None,
            });
            match constant {
                Some((path, value)) => {
                    kinds.by_constant.entry(path).or_default().entry(value).or_default().push(ix);
                }
                None => kinds.others.push(ix),
            }
            self.alphas.push(Alpha { kind: kind.clone(), tests, indexes: Vec::new(), users: Vec::new() });
            ix
        })
    }

    fn index(&mut self, alpha: AlphaIx, key: Vec<Path>, reads: Option<Vec<Arc<str>>>) -> IndexIx {
        let same = |index: &Index| index.alpha == alpha && index.key == key && index.reads == reads;
        self.indexes.iter().position(same).unwrap_or_else(|| {
            let ix = self.indexes.len();
            self.indexes.push(Index { alpha, key, reads });
            self.alphas[alpha].indexes.push(ix);
            ix
        })
    }

    /// In which order to bind the positive patterns when `seed` is bound: the one that most equalities tie down next.
    fn joins(&mut self, patterns: &[Pattern], nets: &[PatternNet], links: &[Check], seed: PatternIx) -> Vec<Join> {
        let mut bound = vec![seed];
        let mut left: Vec<PatternIx> =
            (0..patterns.len()).filter(|ix| *ix != seed && patterns[*ix].how == How::Fact).collect();
        let mut joins = Vec::new();
        while !left.is_empty() {
            let ties = |ix: PatternIx| {
                let tied = links.iter().filter(|link| {
                    link.op == Op::Eq && link.other(ix).is_some_and(|other| bound.contains(&other.pattern))
                });
                tied.count()
            };
            // The first of those with most.
            let next = left.iter().copied().rev().max_by_key(|ix| ties(*ix)).expect("some are left");
            left.retain(|ix| *ix != next);
            let (key, sources, checks) = tied(links, next, &bound);
            let index = self.index(nets[next].alpha, key, None);
            joins.push(Join { pattern: next, index, key: sources, checks });
            bound.push(next);
        }
        joins
    }

    fn condition(&mut self, patterns: &[Pattern], nets: &mut [PatternNet], links: &[Check], ix: PatternIx) {
        let facts: Vec<PatternIx> = (0..patterns.len()).filter(|at| patterns[*at].how == How::Fact).collect();
        let (key, sources, checks) = tied(links, ix, &facts);
        let reads = (patterns[ix].how == How::Collect).then(|| nets[ix].reads.clone());
        let index = self.index(nets[ix].alpha, key, reads);
        let at_least = match &patterns[ix].at_least {
            Some(Operand::Const(value)) => Some(Least::Const(value.clone())),
            Some(Operand::Var { of, path }) => {
                let pattern = find(patterns, of);
                pattern.map(|pattern| Least::Of(Source { pattern, path: path.clone() }))
            }
            None => None,
        };
        let net = &mut nets[ix];
        (net.index, net.key, net.checks, net.at_least) = (Some(index), sources, checks, at_least);
    }

    /// The alphas a fact is in.
    pub(crate) fn alphas_of(&self, fact: &Fact) -> Vec<AlphaIx> {
        let Some(kinds) = self.kinds.get(&fact.kind) else { return Vec::new() };
        let constants = kinds.by_constant.iter().filter_map(|(path, values)| values.get(&fact.at(path)?));
        let candidates = constants.flatten().chain(&kinds.others);
        let passes = |alpha: &&AlphaIx| {
            self.alphas[**alpha].tests.iter().all(|test| {
                let Operand::Const(operand) = &test.operand else { return false };
                test.op.holds(fact.at(&test.path).as_ref(), operand)
            })
        };
        candidates.filter(passes).copied().collect()
    }
}

/// Tests between two facts of a rule.
fn links(patterns: &[Pattern]) -> Vec<Check> {
    let mut links = Vec::new();
    for (ix, pattern) in patterns.iter().enumerate() {
        for Test { path, op, operand } in &pattern.tests {
            let Operand::Var { of, path: theirs } = operand else { continue };
            let Some(other) = find(patterns, of) else { continue };
            links.push(Check {
                left: Source { pattern: ix, path: path.clone() },
                op: *op,
                right: Source { pattern: other, path: theirs.clone() },
            });
        }
    }
    links
}

/// The links to join by from a seed. A fact of a condition speaks for all who look where it is, whatever else they ask of it: only what
/// says where that is counts.
fn seeding(links: &[Check], patterns: &[Pattern], seed: PatternIx) -> Vec<Check> {
    if patterns[seed].how == How::Fact {
        return links.to_vec();
    }
    let mut looked_up = Vec::new();
    let is_where = |link: &&Check| {
        if link.left.pattern != seed {
            return link.right.pattern != seed;
        }
        let is_first = link.op == Op::Eq && !looked_up.contains(&link.left.path);
        if link.op == Op::Eq {
            looked_up.push(link.left.path.clone());
        }
        is_first
    };
    links.iter().filter(is_where).cloned().collect()
}

fn find(patterns: &[Pattern], name: &Arc<str>) -> Option<PatternIx> {
    patterns.iter().position(|pattern| pattern.how == How::Fact && pattern.name.as_ref() == Some(name))
}

/// How pattern `ix` is tied to those that are bound: fields to look it up by, the values for them, and what is left to check.
fn tied(links: &[Check], ix: PatternIx, bound: &[PatternIx]) -> (Vec<Path>, Vec<Source>, Vec<Check>) {
    let mut keys: Vec<(Path, Source)> = Vec::new();
    let mut checks = Vec::new();
    for link in links {
        let Some(other) = link.other(ix) else { continue };
        if !bound.contains(&other.pattern) {
            continue;
        }
        let mine = if link.left.pattern == ix { &link.left } else { &link.right };
        if link.op == Op::Eq && !keys.iter().any(|(path, _)| *path == mine.path) {
            keys.push((mine.path.clone(), other.clone()));
        } else {
            checks.push(link.clone());
        }
    }
    keys.sort();
    let (key, sources) = keys.into_iter().unzip();
    (key, sources, checks)
}

impl Check {
    /// The other side of a test in which the pattern takes part.
    fn other(&self, ix: PatternIx) -> Option<&Source> {
        match (self.left.pattern == ix, self.right.pattern == ix) {
            (true, false) => Some(&self.right),
            (false, true) => Some(&self.left),
            _ => None,
        }
    }
}
