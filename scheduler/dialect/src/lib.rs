//! The language that rules are written in: Starlark with the words of [`words`]. [`file`] is the sources and what is wrong with them,
//! [`compile`] makes a rule set of them, [`sections`] runs what the rule set's engine asks for.
//!
//! Rules of strangers run in a process of their own: [`host`] is the server's end, [`child`] the inside.
//!
//! The only crate that knows the language; what it makes is data of `spool-rules`.

mod calls;
pub mod check;
pub mod child;
pub mod compile;
pub mod file;
pub mod host;
mod json;
mod media;
pub mod sections;
mod wire;
mod words;

pub use check::check;
pub use compile::Compiled;
pub use file::{Problem, Severity, Sources};
pub use host::{Hosted, Keeper};
