//! Rule files, read and run.

mod harness;
mod host;
mod language;
mod offline;
mod semantics;
