//! The resources of one scenario as a fixed row of numbers, because every event adds and subtracts them.

use spool_proto::resources::Resources;

/// Most kinds of resource in one scenario.
pub const MOST: usize = 8;

/// Names, by column.
#[derive(Debug, Clone, Default)]
pub struct Kinds(Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts(pub [u64; MOST]);

impl Kinds {
    /// All that these have anything of; the first [`MOST`] of them.
    pub fn of<'a>(all: impl Iterator<Item = &'a Resources>) -> Kinds {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in all.flat_map(Resources::iter) {
            if names.len() < MOST && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        // `cpu` first, where there is any: it is what charts show.
        names.sort_by_key(|name| name != "cpu");
        Kinds(names)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub fn amounts(&self, of: &Resources) -> Amounts {
        let mut amounts = Amounts::default();
        for (amount, name) in amounts.0.iter_mut().zip(&self.0) {
            *amount = of.get(name);
        }
        amounts
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }
}

impl Amounts {
    pub fn add(&mut self, other: &Amounts, times: u64) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs.saturating_mul(times));
        }
    }

    pub fn sub(&mut self, other: &Amounts, times: u64) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_sub(theirs.saturating_mul(times));
        }
    }

    pub fn fits_in(&self, free: &Amounts) -> bool {
        self.0.iter().zip(free.0).all(|(need, free)| *need <= free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_columns_cpu_first() {
        let gpu = Resources { gpu: 1000, ..Resources::ZERO };
        let both = Resources::cpu_memory(2000, 512);
        let kinds = Kinds::of([&gpu, &both].into_iter());
        assert_eq!(kinds.names(), ["cpu", "gpu", "memory"]);
        let mut sum = kinds.amounts(&both);
        sum.add(&kinds.amounts(&gpu), 2);
        assert_eq!(sum.0[..3], [2000, 2000, 512]);
        assert!(kinds.amounts(&gpu).fits_in(&sum));
        sum.sub(&kinds.amounts(&gpu), 3);
        assert_eq!(sum.0[1], 0, "it saturates");
        assert!(!kinds.amounts(&gpu).fits_in(&sum));
    }
}
