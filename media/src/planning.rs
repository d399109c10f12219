//! `media.plan`: the packet index in, the artifact `plan` and its summary out. The planning itself is [`crate::plan`].

use std::fs::File;
use std::io::{BufReader, BufWriter};

use spool_proto::call::{PlanArgs, Value};
use spool_proto::failure::Failure;

use crate::packets::PacketIndex;
use crate::plan::{joined, plan};
use crate::{Host, Product, scratch_failed};

/// Runs `media.plan`. Inputs: the sources (not read), then the packet index of each, absent when the output has no video.
///
/// # Errors
/// Those of [`plan`]; class host where scratch cannot be written.
pub fn run(args: &PlanArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let sources = 1 + args.joined.len();
    let mut indexes = Vec::with_capacity(sources);
    for input in sources..host.inputs() {
        indexes.push(PacketIndex::read(BufReader::new(host.open(input)?))?);
    }
    let plan = if args.joined.is_empty() { plan(indexes.first(), args)? } else { joined::plan(&indexes, args)? };
    let mut files = Vec::new();
    for (number, file) in plan.file.into_iter().chain(plan.more).enumerate() {
        let name = if number == 0 { "plan".to_owned() } else { format!("plan-{number}") };
        let path = host.scratch().join(&name);
        let to = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
        file.write(BufWriter::new(to))?;
        files.push((name, path));
    }
    Ok(Product { files, warnings: plan.warnings, value: Value::Plan(plan.summary) })
}
