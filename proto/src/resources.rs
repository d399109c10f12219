//! What a task needs and a worker has: named integers, no floats, arithmetic that saturates.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The resources Spool itself knows. Operators may add names of their own.
pub const KNOWN: [&str; 6] = ["cpu", "memory", "scratch", "gpu", "encode_sessions", "decode_sessions"];

/// Amounts by name. A name that is absent counts as zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a CPU core.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu: u64,
    /// MiB of resident memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory: u64,
    /// MiB of scratch disk.
    #[serde(skip_serializing_if = "is_zero")]
    pub scratch: u64,
    /// Thousandths of a GPU.
    #[serde(skip_serializing_if = "is_zero")]
    pub gpu: u64,
    /// Hardware encode sessions.
    #[serde(skip_serializing_if = "is_zero")]
    pub encode_sessions: u64,
    /// Hardware decode sessions.
    #[serde(skip_serializing_if = "is_zero")]
    pub decode_sessions: u64,
    /// What the operator named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Resources {
    pub const ZERO: Resources = Resources {
        cpu: 0,
        memory: 0,
        scratch: 0,
        gpu: 0,
        encode_sessions: 0,
        decode_sessions: 0,
        other: BTreeMap::new(),
    };

    /// `cpu` in milli-cores, `memory` in MiB.
    pub fn cpu_memory(cpu: u64, memory: u64) -> Resources {
        Resources { cpu, memory, ..Resources::ZERO }
    }

    fn known(&self) -> [u64; 6] {
        [self.cpu, self.memory, self.scratch, self.gpu, self.encode_sessions, self.decode_sessions]
    }

    fn known_mut(&mut self) -> [&mut u64; 6] {
        [
            &mut self.cpu,
            &mut self.memory,
            &mut self.scratch,
            &mut self.gpu,
            &mut self.encode_sessions,
            &mut self.decode_sessions,
        ]
    }

    pub fn get(&self, name: &str) -> u64 {
        KNOWN
            .iter()
            .position(|known| *known == name)
            .map_or_else(|| self.other.get(name).copied().unwrap_or(0), |i| self.known()[i])
    }

    pub fn set(&mut self, name: &str, amount: u64) {
        match KNOWN.iter().position(|known| *known == name) {
            Some(at) => *self.known_mut()[at] = amount,
            None => drop(self.other.insert(name.into(), amount)),
        }
    }

    /// The first resource of which `self` needs more than `free` has.
    pub fn first_lacking<'a>(&'a self, free: &Resources) -> Option<&'a str> {
        let (need, have) = (self.known(), free.known());
        if let Some(i) = (0..KNOWN.len()).find(|&i| need[i] > have[i]) {
            return Some(KNOWN[i]);
        }
        self.other.iter().find(|(name, need)| **need > free.get(name)).map(|(name, _)| name.as_str())
    }

    pub fn fits_in(&self, free: &Resources) -> bool {
        self.first_lacking(free).is_none()
    }

    pub fn add(&mut self, other: &Resources) {
        for (mine, theirs) in self.known_mut().into_iter().zip(other.known()) {
            *mine = mine.saturating_add(theirs);
        }
        for (name, amount) in &other.other {
            let mine = self.other.entry(name.clone()).or_default();
            *mine = mine.saturating_add(*amount);
        }
    }

    pub fn sub(&mut self, other: &Resources) {
        for (mine, theirs) in self.known_mut().into_iter().zip(other.known()) {
            *mine = mine.saturating_sub(theirs);
        }
        for (name, amount) in &other.other {
            if let Some(mine) = self.other.get_mut(name) {
                *mine = mine.saturating_sub(*amount);
            }
        }
    }

    /// The lesser of both, of each resource.
    #[must_use]
    pub fn min_of(&self, other: &Resources) -> Resources {
        let mut least = self.clone();
        for (mine, theirs) in least.known_mut().into_iter().zip(other.known()) {
            *mine = (*mine).min(theirs);
        }
        least.other.retain(|name, _| other.other.contains_key(name));
        for (name, mine) in &mut least.other {
            *mine = (*mine).min(other.get(name));
        }
        least
    }

    /// The greater of both, of each resource.
    #[must_use]
    pub fn max_of(&self, other: &Resources) -> Resources {
        let mut most = self.clone();
        for (mine, theirs) in most.known_mut().into_iter().zip(other.known()) {
            *mine = (*mine).max(theirs);
        }
        for (name, theirs) in &other.other {
            let mine = most.other.entry(name.clone()).or_default();
            *mine = (*mine).max(*theirs);
        }
        most
    }

    /// Every amount that is not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let known = KNOWN.into_iter().zip(self.known());
        known.chain(self.other.iter().map(|(n, a)| (n.as_str(), *a))).filter(|(_, amount)| *amount > 0)
    }
}

/// How a resource is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Kept in thousandths: `64`, `0.5`, `500m`.
    Thousandths,
    /// Kept in MiB: `512Mi`, `256Gi`, `2Ti`.
    Mebibytes,
    /// As it is.
    Plain,
}

pub fn unit(resource: &str) -> Unit {
    match resource {
        "cpu" | "gpu" => Unit::Thousandths,
        "memory" | "scratch" => Unit::Mebibytes,
        _ => Unit::Plain,
    }
}

/// An amount as people read and type it, everywhere: in tables, files, options and reasons.
pub fn amount_text(resource: &str, amount: u64) -> String {
    match unit(resource) {
        Unit::Thousandths if amount.is_multiple_of(1_000) => (amount / 1_000).to_string(),
        Unit::Thousandths => format!("{amount}m"),
        Unit::Mebibytes if amount > 0 && amount.is_multiple_of(1 << 20) => format!("{}Ti", amount >> 20),
        Unit::Mebibytes if amount > 0 && amount.is_multiple_of(1 << 10) => format!("{}Gi", amount >> 10),
        Unit::Mebibytes => format!("{amount}Mi"),
        Unit::Plain => amount.to_string(),
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, amount) in self.iter() {
            write!(f, "{}{name}={}", if first { "" } else { "," }, amount_text(name, amount))?;
            first = false;
        }
        if first { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_named() {
        let need = Resources { cpu: 1000, other: [("licence".into(), 1)].into(), ..Resources::ZERO };
        assert_eq!(need.first_lacking(&Resources::cpu_memory(500, 0)), Some("cpu"));
        assert_eq!(need.first_lacking(&Resources::cpu_memory(1000, 0)), Some("licence"));
        assert!(Resources::ZERO.fits_in(&Resources::ZERO));
    }

    #[test]
    fn amounts_are_shown_in_the_units_people_type() {
        let all = Resources {
            gpu: 250,
            encode_sessions: 8,
            other: [("licence".into(), 1_000)].into(),
            ..Resources::cpu_memory(1_500, 3 << 10)
        };
        assert_eq!(all.to_string(), "cpu=1500m,memory=3Gi,gpu=250m,encode_sessions=8,licence=1000");
        assert_eq!((amount_text("cpu", 64_000), amount_text("scratch", 1)), ("64".into(), "1Mi".into()));
    }

    #[test]
    fn the_lesser_and_the_greater_of_each_are_taken() {
        let with = |cpu, memory, licences| Resources {
            other: [("licence".into(), licences)].into(),
            ..Resources::cpu_memory(cpu, memory)
        };
        let (a, b) = (with(1, 5, 2), with(3, 4, 7));
        assert_eq!((a.min_of(&b), a.max_of(&b)), (with(1, 4, 2), with(3, 5, 7)));
        assert_eq!(a.max_of(&Resources::ZERO), a);
        assert_eq!(Resources::ZERO.max_of(&a), a);
    }

    #[test]
    fn arithmetic_saturates() {
        let mut r = Resources::cpu_memory(u64::MAX, 1);
        r.add(&Resources::cpu_memory(1, 1));
        assert_eq!((r.cpu, r.memory), (u64::MAX, 2));
        r.sub(&Resources::cpu_memory(0, 9));
        assert_eq!(r.memory, 0);
    }
}
