//! Where there is room: workers that take leases, by class and by what they have free. Choosing a worker costs as much as there are
//! different amounts of free room, not as there are workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spool_proto::ids::WorkerName;
use spool_proto::resources::Resources;

use crate::io::{Shape, WarmKey};

/// Workers warm for a shape that are looked at before any other, at most.
const WARM_LOOKS: usize = 32;
/// Workers looked at, least loaded first, for a place behind what runs.
const READY_LOOKS: usize = 64;

/// What a worker can do at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    capacity: Resources,
    backends: Arc<[String]>,
}

impl Offer {
    fn suits(&self, shape: &Shape) -> bool {
        let offers = shape.backend.is_empty() || self.backends.contains(&shape.backend);
        offers && shape.resources.fits_in(&self.capacity)
    }
}

#[derive(Debug, Clone, Default)]
struct Class {
    free: BTreeMap<Resources, BTreeSet<WorkerName>>,
    /// Those that have a place for something to lie ready, by tasks lying ready per thousand running.
    ready: BTreeSet<(u64, WorkerName)>,
    members: usize,
}

/// As the index has it.
#[derive(Debug, Clone)]
struct Member {
    offer: Offer,
    free: Resources,
    ready: Option<u64>,
    load: u64,
}

/// A worker's state, for the index.
#[derive(Debug, Clone)]
pub(crate) struct Standing<'a> {
    pub(crate) capacity: &'a Resources,
    pub(crate) backends: &'a [String],
    /// For anybody: not counting what is reserved.
    pub(crate) free: Resources,
    /// Load, if something more may lie ready behind what runs.
    pub(crate) ready: Option<u64>,
    /// Tasks lying ready per thousand running.
    pub(crate) load: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Rooms {
    classes: BTreeMap<Offer, Class>,
    members: BTreeMap<WorkerName, Member>,
    warm: BTreeMap<WarmKey, BTreeSet<WorkerName>>,
    /// Members with tasks lying ready, by load.
    loaded: BTreeSet<(u64, WorkerName)>,
    /// Of all members together.
    capacity: Resources,
}

/// Lower wins. The order of the fields is the policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score<'a> {
    /// The task has just failed there.
    avoid: bool,
    /// No executor stands warm for it there.
    cold: bool,
    /// What it would leave unused, summed over resources in thousandths of the capacity (best fit).
    waste: u64,
    worker: &'a WorkerName,
}

impl Rooms {
    /// The worker is as it stands now; `None`: it takes no leases.
    pub(crate) fn update(&mut self, name: &WorkerName, standing: Option<Standing<'_>>) {
        let Some(now) = standing else { return self.leave(name) };
        if let Some(member) = self.members.get_mut(name)
            && member.offer.capacity == *now.capacity
            && *member.offer.backends == *now.backends
        {
            let class = self.classes.get_mut(&member.offer).expect("a member's class is there");
            if member.free != now.free {
                take(&mut class.free, &member.free, name);
                class.free.entry(now.free.clone()).or_default().insert(name.clone());
                member.free = now.free;
            }
            if member.ready != now.ready {
                if let Some(load) = member.ready {
                    class.ready.remove(&(load, name.clone()));
                }
                class.ready.extend(now.ready.map(|load| (load, name.clone())));
                member.ready = now.ready;
            }
            if member.load != now.load {
                self.loaded.remove(&(member.load, name.clone()));
                member.load = now.load;
                if now.load > 0 {
                    self.loaded.insert((now.load, name.clone()));
                }
            }
            return;
        }
        self.leave(name);
        if now.load > 0 {
            self.loaded.insert((now.load, name.clone()));
        }
        let offer = Offer { capacity: now.capacity.clone(), backends: now.backends.into() };
        let class = self.classes.entry(offer.clone()).or_default();
        class.free.entry(now.free.clone()).or_default().insert(name.clone());
        class.ready.extend(now.ready.map(|load| (load, name.clone())));
        class.members += 1;
        self.capacity.add(now.capacity);
        self.members.insert(name.clone(), Member { offer, free: now.free, ready: now.ready, load: now.load });
    }

    fn leave(&mut self, name: &WorkerName) {
        let Some(member) = self.members.remove(name) else { return };
        self.loaded.remove(&(member.load, name.clone()));
        let class = self.classes.get_mut(&member.offer).expect("a member's class is there");
        take(&mut class.free, &member.free, name);
        if let Some(load) = member.ready {
            class.ready.remove(&(load, name.clone()));
        }
        class.members -= 1;
        self.capacity.sub(&member.offer.capacity);
        if class.members == 0 {
            self.classes.remove(&member.offer);
        }
    }

    /// Which executors stand warm and idle there.
    pub(crate) fn set_warm(
        &mut self,
        name: &WorkerName,
        before: &BTreeMap<WarmKey, u32>,
        now: &BTreeMap<WarmKey, u32>,
    ) {
        for key in before.keys().filter(|key| now.get(*key).is_none_or(|idle| *idle == 0)) {
            if let Some(workers) = self.warm.get_mut(key) {
                workers.remove(name);
                if workers.is_empty() {
                    self.warm.remove(key);
                }
            }
        }
        for (key, _) in now.iter().filter(|(_, idle)| **idle > 0) {
            self.warm.entry(key.clone()).or_default().insert(name.clone());
        }
    }

    /// The worker where a task of the shape starts best now. `avoid` is taken only where nobody else has room.
    pub(crate) fn choose(&self, shape: &Shape, warm_key: &WarmKey, avoid: &[WorkerName]) -> Option<WorkerName> {
        let warm = self.warm.get(warm_key).into_iter().flatten().take(WARM_LOOKS);
        let of_warm = warm.filter_map(|name| {
            let (name, member) = self.members.get_key_value(name)?;
            (member.offer.suits(shape) && shape.resources.fits_in(&member.free))
                .then(|| score(shape, &member.offer, &member.free, name, avoid, false))
        });
        if let Some(best) = of_warm.min().filter(|best| !best.avoid) {
            return Some(best.worker.clone());
        }
        let classes = self.classes.iter().filter(|(offer, _)| offer.suits(shape));
        let of_class = classes.filter_map(|(offer, class)| {
            let from = Resources { cpu: shape.resources.cpu, ..Resources::ZERO };
            let mut fitting = class.free.range(from..).filter(|(free, _)| shape.resources.fits_in(free));
            // Within a class the least free room that fits is the best fit by its first resource; the avoided one may need a second look.
            let mut spare = None;
            fitting
                .find_map(|(free, names)| {
                    let name = names.iter().find(|name| !avoid.contains(name));
                    spare = spare.take().or_else(|| names.first().map(|name| (free, name)));
                    name.map(|name| (free, name))
                })
                .or(spare)
                .map(|(free, name)| score(shape, offer, free, name, avoid, true))
        });
        of_class.min().map(|best| best.worker.clone())
    }

    /// The worker behind whose running tasks one of the shape lies ready best. `runs_alike`: something runs there that leaves enough
    /// room when it ends.
    pub(crate) fn choose_ready(
        &self,
        shape: &Shape,
        avoid: &[WorkerName],
        runs_alike: impl Fn(&WorkerName) -> bool,
    ) -> Option<WorkerName> {
        let classes = self.classes.iter().filter(|(offer, _)| offer.suits(shape));
        let of_class = classes.filter_map(|(_, class)| {
            class.ready.iter().take(READY_LOOKS).find(|(_, name)| !avoid.contains(name) && runs_alike(name))
        });
        of_class.min().map(|(_, name)| name.clone())
    }

    /// Whether it could start, or lie ready, on this worker.
    pub(crate) fn has_room(&self, shape: &Shape, name: &WorkerName, runs_alike: impl Fn(&WorkerName) -> bool) -> bool {
        self.members.get(name).is_some_and(|member| {
            member.offer.suits(shape)
                && (shape.resources.fits_in(&member.free) || (member.ready.is_some() && runs_alike(name)))
        })
    }

    /// Of all workers that take leases.
    pub(crate) fn capacity(&self) -> &Resources {
        &self.capacity
    }

    /// What anybody may still use of a worker.
    pub(crate) fn free(&self, name: &WorkerName) -> Option<&Resources> {
        self.members.get(name).map(|member| &member.free)
    }

    /// Workers where something lies ready that could be given to another, the most loaded first.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &WorkerName> {
        self.loaded.iter().rev().take(READY_LOOKS).map(|(_, name)| name)
    }

    /// Workers that take leases.
    pub(crate) fn members(&self) -> impl Iterator<Item = &WorkerName> {
        self.members.keys()
    }

    pub(crate) fn check_invariants(&self, standing: &BTreeMap<WorkerName, Standing<'_>>) {
        assert!(self.members.keys().eq(standing.keys()), "rooms: wrong members");
        for (name, now) in standing {
            let member = &self.members[name];
            let class = &self.classes[&member.offer];
            assert!(member.offer.capacity == *now.capacity && *member.offer.backends == *now.backends, "rooms: {name}");
            // Whether more may lie ready there changes with estimates, and is looked at again with the next report.
            assert_eq!((&member.free, member.load), (&now.free, now.load), "rooms: {name} is stale");
            assert!(class.free[&member.free].contains(name), "rooms: {name} is not where it should be");
        }
        let filed: usize = self.classes.values().flat_map(|class| class.free.values()).map(BTreeSet::len).sum();
        assert_eq!(filed, self.members.len(), "rooms: filed twice");
    }
}

fn take(free: &mut BTreeMap<Resources, BTreeSet<WorkerName>>, at: &Resources, name: &WorkerName) {
    if let Some(names) = free.get_mut(at) {
        names.remove(name);
        if names.is_empty() {
            free.remove(at);
        }
    }
}

fn score<'a>(
    shape: &Shape,
    offer: &Offer,
    free: &Resources,
    worker: &'a WorkerName,
    avoid: &[WorkerName],
    cold: bool,
) -> Score<'a> {
    let need = &shape.resources;
    let left = |(name, total): (&str, u64)| {
        let left = free.get(name).saturating_sub(need.get(name));
        u64::try_from(u128::from(left) * 1000 / u128::from(total)).unwrap_or(u64::MAX)
    };
    let waste = offer.capacity.iter().map(left).fold(0, u64::saturating_add);
    Score { avoid: avoid.contains(worker), cold, waste, worker }
}
