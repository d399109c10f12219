//! Rule files, read and run.

mod harness;
mod language;
mod semantics;
