use spool_proto::pool::Limits;

use super::*;

fn cpu(cores: u64) -> Resources {
    Resources::cpu_memory(cores, 0)
}

fn limits(cores: u64) -> Limits {
    [("cpu".to_owned(), cores)].into()
}

fn spec(guarantee: u64) -> PoolSpec {
    PoolSpec { guarantee: cpu(guarantee), ..PoolSpec::default() }
}

struct Tree {
    pools: Pools,
    kinds: Kinds,
}

impl Tree {
    fn new(named: &[(&str, PoolSpec)]) -> Tree {
        let mut tree = PoolTree::default();
        tree.pools.extend(named.iter().map(|(name, spec)| (PoolName::from(*name), spec.clone())));
        tree.check().unwrap();
        let mut kinds = Kinds::default();
        let pools = Pools::new(&tree, &|_| Hold::Open, &mut kinds);
        let mut tree = Tree { pools, kinds };
        tree.set_fleet(100);
        tree
    }

    fn set_fleet(&mut self, cores: u64) {
        self.pools.set_fleet(&cpu(cores), &mut self.kinds);
    }

    fn at(&self, name: &str) -> PoolIx {
        self.pools.find(&name.into()).unwrap()
    }

    fn need(&mut self, cores: u64) -> Need {
        self.kinds.need(&cpu(cores))
    }

    fn charge(&mut self, name: &str, cores: u64) {
        let need = self.need(cores);
        self.pools.charge(self.at(name), &need);
    }

    fn admits(&mut self, name: &str, cores: u64) -> Result<(), String> {
        let need = self.need(cores);
        self.pools.admits(self.at(name), &need).map_err(|over| self.pools.name(over.pool).to_string())
    }

    fn usage(&self, name: &str) -> u64 {
        self.pools.usage(self.at(name), CPU)
    }
}

const CPU: Kind = Kind::CPU;

#[test]
fn a_parents_guarantee_contains_its_childrens() {
    let tree = Tree::new(&[("a", spec(10)), ("a/x", spec(4)), ("a/y", spec(3)), ("b", spec(0)), ("b/x", spec(5))]);
    let held = |name: &str| tree.pools.held(tree.at(name), CPU);
    assert_eq!((held("a"), held("a/x"), held("b"), held("b/x"), held("/")), (10, 4, 5, 5, 15));
    assert_eq!(tree.pools.subtree(tree.at("a"), CPU), 10);
}

#[test]
fn what_is_not_lent_stays_with_its_pool() {
    let keeps = PoolSpec { lend: limits(1), ..spec(4) };
    let mut tree = Tree::new(&[("/", spec(10)), ("a", keeps), ("b", spec(0))]);
    let subtree = tree.pools.subtree(PoolIx::ROOT, CPU);
    assert_eq!(subtree, 7, "three of a's four are only its own");
    assert_eq!(tree.admits("b", 8), Err("/".into()));
    tree.charge("b", 7);
    assert_eq!(tree.admits("a", 3), Ok(()), "its own is there whoever borrows");
    assert_eq!(tree.admits("a", 4), Err("/".into()));
    tree.charge("a", 3);
    assert_eq!((tree.usage("a"), tree.usage("/")), (3, 7));
    tree.pools.release(tree.at("a"), &tree.kinds.clone().need(&cpu(3)));
    assert_eq!((tree.usage("a"), tree.usage("/")), (0, 7));
}

#[test]
fn what_is_not_lent_is_kept_of_a_fleet_without_a_ceiling() {
    let keeps = PoolSpec { lend: limits(1), ..spec(4) };
    let mut tree = Tree::new(&[("a", keeps), ("b", spec(0))]);
    tree.set_fleet(10);
    assert_eq!(tree.admits("b", 8), Err("/".into()));
    tree.charge("b", 7);
    assert_eq!((tree.admits("a", 3), tree.admits("a", 4)), (Ok(()), Err("/".into())));
    tree.set_fleet(0);
    assert_eq!(tree.admits("b", 1), Ok(()), "nobody knows what the fleet will be");
    tree.set_fleet(3);
    assert_eq!((tree.admits("b", 1), tree.admits("a", 3)), (Err("/".into()), Ok(())), "less than is guaranteed");
    let lends_all = PoolSpec { lend: limits(4), ..spec(4) };
    let mut tree = Tree::new(&[("a", lends_all), ("b", spec(0))]);
    tree.set_fleet(3);
    assert_eq!(tree.admits("b", 9), Ok(()), "the workers are limit enough");
}

#[test]
fn the_largest_task_is_the_one_that_could_be_admitted() {
    let keeps = PoolSpec { lend: limits(1), ..spec(4) };
    let capped = PoolSpec { borrow: limits(2), ..spec(3) };
    let mut tree = Tree::new(&[("a", keeps), ("a/x", spec(2)), ("b", capped), ("c", spec(0))]);
    tree.set_fleet(10);
    let mut all = Vec::new();
    for (name, fixed) in [("a/x", false), ("b", false), ("c", false), ("a/x", true), ("b", true), ("c", true)] {
        let could = |cores: &u64| {
            tree.pools.could_admit_as(tree.at(name), &tree.kinds.clone().need(&cpu(*cores)), fixed).is_ok()
        };
        let most = (0..100).take_while(could).last();
        assert_eq!(most, Some(tree.pools.most(tree.at(name), CPU, fixed)), "{name} {fixed}");
        all.extend(most);
    }
    assert_eq!(all, [10, 5, 7, 2, 3, 7]);
}

#[test]
fn a_borrow_limit_holds_at_every_ancestor() {
    let capped = PoolSpec { borrow: limits(2), ..spec(4) };
    let mut tree = Tree::new(&[("a", capped), ("a/x", spec(1)), ("a/y", spec(0))]);
    tree.charge("a/x", 5);
    assert_eq!(tree.admits("a/y", 1), Ok(()));
    assert_eq!(tree.admits("a/y", 2), Err("a".into()));
    assert_eq!(tree.admits("default", 1000), Ok(()));
}

#[test]
fn a_share_is_what_is_borrowed_over_the_fleet_and_the_weight() {
    let heavy = PoolSpec { weight: 2, ..spec(10) };
    let mut tree = Tree::new(&[("a", heavy), ("b", spec(10))]);
    tree.charge("a", 30);
    tree.charge("b", 20);
    let share = |name: &str| tree.pools.share(tree.at(name), &[CPU]);
    assert_eq!((share("a").milli(), share("b").milli()), (100, 100));
    assert_eq!(share("a"), share("b"));
    assert!(!tree.pools.is_below(tree.at("a"), &[CPU]), "it borrows");
    assert!(!tree.pools.is_below(tree.at("default"), &[CPU]), "nothing is guaranteed to it");
}

#[test]
fn only_borrowers_give_and_never_below_their_guarantee() {
    let mut tree = Tree::new(&[("a", spec(10)), ("b", spec(10)), ("c", spec(0))]);
    tree.charge("b", 12);
    tree.charge("c", 8);
    let (a, b, c) = (tree.at("a"), tree.at("b"), tree.at("c"));
    let (one, three) = (tree.need(1), tree.need(3));
    let at = tree.pools.entitled(a, &one);
    assert_eq!(at, [a]);
    assert!(tree.pools.may_take((a, &one, &at), (c, &three)));
    assert!(tree.pools.may_take((a, &one, &at), (b, &one)));
    assert!(!tree.pools.may_take((a, &one, &at), (b, &three)), "b would have 9 of its 10");
    assert!(tree.pools.entitled(c, &one).is_empty());
    assert_eq!((tree.usage("b"), tree.usage("c")), (12, 8), "looking changes nothing");
}

#[test]
fn what_an_ancestor_is_guaranteed_is_taken_from_outside_it_only() {
    let mut tree = Tree::new(&[("a", spec(10)), ("a/x", spec(0)), ("a/y", spec(0)), ("b", spec(0))]);
    tree.charge("a/x", 5);
    tree.charge("b", 5);
    let (y, x, b) = (tree.at("a/y"), tree.at("a/x"), tree.at("b"));
    let one = tree.need(1);
    let at = tree.pools.entitled(y, &one);
    assert_eq!(at, [tree.at("a")]);
    assert!(tree.pools.may_take((y, &one, &at), (b, &one)));
    assert!(!tree.pools.may_take((y, &one, &at), (x, &one)), "its sibling has the same claim");
}

#[test]
fn devices_go_before_cpu_that_before_memory_and_that_before_scratch() {
    let mut kinds = Kinds::default();
    let ordered = ["scratch", "memory", "cpu", "gpu", "encode_sessions", "decode_sessions", "licenses"];
    let precedence = ordered.map(|name| kinds.intern(name).precedence());
    assert!(precedence.is_sorted_by(|a, b| a < b), "{precedence:?}");
}
