//! What executors are warm for, and which of the idle ones serves, stays or goes. Pure: no process is touched here.
//!
//! An executor counts for the key it served or was prepared for last. Of each key with a target, `min` idle ones are reserved:
//! no call of another key gets them. Those beyond, up to `max`, linger until their idle timeout. All others are anybody's.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an executor can be warm for: `function/backend` such as `media.encode/cpu/libx264`, or a function alone.
pub type WarmKey = Arc<str>;

/// What must have been encoded with in the very process. `None`: that it is loaded is enough.
pub fn backend(key: &str) -> Option<&str> {
    key.split_once('/').map(|(_, backend)| backend)
}

/// What one idle executor is warm for.
#[derive(Debug, Clone)]
pub struct Warmth {
    key: Option<WarmKey>,
    /// Those that encoded in it.
    backends: Vec<Arc<str>>,
    idle_since: Instant,
}

impl Warmth {
    pub fn new(now: Instant) -> Warmth {
        Warmth { key: None, backends: Vec::new(), idle_since: now }
    }

    pub fn key(&self) -> Option<&WarmKey> {
        self.key.as_ref()
    }

    pub fn is_ready_for(&self, key: &str) -> bool {
        backend(key).is_none_or(|backend| self.has_encoded(backend))
    }

    fn has_encoded(&self, backend: &str) -> bool {
        self.backends.iter().any(|ready| **ready == *backend)
    }

    /// It ran a call for the key, or was prepared for it.
    pub fn serve(&mut self, key: &WarmKey, now: Instant) {
        if let Some(backend) = backend(key) {
            self.encode(backend);
        }
        self.key = Some(Arc::clone(key));
        self.idle_since = now;
    }

    /// It encoded with the backend, for no call.
    pub fn encode(&mut self, backend: &str) {
        if !self.has_encoded(backend) {
            self.backends.push(backend.into());
        }
    }

    fn serves(&self, key: &str) -> bool {
        self.key.as_deref() == Some(key)
    }
}

impl AsRef<Warmth> for Warmth {
    fn as_ref(&self) -> &Warmth {
        self
    }
}

/// How many executors stay warm for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub key: WarmKey,
    /// Stand idle always.
    pub min: usize,
    /// Stay after work has gone.
    pub max: usize,
    pub idle_timeout: Duration,
}

/// Targets of one worker. Idle executors are given in the order in which they became idle.
#[derive(Debug, Default)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// Cut, in the order given, so that minima and maxima sum to at most `most` each. True: something was cut.
    pub fn clamped(mut targets: Vec<Target>, most: usize) -> (Targets, bool) {
        let (mut mins, mut maxima, mut cut) = (most, most, false);
        for target in &mut targets {
            let asked = target.clone();
            target.min = target.min.min(mins);
            target.max = target.max.max(asked.min).min(maxima).max(target.min);
            mins -= target.min;
            maxima = maxima.saturating_sub(target.max);
            cut |= target.min < asked.min || target.max < asked.max;
        }
        (Targets(targets), cut)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, key: &WarmKey) -> bool {
        self.0.iter().any(|target| target.key == *key)
    }

    pub fn min(&self) -> usize {
        self.0.iter().map(|target| target.min).sum()
    }

    pub fn max(&self) -> usize {
        self.0.iter().map(|target| target.max).sum()
    }

    fn of(&self, warmth: &Warmth) -> Option<&Target> {
        self.0.iter().find(|target| warmth.serves(&target.key))
    }

    /// Its place among those of its key; the one that became idle last is first.
    fn rank<T: AsRef<Warmth>>(idle: &[T], at: usize) -> usize {
        let key = &idle[at].as_ref().key;
        idle[at + 1..].iter().filter(|other| other.as_ref().key == *key).count()
    }

    fn is_reserved<T: AsRef<Warmth>>(&self, idle: &[T], at: usize) -> bool {
        self.of(idle[at].as_ref()).is_some_and(|target| Self::rank(idle, at) < target.min)
    }

    fn lingers_until<T: AsRef<Warmth>>(&self, idle: &[T], at: usize) -> Option<Instant> {
        let warmth = idle[at].as_ref();
        let target = self.of(warmth)?;
        (Self::rank(idle, at) < target.max).then(|| warmth.idle_since + target.idle_timeout)
    }

    fn is_free<T: AsRef<Warmth>>(&self, idle: &[T], at: usize, now: Instant) -> bool {
        !self.is_reserved(idle, at) && self.lingers_until(idle, at).is_none_or(|until| until <= now)
    }

    /// Who serves a call: one that did so before, or is ready; else one that nothing is lost with. `None`: a new one.
    pub fn choose<T: AsRef<Warmth>>(&self, key: Option<&WarmKey>, idle: &[T]) -> Option<usize> {
        let serves = |at: &usize| key.is_some_and(|key| idle[*at].as_ref().serves(key));
        let ready = |at: &usize| key.is_none_or(|key| idle[*at].as_ref().is_ready_for(key));
        let latest_first = || (0..idle.len()).rev();
        let open = || latest_first().filter(|at| !self.is_reserved(idle, *at));
        let plain = |at: &usize| idle[*at].as_ref().key.is_none();
        latest_first()
            .find(serves)
            .or_else(|| open().find(|at| ready(at) && plain(at)))
            .or_else(|| open().find(ready))
            .or_else(|| open().find(plain))
            .or_else(|| open().next())
    }

    /// The first key that lacks idle ones, of those that `may` be prepared for, and who is to be: `None`, nobody is free.
    pub fn lacking<T: AsRef<Warmth>>(
        &self,
        idle: &[T],
        now: Instant,
        may: impl Fn(&WarmKey) -> bool,
    ) -> Option<(WarmKey, Option<usize>)> {
        let idle_for = |key: &str| idle.iter().filter(|warmth| warmth.as_ref().serves(key)).count();
        let Target { key, .. } = self.0.iter().find(|target| idle_for(&target.key) < target.min && may(&target.key))?;
        let free = || (0..idle.len()).filter(|at| self.is_free(idle, *at, now));
        let ready = free().find(|at| idle[*at].as_ref().is_ready_for(key));
        let plain = || free().find(|at| idle[*at].as_ref().key.is_none());
        Some((Arc::clone(key), ready.or_else(plain).or_else(|| free().next())))
    }

    /// Who may go first when there are too many.
    pub fn surplus<T: AsRef<Warmth>>(&self, idle: &[T], now: Instant) -> Option<usize> {
        (0..idle.len()).find(|at| self.is_free(idle, *at, now))
    }

    /// When the next stops to linger.
    pub fn next_end<T: AsRef<Warmth>>(&self, idle: &[T], now: Instant) -> Option<Instant> {
        let unreserved = (0..idle.len()).filter(|at| !self.is_reserved(idle, *at));
        unreserved.filter_map(|at| self.lingers_until(idle, at)).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X264: &str = "media.encode/cpu/libx264";
    const VP9: &str = "media.encode/cpu/libvpx-vp9";

    fn target(key: &str, min: usize, max: usize) -> Target {
        Target { key: key.into(), min, max, idle_timeout: Duration::from_secs(10) }
    }

    fn targets(list: &[(&str, usize, usize)]) -> Targets {
        Targets::clamped(list.iter().map(|(key, min, max)| target(key, *min, *max)).collect(), 64).0
    }

    /// Idle ones by the key each served last; an empty one served none.
    fn idle(keys: &[&str], now: Instant) -> Vec<Warmth> {
        let warmth = |key: &&str| {
            let mut warmth = Warmth::new(now);
            if !key.is_empty() {
                warmth.serve(&WarmKey::from(*key), now);
            }
            warmth
        };
        keys.iter().map(warmth).collect()
    }

    #[test]
    fn a_call_gets_one_that_is_warm_and_never_what_is_reserved_for_others() {
        let now = Instant::now();
        let reserved = targets(&[(X264, 1, 1)]);
        let none = Targets::default();
        let cases: &[(&str, &Targets, &[&str], Option<usize>)] = &[
            (X264, &none, &["", X264, ""], Some(1)),
            (X264, &none, &[X264, X264], Some(1)),
            (VP9, &none, &[X264, "", X264], Some(1)),
            (VP9, &none, &[X264], Some(0)),
            (VP9, &reserved, &[X264], None),
            (VP9, &reserved, &[X264, X264], Some(0)),
            (X264, &reserved, &[X264], Some(0)),
            ("media.probe", &none, &[X264, ""], Some(1)),
            (VP9, &none, &[], None),
        ];
        for (key, targets, keys, expected) in cases {
            let chosen = targets.choose(Some(&WarmKey::from(*key)), &idle(keys, now));
            assert_eq!(chosen, *expected, "{key} of {keys:?}");
        }
    }

    #[test]
    fn one_that_encoded_before_is_ready_again_without_having_served_last() {
        let now = Instant::now();
        let mut both = idle(&[X264], now).remove(0);
        both.serve(&VP9.into(), now);
        assert!(both.is_ready_for(X264) && both.is_ready_for("media.probe") && !both.is_ready_for("f/cpu/libx265"));
        let warmth = [both, Warmth::new(now)];
        assert_eq!(Targets::default().choose(Some(&X264.into()), &warmth), Some(0));
    }

    #[test]
    fn what_lacks_is_prepared_from_those_that_are_free() {
        let now = Instant::now();
        let targets = targets(&[(X264, 1, 2), (VP9, 1, 1)]);
        let lacking = |keys: &[&str]| targets.lacking(&idle(keys, now), now, |_| true);
        assert_eq!(lacking(&[X264, VP9]), None);
        assert_eq!(lacking(&[X264, ""]), Some((VP9.into(), Some(1))));
        assert_eq!(lacking(&[VP9, ""]), Some((X264.into(), Some(1))));
        assert_eq!(lacking(&[X264, X264]), Some((VP9.into(), None)), "the second lingers, nobody is free");
        assert_eq!(lacking(&[X264, X264, X264]), Some((VP9.into(), Some(0))), "the third is beyond what may linger");
        assert_eq!(targets.lacking(&idle(&["", ""], now), now, |key| **key != *X264), Some((VP9.into(), Some(0))));
    }

    #[test]
    fn those_beyond_the_minimum_linger_until_their_time_is_over() {
        let now = Instant::now();
        let targets = targets(&[(X264, 1, 2)]);
        let warm = idle(&[X264, X264, X264], now);
        let later = now + Duration::from_secs(10);
        assert_eq!(targets.surplus(&warm, now), Some(0), "beyond the maximum");
        assert_eq!(targets.surplus(&warm[1..], now), None);
        assert_eq!(targets.next_end(&warm[1..], now), Some(later));
        assert_eq!(targets.surplus(&warm[1..], later), Some(0));
        assert_eq!(targets.surplus(&warm[2..], later), None, "the minimum stays");
        assert_eq!(targets.next_end(&warm[2..], now), None);
    }

    #[test]
    fn targets_are_cut_to_what_a_worker_keeps() {
        let (targets, cut) = Targets::clamped(vec![target("a", 3, 9), target("b", 3, 4)], 5);
        assert!(cut);
        assert_eq!(targets.0, [target("a", 3, 5), target("b", 2, 2)]);
        assert_eq!(targets.min(), 5);
        assert!(
            !Targets::clamped(vec![target("a", 3, 0), target("b", 2, 2)], 5).1,
            "a maximum is at least the minimum"
        );
    }
}
