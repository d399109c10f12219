//! The language that rules are written in: Starlark with the words of [`words`]. [`file`] is the sources and what is wrong with them,
//! [`compile`] makes a rule set of them, [`sections`] runs what the rule set's engine asks for.
//!
//! The only crate that knows the language; what it makes is data of `spool-rules`.

pub mod compile;
pub mod file;
pub mod sections;
mod words;

pub use compile::{Compiled, lint};
pub use file::{Problem, Severity, Sources};
