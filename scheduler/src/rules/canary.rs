//! Which version of a service takes new jobs, and how a canary is judged.

use serde::{Deserialize, Serialize};

/// Ends of a canary's jobs before it is judged.
const ENDS: u64 = 20;
/// A canary may fail so much more often than the version before it, in a hundred jobs.
const MORE_FAILURES: u64 = 5;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Routes {
    /// Takes new jobs.
    pub(crate) stable: String,
    /// Took them before.
    pub(crate) before: Option<String>,
    pub(crate) canary: Option<Canary>,
    /// How the last canary was judged, in words.
    pub(crate) verdict: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) hash: String,
    /// Of 100 new jobs.
    pub(crate) percent: u32,
}

/// Jobs of a version since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    /// Failed or paused. What failed for its input says nothing of the version and is not counted.
    pub(crate) failed: u64,
}

impl Routes {
    pub(super) fn promote(&self, hash: String, verdict: String) -> Routes {
        let before = if hash == self.stable { self.before.clone() } else { Some(self.stable.clone()) };
        Routes { stable: hash, before, canary: None, verdict }
    }
}

impl Tally {
    fn ends(self) -> u64 {
        self.done + self.failed
    }

    /// Whether it fails no more than the version before. `None`: it is too early to say.
    pub(super) fn judge(self, stable: Tally) -> Option<bool> {
        // Once so many have failed, the rest cannot save it.
        let may_fail = ENDS * (stable.per_cent() + MORE_FAILURES) / 100;
        if self.ends() < ENDS {
            return (self.failed > may_fail).then_some(false);
        }
        Some(self.per_cent() <= stable.per_cent() + MORE_FAILURES)
    }

    fn per_cent(self) -> u64 {
        (100 * self.failed).checked_div(self.ends()).unwrap_or(0)
    }

    pub(super) fn verdict(self, hash: &str, stable: Tally, is_good: bool) -> String {
        let done = if is_good { "promoted" } else { "rolled back" };
        format!(
            "canary {hash} was {done}: {} of its {} jobs failed, of the version before {} of {}",
            self.failed,
            self.ends(),
            stable.failed,
            stable.ends()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(done: u64, failed: u64) -> Tally {
        Tally { begun: done + failed, done, failed }
    }

    #[test]
    fn a_canary_is_judged_by_what_the_version_before_did() {
        let none = Tally::default();
        assert_eq!(tally(19, 0).judge(none), None);
        assert_eq!(tally(20, 0).judge(none), Some(true));
        assert_eq!(tally(19, 1).judge(none), Some(true));
        assert_eq!(tally(18, 2).judge(none), Some(false));
        assert_eq!(tally(18, 2).judge(tally(90, 10)), Some(true));
        assert_eq!(tally(0, 2).judge(none), Some(false), "it need not fail twenty times");
        assert_eq!(tally(0, 1).judge(none), None);
    }

    #[test]
    fn promoting_what_is_stable_keeps_the_way_back() {
        let routes = Routes { stable: "b".into(), before: Some("a".into()), ..Routes::default() };
        assert_eq!(routes.promote("b".into(), String::new()).before.as_deref(), Some("a"));
        assert_eq!(routes.promote("c".into(), String::new()).before.as_deref(), Some("b"));
    }
}
