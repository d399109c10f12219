//! Damage of a source: told in one line however often it is met, or the end of the job, as the user wants it.

use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::OnDamage;

/// What was found in one stream.
#[derive(Debug)]
pub struct Damage {
    stream: u32,
    on_damage: OnDamage,
    places: u64,
    first: Option<String>,
}

impl Damage {
    pub fn new(stream: u32, on_damage: OnDamage) -> Damage {
        Damage { stream, on_damage, places: 0, first: None }
    }

    /// One more place. `what` says where it is and what is wrong; `then` what becomes of it where the job goes on.
    ///
    /// # Errors
    /// `source_damaged` (class input) where the job is to fail for it.
    pub fn note(&mut self, what: impl FnOnce() -> String, then: &str) -> Result<(), Failure> {
        if self.on_damage == OnDamage::Fail {
            let message = format!("stream {}: {}; --on-damage salvage encodes what can be had", self.stream, what());
            return Err(Failure::new(Class::Input, "source_damaged", message));
        }
        self.places += 1;
        self.first.get_or_insert_with(|| format!("{}; {then}", what()));
        Ok(())
    }

    pub fn is_any(&self) -> bool {
        self.places > 0
    }

    pub fn into_warnings(self) -> Vec<Warning> {
        let Some(first) = self.first else { return Vec::new() };
        let text = match self.places {
            1 => first,
            2 => format!("{first}; and one more such place"),
            places => format!("{first}; and {} more such places", places - 1),
        };
        vec![Warning { code: "damaged_source".into(), stream: Some(self.stream), text }]
    }
}

/// `3.250 s`, of microseconds.
pub fn seconds(us: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let seconds = us as f64 / 1e6;
    format!("{seconds:.3} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_once_with_its_first_place() {
        let mut damage = Damage::new(3, OnDamage::Salvage);
        for at in [1_250_000, 2_000_000, 9_000_000] {
            damage.note(|| format!("a hole at {}", seconds(at)), "it stays").unwrap();
        }
        let warnings = damage.into_warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!((warnings[0].code.as_str(), warnings[0].stream), ("damaged_source", Some(3)));
        assert_eq!(warnings[0].text, "a hole at 1.250 s; it stays; and 2 more such places");
        assert_eq!(Damage::new(0, OnDamage::Salvage).into_warnings(), []);
    }

    #[test]
    fn the_first_place_ends_a_job_that_is_to_fail() {
        let failure = Damage::new(3, OnDamage::Fail).note(|| "a hole at 1 s".into(), "it stays").unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "source_damaged"));
        assert!(failure.message.starts_with("stream 3: a hole at 1 s; --on-damage"), "{failure}");
    }
}
