//! Functions that workers have themselves: what each takes, answers, leaves and needs. One declaration, from which the server takes memory
//! and time, `spool service check` what a call may say, and stubs and documents their text.
//!
//! [`table`] holds the declarations, [`types`] and [`spec`] what their fields are, [`needs`] memory and time, [`show`] how
//! they are shown. Tests hold all of it against
//! the types that travel.

mod mirror;
pub mod needs;
mod show;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod types;

use spool_proto::resources::Resources;

pub use needs::{Expected, Needs, Shape};
pub use show::markdown;
pub use table::{all, families};

use crate::schema::Schema;

/// A declaration.
#[derive(Debug, Clone)]
pub struct Function {
    /// `media.encode`.
    pub name: &'static str,
    /// In one line.
    pub does: &'static str,
    /// What the URIs of a call's `inputs` are, in their order. Empty: it takes none.
    pub inputs: &'static str,
    pub input: Schema,
    /// Of the answer alone; a rule sees [`Function::result`].
    pub output: Schema,
    pub artifacts: Artifacts,
    pub needs: Needs,
    pub expected: Expected,
    /// The same call may be made again after a failure, and after an answer that was lost.
    pub idempotent: bool,
}

/// Files that a call leaves, by name.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts {
    pub names: &'static [&'static str],
    /// There may be others, whose names follow from the arguments.
    pub more: bool,
}

impl Function {
    /// What a rule sees of an answer: its fields, and what comes with every one.
    pub fn result(&self) -> Schema {
        types::result(self.output.fields().clone(), self.artifacts)
    }

    /// Of one call whose author says nothing.
    pub fn resources(&self) -> Resources {
        Resources::cpu_memory(needs::CORE, self.needs.memory_mib)
    }
}

/// As [`Function::result`], of a function that somebody pushed.
pub fn result(output: &Schema) -> Schema {
    types::result(output.fields().clone(), Artifacts { names: &[], more: true })
}

/// The function of a name.
pub fn get(name: &str) -> Option<&'static Function> {
    all().iter().find(|function| function.name == name)
}

/// The one of `names` that `name` was most likely meant to be. `None`: it is like none of them.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count().div_ceil(3);
    let near = names.into_iter().map(|known| (distance(name, known), known));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// Letters to change, add or leave out to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for (column, theirs) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *theirs);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
