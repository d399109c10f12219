//! Where there is room: workers that take leases, by class and by what they have free. Choosing a worker costs as much as there are
//! different amounts of free room, not as there are workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spool_proto::ids::WorkerName;
use spool_proto::resources::Resources;

use crate::io::{Shape, WarmKey};
use crate::roster::ByName;

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

/// A worker in this index; lower ones came earlier.
type Seat = u32;

#[derive(Debug, Clone, Default)]
struct Class {
    free: BTreeMap<Resources, BTreeSet<Seat>>,
    /// Those that have a place for something to lie ready, by tasks lying ready per thousand running.
    ready: BTreeSet<(u64, Seat)>,
    members: usize,
}

/// A worker as the index has it.
#[derive(Debug, Clone)]
struct Member {
    offer: Arc<Offer>,
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
    classes: BTreeMap<Arc<Offer>, Class>,
    seats: ByName<Seat>,
    /// By seat. A worker that left keeps its seat.
    members: Vec<(WorkerName, Option<Member>)>,
    warm: BTreeMap<WarmKey, BTreeSet<Seat>>,
    /// Members with tasks lying ready, by load.
    loaded: BTreeSet<(u64, Seat)>,
    /// Of all members together.
    capacity: Resources,
}

/// Lower wins. The order of the fields is the policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// The task has just failed there.
    avoid: bool,
    /// No executor stands warm for it there.
    cold: bool,
    /// What it would leave unused, summed over resources in thousandths of the capacity (best fit).
    waste: u64,
    seat: Seat,
}

impl Rooms {
    fn seat(&mut self, name: &WorkerName) -> Seat {
        if let Some(seat) = self.seats.get(name) {
            return *seat;
        }
        let seat = Seat::try_from(self.members.len()).expect("fewer workers than 2^32");
        self.seats.insert(name.clone(), seat);
        self.members.push((name.clone(), None));
        seat
    }

    fn at(&self, seat: Seat) -> &(WorkerName, Option<Member>) {
        &self.members[usize::try_from(seat).expect("32 bits fit in an index")]
    }

    fn name(&self, seat: Seat) -> &WorkerName {
        &self.at(seat).0
    }

    fn member(&self, name: &WorkerName) -> Option<&Member> {
        self.at(*self.seats.get(name)?).1.as_ref()
    }

    /// The worker is as it stands now; `None`: it takes no leases.
    pub(crate) fn update(&mut self, name: &WorkerName, standing: Option<Standing<'_>>) {
        let seat = self.seat(name);
        let Some(now) = standing else { return self.leave(seat) };
        let (_, member) = &mut self.members[usize::try_from(seat).expect("32 bits fit in an index")];
        if let Some(member) = member
            && member.offer.capacity == *now.capacity
            && *member.offer.backends == *now.backends
        {
            if member.free == now.free && member.ready == now.ready && member.load == now.load {
                return;
            }
            let class = self.classes.get_mut(&member.offer).expect("a member's class is there");
            if member.free != now.free {
                take(&mut class.free, &member.free, seat);
                class.free.entry(now.free.clone()).or_default().insert(seat);
                member.free = now.free;
            }
            if member.ready != now.ready {
                if let Some(load) = member.ready {
                    class.ready.remove(&(load, seat));
                }
                class.ready.extend(now.ready.map(|load| (load, seat)));
                member.ready = now.ready;
            }
            if member.load != now.load {
                self.loaded.remove(&(member.load, seat));
                member.load = now.load;
                if now.load > 0 {
                    self.loaded.insert((now.load, seat));
                }
            }
            return;
        }
        self.leave(seat);
        if now.load > 0 {
            self.loaded.insert((now.load, seat));
        }
        let offer = Offer { capacity: now.capacity.clone(), backends: now.backends.into() };
        let offer = self.classes.get_key_value(&offer).map_or_else(|| Arc::new(offer), |(known, _)| known.clone());
        let class = self.classes.entry(offer.clone()).or_default();
        class.free.entry(now.free.clone()).or_default().insert(seat);
        class.ready.extend(now.ready.map(|load| (load, seat)));
        class.members += 1;
        self.capacity.add(now.capacity);
        let member = Member { offer, free: now.free, ready: now.ready, load: now.load };
        self.members[usize::try_from(seat).expect("32 bits fit in an index")].1 = Some(member);
    }

    fn leave(&mut self, seat: Seat) {
        let Some(member) = self.members[usize::try_from(seat).expect("32 bits fit in an index")].1.take() else {
            return;
        };
        self.loaded.remove(&(member.load, seat));
        let class = self.classes.get_mut(&member.offer).expect("a member's class is there");
        take(&mut class.free, &member.free, seat);
        if let Some(load) = member.ready {
            class.ready.remove(&(load, seat));
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
        let seat = self.seat(name);
        for key in before.keys().filter(|key| now.get(*key).is_none_or(|idle| *idle == 0)) {
            if let Some(workers) = self.warm.get_mut(key) {
                workers.remove(&seat);
                if workers.is_empty() {
                    self.warm.remove(key);
                }
            }
        }
        for (key, _) in now.iter().filter(|(_, idle)| **idle > 0) {
            self.warm.entry(key.clone()).or_default().insert(seat);
        }
    }

    /// The worker where a task of the shape starts best now. `avoid` is taken only where nobody else has room.
    pub(crate) fn choose(&self, shape: &Shape, warm_key: &WarmKey, avoid: &[WorkerName]) -> Option<WorkerName> {
        let avoided = |seat: &Seat| !avoid.is_empty() && avoid.contains(self.name(*seat));
        let warm = self.warm.get(warm_key).into_iter().flatten().take(WARM_LOOKS);
        let of_warm = warm.filter_map(|seat| {
            let member = self.at(*seat).1.as_ref()?;
            let fits = member.offer.suits(shape) && shape.resources.fits_in(&member.free);
            fits.then(|| Score {
                avoid: avoided(seat),
                cold: false,
                waste: waste(shape, &member.offer, &member.free),
                seat: *seat,
            })
        });
        if let Some(best) = of_warm.min().filter(|best| !best.avoid) {
            return Some(self.name(best.seat).clone());
        }
        let classes = self.classes.iter().filter(|(offer, _)| offer.suits(shape));
        let of_class = classes.filter_map(|(offer, class)| {
            let from = Resources { cpu: shape.resources.cpu, ..Resources::ZERO };
            let mut fitting = class.free.range(from..).filter(|(free, _)| shape.resources.fits_in(free));
            // Within a class the least that fits, by its first resource, is the best fit. The avoided one is the last resort.
            let mut spare = None;
            let found = fitting.find_map(|(free, seats)| {
                let seat = seats.iter().find(|seat| !avoided(seat));
                spare = spare.take().or_else(|| seats.first().map(|seat| (free, seat)));
                seat.map(|seat| (free, seat))
            });
            let (free, seat) = found.or(spare)?;
            Some(Score { avoid: avoided(seat), cold: true, waste: waste(shape, offer, free), seat: *seat })
        });
        of_class.min().map(|best| self.name(best.seat).clone())
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
            let mut first = class.ready.iter().take(READY_LOOKS);
            first.find(|(_, seat)| {
                let name = self.name(*seat);
                !avoid.contains(name) && runs_alike(name)
            })
        });
        of_class.min().map(|(_, seat)| self.name(*seat).clone())
    }

    /// What anybody may still use of a worker, and whether something more may lie ready there.
    pub(crate) fn offer(&self, name: &WorkerName) -> Option<(&Resources, bool)> {
        self.member(name).map(|member| (&member.free, member.ready.is_some()))
    }

    /// Of all workers that take leases.
    pub(crate) fn capacity(&self) -> &Resources {
        &self.capacity
    }

    /// What anybody may still use of a worker.
    pub(crate) fn free(&self, name: &WorkerName) -> Option<&Resources> {
        self.member(name).map(|member| &member.free)
    }

    /// Workers where something lies ready that could be given to another, the most loaded first.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &WorkerName> {
        self.loaded.iter().rev().take(READY_LOOKS).map(|(_, seat)| self.name(*seat))
    }

    pub(crate) fn is_member(&self, name: &WorkerName) -> bool {
        self.member(name).is_some()
    }

    /// Workers that take leases.
    pub(crate) fn members(&self) -> impl Iterator<Item = &WorkerName> {
        self.members.iter().filter(|(_, member)| member.is_some()).map(|(name, _)| name)
    }

    /// `touched`: not brought up to date yet.
    pub(crate) fn check_invariants(
        &self,
        standing: &BTreeMap<WorkerName, Standing<'_>>,
        touched: &BTreeSet<WorkerName>,
    ) {
        let mut members: Vec<&WorkerName> = self.members().filter(|name| !touched.contains(*name)).collect();
        members.sort_unstable();
        let expected = || standing.iter().filter(|(name, _)| !touched.contains(*name));
        assert!(members.into_iter().eq(expected().map(|(name, _)| name)), "rooms: wrong members");
        for (name, now) in expected() {
            let member = self.member(name).expect("a member");
            let class = &self.classes[&member.offer];
            assert!(member.offer.capacity == *now.capacity && *member.offer.backends == *now.backends, "rooms: {name}");
            // Whether more may lie ready there changes with estimates, and is looked at again with the next report.
            assert_eq!((&member.free, member.load), (&now.free, now.load), "rooms: {name} is stale");
            assert!(class.free[&member.free].contains(&self.seats[name]), "rooms: {name} is not where it should be");
        }
        let filed: usize = self.classes.values().flat_map(|class| class.free.values()).map(BTreeSet::len).sum();
        assert_eq!(filed, self.members().count(), "rooms: filed twice");
    }
}

fn take(free: &mut BTreeMap<Resources, BTreeSet<Seat>>, at: &Resources, seat: Seat) {
    if let Some(seats) = free.get_mut(at) {
        seats.remove(&seat);
        if seats.is_empty() {
            free.remove(at);
        }
    }
}

fn waste(shape: &Shape, offer: &Offer, free: &Resources) -> u64 {
    let need = &shape.resources;
    let left = |(name, total): (&str, u64)| {
        let left = free.get(name).saturating_sub(need.get(name));
        u64::try_from(u128::from(left) * 1000 / u128::from(total)).unwrap_or(u64::MAX)
    };
    offer.capacity.iter().map(left).fold(0, u64::saturating_add)
}
