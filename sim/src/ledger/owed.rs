//! For how long a pool that asked did not have what it is guaranteed.

use spool_proto::time::Timestamp;

/// Below its guarantee while something waits that would fit into it: from when to when.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    since: Option<Timestamp>,
    /// Of each time it was restored, in microseconds.
    pub lasted: Vec<u64>,
}

impl Owed {
    pub fn is(&mut self, now: Timestamp, owed: bool) {
        match (self.since, owed) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.since = None;
                // What is put right in the same instant was never amiss.
                if now > since {
                    self.lasted.push(now.since(since).0);
                }
            }
            _ => {}
        }
    }

    /// What is owed still counts as long as it has lasted.
    pub fn end(&mut self, now: Timestamp) {
        self.is(now, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_lasts_from_its_first_moment_to_its_last() {
        let mut owed = Owed::default();
        for (at, is) in [(5, true), (6, true), (9, false), (10, false), (20, true), (20, false), (30, true)] {
            owed.is(Timestamp(at), is);
        }
        owed.end(Timestamp(31));
        assert_eq!(owed.lasted, [4, 1]);
    }
}
