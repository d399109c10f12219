//! `spool rules-exec`: the inside of the process that reads a rule set and runs its sections. Started by servers and by the tools of
//! authors ([`keeper`]), spoken to over its standard input and output, locked in before its first byte.

use anyhow::Context;
use spool_dialect::{Keeper, child};
use spool_worker::executor::cell;

/// Bytes of addresses that a rule set and a section of it may take together.
const ADDRESS_SPACE: u64 = 1 << 30;

/// Serves one rule set until its starter closes the pipe.
pub fn main() -> ! {
    let served = cell::enter(ADDRESS_SPACE).and_then(|_walls| child::serve());
    if let Err(error) = served {
        // The starter puts the last line of stderr into what it says of this process.
        eprintln!("spool rules-exec: {error}");
        std::process::exit(2);
    }
    std::process::exit(0);
}

/// Starts this program as the process for sections.
///
/// # Errors
/// When this program's own file cannot be named.
pub fn keeper() -> anyhow::Result<Keeper> {
    let program = std::env::current_exe().context("this program's own file cannot be named")?;
    Ok(Keeper::new(program, vec!["rules-exec".into()]))
}
