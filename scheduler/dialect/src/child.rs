//! The inside of the process that runs an author's sections: reads the files it is given, then sections as they are asked for, until
//! its standard input ends.

use std::io::{self, BufRead, Write};

use spool_rules::history::SectionFailure;

use crate::compile::Compiled;
use crate::wire::{Order, Said};

/// Serves one rule set over standard input and output. Whoever starts it locks it in first.
///
/// # Errors
/// When the pipe breaks.
pub fn serve() -> io::Result<()> {
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut compiled = None;
    for line in input.lines() {
        let said = match serde_json::from_str(&line?) {
            Ok(Order::Read(sources)) => match Compiled::new(&sources) {
                Ok(read) => {
                    let set = Box::new(read.set.clone());
                    compiled = Some(read);
                    Said::Set(set)
                }
                Err(problems) => Said::Problems(problems),
            },
            Ok(Order::Check(sources)) => match crate::check(&sources) {
                Ok((read, warnings)) => {
                    let set = Box::new(read.set.clone());
                    compiled = Some(read);
                    Said::Checked(set, warnings)
                }
                Err(problems) => Said::Problems(problems),
            },
            Ok(Order::Run { rule, section, given, now_us, firing }) => match &compiled {
                Some(compiled) => {
                    let given: Vec<_> = given.iter().map(|(name, value)| (name.as_ref(), value.clone())).collect();
                    match compiled.section(rule, section.name(), &given, now_us, &firing) {
                        Ok(effects) => Said::Effects(effects),
                        Err(broke) => Said::Broke(broke),
                    }
                }
                None => Said::Broke(SectionFailure::new("no_rules", "nothing was read yet")),
            },
            Err(e) => Said::Broke(SectionFailure::new("bad_order", e.to_string())),
        };
        serde_json::to_writer(&mut output, &said)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}
