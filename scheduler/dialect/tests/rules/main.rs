//! Rule files, read and run.

mod built_in;
mod calls;
mod harness;
mod host;
mod language;
mod offline;
mod semantics;
