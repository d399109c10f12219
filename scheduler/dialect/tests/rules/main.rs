//! Rule files, read and run.

mod built_in;
mod harness;
mod host;
mod language;
mod offline;
mod semantics;
