//! Pools as a file: `apiVersion`, `kind`, `metadata`, `spec`, in YAML.
//!
//! `kind: PoolTree` is the whole tree, nested; `kind: Pool` is one pool without those below it. What [`tree_text`] and
//! [`pool_text`] print, [`parse`] reads: a field that is left out is as usual, a field that is not known is refused by its path
//! and line.

mod values;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};
use spool_proto::pool::{PoolName, PoolSpec, PoolTree, Preemption, WarmSpec};

use values::Amounts;
pub use values::set as set_amount;

use crate::yaml::{Time, read};

const API_VERSION: &str = "spool/v1";
const TREE: &str = "PoolTree";
const POOL: &str = "Pool";

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub enum Manifest {
    /// All pools. The root and the default pool are implied.
    Tree { version: Option<u64>, tree: PoolTree },
    /// One pool; those below it stay.
    Pool { version: Option<u64>, name: PoolName, spec: PoolSpec },
}

/// What every document begins with, read first to know how to read the rest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Of the tree when it was read. Given: applied only if the tree is there still.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tree {
    #[serde(skip_serializing_if = "Node::is_usual")]
    root: Node,
    pools: Vec<Node>,
}

/// A pool. Name and pools are left out where the place says them: at the root, and of a single pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Node {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    guarantee: Amounts,
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    borrow: Amounts,
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    lend: Amounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preemption: Option<Preemption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_queued: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    warm: BTreeMap<String, Warm>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Warm {
    min: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<Time>,
}

impl Node {
    fn is_usual(&self) -> bool {
        *self == Node::default()
    }

    fn of(name: Option<&str>, spec: &PoolSpec) -> Node {
        let usual = PoolSpec::default();
        let warm = |warm: &WarmSpec| Warm {
            min: warm.min,
            max: warm.max,
            idle_timeout: (warm.idle_timeout != WarmSpec::idle_timeout_default()).then_some(Time(warm.idle_timeout)),
        };
        Node {
            name: name.map(Into::into),
            guarantee: Amounts(spec.guarantee.iter().map(|(name, amount)| (name.into(), amount)).collect()),
            borrow: Amounts(spec.borrow.clone()),
            lend: Amounts(spec.lend.clone()),
            weight: (spec.weight != usual.weight).then_some(spec.weight),
            grace: (spec.grace != usual.grace).then_some(Time(spec.grace)),
            preemption: (spec.preemption != usual.preemption).then_some(spec.preemption),
            max_queued: spec.max_queued,
            warm: spec.warm.iter().map(|(key, spec)| (key.clone(), warm(spec))).collect(),
            pools: Vec::new(),
        }
    }

    fn spec(&self) -> PoolSpec {
        let usual = PoolSpec::default();
        let warm = |warm: &Warm| WarmSpec {
            min: warm.min,
            max: warm.max,
            idle_timeout: warm.idle_timeout.map_or_else(WarmSpec::idle_timeout_default, |time| time.0),
        };
        PoolSpec {
            guarantee: self.guarantee.resources(),
            borrow: self.borrow.0.clone(),
            lend: self.lend.0.clone(),
            weight: self.weight.unwrap_or(usual.weight),
            preemption: self.preemption.unwrap_or(usual.preemption),
            grace: self.grace.map_or(usual.grace, |time| time.0),
            max_queued: self.max_queued,
            warm: self.warm.iter().map(|(key, spec)| (key.clone(), warm(spec))).collect(),
        }
    }

    /// Where only a pool's own numbers belong.
    fn alone(&self, path: &str) -> Result<PoolSpec, String> {
        match (&self.name, self.pools.as_slice()) {
            (Some(_), _) => Err(format!("{path}.name: its place says which pool it is; leave the name out")),
            (None, [_, ..]) => Err(format!("{path}.pools: pools do not go here; they go below spec.pools of a {TREE}")),
            (None, []) => Ok(self.spec()),
        }
    }
}

/// Reads a file called `source`.
///
/// # Errors
/// What is wrong, with the source, the line and the path of the field.
pub fn parse(source: &str, text: &str) -> Result<Manifest, String> {
    let at = |path: String| format!("{source}: {path}");
    let head: Head = read(source, text)?;
    if head.api_version != API_VERSION {
        return Err(at(format!("apiVersion: {:?} is not known here; expected {API_VERSION}", head.api_version)));
    }
    match head.kind.as_str() {
        TREE => {
            let document: Document<Tree> = read(source, text)?;
            if document.metadata.name.is_some() {
                return Err(at("metadata.name: there is one tree and it has no name; leave it out".into()));
            }
            let tree = tree(&document.spec).map_err(at)?;
            Ok(Manifest::Tree { version: document.metadata.version, tree })
        }
        POOL => {
            let document: Document<Node> = read(source, text)?;
            let name = document.metadata.name.ok_or("metadata.name: missing; name the pool, such as studio/marketing");
            let name = PoolName::from(name.map_err(|e| at(e.into()))?.as_str());
            name.check().map_err(|e| at(format!("metadata.name: {e}")))?;
            let spec = document.spec.alone("spec").map_err(at)?;
            Ok(Manifest::Pool { version: document.metadata.version, name, spec })
        }
        other => Err(at(format!("kind: {other:?} is not known here; expected {TREE} or {POOL}"))),
    }
}

fn tree(spec: &Tree) -> Result<PoolTree, String> {
    let mut tree = PoolTree::default();
    tree.pools.insert(PoolName::root(), spec.root.alone("spec.root")?);
    // The default pool may be named once without being there twice.
    tree.pools.remove(&PoolName::default());
    add(&mut tree, None, "spec", &spec.pools)?;
    tree.pools.entry(PoolName::default()).or_default();
    Ok(tree)
}

fn add(tree: &mut PoolTree, parent: Option<&PoolName>, path: &str, nodes: &[Node]) -> Result<(), String> {
    for (i, node) in nodes.iter().enumerate() {
        let path = format!("{path}.pools[{i}]");
        let Some(own) = &node.name else { return Err(format!("{path}.name: missing")) };
        if own.contains('/') {
            return Err(format!("{path}.name: {own} names several levels; nest pools below each other instead"));
        }
        let name = PoolName::from(parent.map_or_else(|| own.clone(), |parent| format!("{parent}/{own}")).as_str());
        name.check().map_err(|e| format!("{path}.name: {e}"))?;
        match tree.pools.entry(name.clone()) {
            Entry::Vacant(free) => free.insert(node.spec()),
            Entry::Occupied(_) => return Err(format!("{path}.name: pool {name} is there twice")),
        };
        add(tree, Some(&name), &path, &node.pools)?;
    }
    Ok(())
}

/// The whole tree, as [`parse`] reads it.
pub fn tree_text(version: u64, tree: &PoolTree) -> anyhow::Result<String> {
    let root = tree.pools.get(&PoolName::root()).map(|spec| Node::of(None, spec)).unwrap_or_default();
    let spec = Tree { root, pools: nodes(tree, &PoolName::root()) };
    text(TREE, Metadata { name: None, version: Some(version) }, spec)
}

fn nodes(tree: &PoolTree, parent: &PoolName) -> Vec<Node> {
    let node = |name: &PoolName| {
        let own = name.0.rsplit('/').next().unwrap_or_default();
        Node { pools: nodes(tree, name), ..Node::of(Some(own), &tree.pools[name]) }
    };
    tree.children(parent).map(node).collect()
}

/// One pool, as [`parse`] reads it.
pub fn pool_text(version: u64, name: &PoolName, spec: &PoolSpec) -> anyhow::Result<String> {
    let metadata = Metadata { name: Some(name.to_string()), version: Some(version) };
    text(POOL, metadata, Node::of(None, spec))
}

fn text<S: Serialize>(kind: &str, metadata: Metadata, spec: S) -> anyhow::Result<String> {
    crate::output::yaml(&Document { api_version: API_VERSION.into(), kind: kind.into(), metadata, spec })
}

#[cfg(test)]
mod tests;
