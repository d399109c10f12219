//! `media.plan`: the packet index in, the artifact `plan` and its summary out. The planning itself is [`crate::plan`].

use std::fs::File;
use std::io::{BufReader, BufWriter};

use spool_proto::call::{PlanArgs, Value};
use spool_proto::failure::{Class, Failure};

use crate::packets::PacketIndex;
use crate::plan::{joined, plan};
use crate::{Host, Product, scenes, scratch_failed};

/// Runs `media.plan`. Inputs: the sources (not read), then the packet index of each, absent when the output has no video, then the lists of
/// scenes of those that were scanned.
///
/// # Errors
/// Those of [`plan`] and [`scenes::read`]; class host where scratch cannot be written.
pub fn run(args: &PlanArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let sources = 1 + args.joined.len();
    let scanned =
        args.scans.iter().fold(0usize, |all, parts| all.saturating_add(usize::try_from(*parts).unwrap_or(usize::MAX)));
    let mut next = host.inputs().checked_sub(scanned).filter(|first| *first >= sources).ok_or_else(|| {
        let message = format!("{} inputs are {sources} sources and {scanned} scans", host.inputs());
        Failure::new(Class::Internal, "bad_scan", message)
    })?;
    let mut indexes = Vec::with_capacity(sources);
    for input in sources..next {
        indexes.push(PacketIndex::read(BufReader::new(host.open(input)?))?);
    }
    let mut scans = Vec::with_capacity(args.scans.len());
    for parts in &args.scans {
        let mut lists = Vec::new();
        for _ in 0..*parts {
            lists.push(host.open(next)?);
            next += 1;
        }
        scans.push(if lists.is_empty() { None } else { Some(scenes::read(lists)?) });
    }
    let plan = match (args.joined.is_empty(), scans.first()) {
        (true, scan) => plan(indexes.first(), scan.and_then(Option::as_deref), args)?,
        (false, _) => joined::plan(&indexes, &scans, args)?,
    };
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
