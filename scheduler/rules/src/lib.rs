//! The rules engine: durable forward chaining over the facts of one job. Pure: time comes in with events, sections are somebody else's
//! functions, what is to be done outside comes out as requests.
//!
//! In reading order: [`value`], [`fact`] and [`ruleset`] are the words; `network` is a rule set prepared for matching, `memory` the facts
//! with their indexes, `agenda` what waits to fire; [`effect`] is what sections answer and [`history`] what is kept of it; [`instance`] is
//! one job at work; [`explain`] says why a rule does not fire, [`rehearsal`] runs a rule set against a script, [`replay`] a history against
//! another rule set.

mod agenda;
pub mod effect;
pub mod explain;
pub mod fact;
pub mod history;
pub mod instance;
pub mod limits;
pub mod matcher;
mod memory;
mod network;
pub mod rehearsal;
pub mod replay;
pub mod ruleset;
pub mod schema;
pub mod value;
