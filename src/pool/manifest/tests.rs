use spool_proto::time::Span;

use super::*;

const STUDIO: &str = "\
apiVersion: spool/v1
kind: PoolTree
metadata:
  version: 7
spec:
  root:
    guarantee: {cpu: 512}
  pools:
    - name: studio
      guarantee: {cpu: 64, memory: 256Gi, encode_sessions: 8}
      borrow: {cpu: 128, memory: 0Mi}
      lend: {cpu: 1.5}
      weight: 2
      grace: 30s
      preemption: fair
      maxQueued: 100
      warm:
        media.encode/cpu/libx264: {min: 2, max: 4, idleTimeout: 10m}
      pools:
        - name: marketing
          guarantee: {cpu: 500m}
        - name: films
";

/// What [`STUDIO`] prints as.
const PRINTED: &str = "\
apiVersion: spool/v1
kind: PoolTree
metadata:
  version: 7
spec:
  root:
    guarantee:
      cpu: 512
  pools:
  - name: default
  - name: studio
    guarantee:
      cpu: 64
      memory: 256Gi
      encode_sessions: 8
    borrow:
      cpu: 128
      memory: 0Mi
    lend:
      cpu: 1500m
    weight: 2
    grace: 30s
    preemption: fair
    maxQueued: 100
    warm:
      media.encode/cpu/libx264:
        min: 2
        max: 4
        idleTimeout: 10m
    pools:
    - name: films
    - name: marketing
      guarantee:
        cpu: 500m
";

fn refusal(text: &str) -> String {
    parse("pools.yaml", text).expect_err(text)
}

/// A tree whose `spec.pools` is `pools`, as one line.
fn with_pools(pools: &str) -> String {
    format!("apiVersion: spool/v1\nkind: PoolTree\nspec:\n  pools: {pools}\n")
}

#[test]
fn a_tree_is_read_in_the_units_it_is_kept_in() {
    let Ok(Manifest::Tree { version, tree }) = parse("pools.yaml", STUDIO) else { panic!("a good file") };
    assert_eq!(version, Some(7));
    assert_eq!(tree.check(), Ok(()));
    let names: Vec<&str> = tree.pools.keys().map(|name| &*name.0).collect();
    assert_eq!(names, ["/", "default", "studio", "studio/films", "studio/marketing"]);
    let studio = &tree.pools[&PoolName::from("studio")];
    assert_eq!((studio.guarantee.cpu, studio.guarantee.memory), (64_000, 256 << 10));
    assert_eq!(studio.borrow, [("cpu".to_owned(), 128_000), ("memory".to_owned(), 0)].into());
    assert_eq!((studio.lend["cpu"], studio.weight, studio.grace), (1_500, 2, Span::from_secs(30)));
    assert_eq!((studio.preemption, studio.max_queued), (Preemption::Fair, Some(100)));
    let warm = WarmSpec { min: 2, max: Some(4), idle_timeout: Span::from_secs(600) };
    assert_eq!(studio.warm["media.encode/cpu/libx264"], warm);
    assert_eq!(tree.pools[&PoolName::from("studio/films")], PoolSpec::default());
}

#[test]
fn what_is_printed_is_read_back() {
    let Ok(Manifest::Tree { tree, .. }) = parse("pools.yaml", STUDIO) else { panic!("a good file") };
    let printed = tree_text(7, &tree).expect("printed");
    assert_eq!(printed, PRINTED);
    assert_eq!(parse("again", &printed), Ok(Manifest::Tree { version: Some(7), tree: tree.clone() }));
    let name = PoolName::from("studio");
    let printed = pool_text(7, &name, &tree.pools[&name]).expect("printed");
    let spec = tree.pools[&name].clone();
    assert_eq!(parse("one", &printed), Ok(Manifest::Pool { version: Some(7), name, spec }));
}

#[test]
fn the_least_file_is_a_fresh_servers_tree() {
    let least = "apiVersion: spool/v1\nkind: PoolTree\nspec: {}\n";
    assert_eq!(parse("f", least), Ok(Manifest::Tree { version: None, tree: PoolTree::default() }));
}

#[test]
fn what_is_not_known_is_refused_by_line_and_path() {
    for (text, says) in [
        (with_pools("[{name: a, garantee: {cpu: 1}}]"), "pools.yaml:4:21: spec.pools[0].garantee: unknown field"),
        (with_pools("[{name: a, pools: [{name: b, weight: -1}]}]"), "spec.pools[0].pools[0].weight:"),
        (with_pools("[{name: a, guarantee: {cpu: lots}}]"), "spec.pools[0].guarantee.cpu: cpu lots: expected a number"),
        (with_pools("[{name: a, borrow: {memory: 256}}]"), "spec.pools[0].borrow.memory: memory 256: expected a size"),
        (with_pools("[{name: a, grace: 10}]"), "spec.pools[0].grace: \"10\": expected a time such as 10s"),
        (with_pools("[{name: a, preemption: always}]"), "spec.pools[0].preemption: unknown variant `always`"),
        (with_pools("[{name: a, warm: {x: {max: 1}}}]"), "missing field `min`"),
        (with_pools("[{name: a, name: b}]"), "duplicate"),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.contains(says), "{says}\n{refusal}");
        assert!(refusal.starts_with("pools.yaml:4:") && !refusal.contains('\n'), "{refusal}");
    }
}

#[test]
fn what_is_in_the_wrong_place_is_refused_by_its_path() {
    let head = "apiVersion: spool/v1\nkind: PoolTree\n";
    for (text, says) in [
        (with_pools("[{weight: 1}]"), "spec.pools[0].name: missing"),
        (with_pools("[{name: a/b}]"), "spec.pools[0].name: a/b names several levels"),
        (with_pools("[{name: a}, {name: a}]"), "spec.pools[1].name: pool a is there twice"),
        (with_pools("[{name: default}, {name: default}]"), "pool default is there twice"),
        (with_pools("[{name: a b}]"), "letters, digits"),
        (format!("{head}metadata: {{name: x}}\nspec: {{}}\n"), "metadata.name"),
        (format!("{head}spec: {{root: {{pools: [{{name: a}}]}}}}\n"), "spec.root.pools"),
        (format!("{head}spec: {{root: {{name: a}}}}\n"), "spec.root.name"),
        (format!("{head}metadata: {{version: x}}\nspec: {{}}\n"), "metadata.version"),
        (head.to_owned(), "missing field `spec`"),
        ("apiVersion: spool/v2\nkind: PoolTree\nspec: {}\n".into(), "expected spool/v1"),
        ("apiVersion: spool/v1\nkind: Pod\nspec: {}\n".into(), "expected PoolTree or Pool"),
        ("apiVersion: spool/v1\nkind: Pool\nspec: {}\n".into(), "metadata.name: missing"),
        ("kind: PoolTree\nspec: {}\n".into(), "missing field `apiVersion`"),
        (String::new(), "pools.yaml"),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.contains(says) && refusal.starts_with("pools.yaml"), "{says}\n{refusal}");
    }
}

/// Whatever a file holds, it is read or refused by its name.
#[test]
fn any_text_is_a_manifest_or_refused() {
    let seeds = [STUDIO.as_bytes().to_vec(), PRINTED.as_bytes().to_vec(), b"{a: &x [*x, *x]}".to_vec()];
    spool_fuzz::mutate::run("manifest", &seeds, 2000, |bytes| {
        if let Err(refusal) = parse("pools.yaml", &String::from_utf8_lossy(bytes)) {
            assert!(refusal.starts_with("pools.yaml"), "{refusal}");
        }
    });
}
