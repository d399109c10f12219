//! `media.plan`: the packet index in, the artifact `plan` and its summary out. The planning itself is [`crate::plan`].

use std::fs::File;
use std::io::{BufReader, BufWriter};

use spool_proto::call::{PlanArgs, Value};
use spool_proto::failure::Failure;

use crate::packets::PacketIndex;
use crate::plan::plan;
use crate::{Host, Product, scratch_failed};

/// Runs `media.plan`. Inputs: the source (not read), then the packet index, absent when the output has no video.
///
/// # Errors
/// Those of [`plan`]; class host where scratch cannot be written.
pub fn run(args: &PlanArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let index = if host.inputs() > 1 { Some(PacketIndex::read(BufReader::new(host.open(1)?))?) } else { None };
    let plan = plan(index.as_ref(), args)?;
    let mut files = Vec::new();
    if let Some(file) = plan.file {
        let path = host.scratch().join("plan");
        let to = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
        file.write(BufWriter::new(to))?;
        files.push(("plan".to_owned(), path));
    }
    Ok(Product { files, warnings: plan.warnings, value: Value::Plan(plan.summary) })
}
