//! `function`: one call of a function that somebody pushed; then, if they are wanted, the files it left.

use spool_core::io::{Next, TaskRun};
use spool_function::own::needs::{CORE, PUBLISH_MEMORY, READ_TIMEOUT};
use spool_proto::call::{Args, Artifact, PackageEntry, PublishPackageArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::resources::Resources;
use spool_proto::spec::FunctionSpec;
use spool_proto::view::{FunctionFileView, FunctionOutput};

use super::{DoneTask, Order, Work, unknown_phase};
use crate::functions;

pub(super) fn next(spec: &FunctionSpec, work: Work<'_>, at: Option<&str>) -> Result<Next, Failure> {
    let order = spec.order.as_deref().ok_or_else(|| {
        Failure::new(Class::Internal, "bad_spec", format!("the job of {} was accepted without its order", spec.name))
    })?;
    let called = || work.one(&order.function());
    match at {
        None => {
            let task = functions::task(order, work.artifacts.to_owned());
            Ok(Next::Phase { name: "running".into(), tasks: vec![TaskRun { count: 1, task }] })
        }
        Some("running") => match &spec.output {
            Some(output) if !called()?.answer.artifacts.is_empty() => Ok(publish(spec, output, work, called()?)),
            _ => finish(spec, called()?),
        },
        Some("packaging") => finish(spec, called()?),
        Some(other) => Err(unknown_phase("function", other)),
    }
}

fn publish(spec: &FunctionSpec, output: &str, work: Work<'_>, called: &DoneTask) -> Next {
    let entry = |(input, file): (usize, &Artifact)| PackageEntry::File {
        path: file.name.clone(),
        input,
        hash: file.hash.clone(),
    };
    let entries = called.answer.artifacts.iter().enumerate().map(entry).collect();
    let args = PublishPackageArgs { output: output.to_owned(), overwrite: spec.overwrite, entries };
    let inputs = called.answer.artifacts.iter().map(|file| file.uri.clone()).collect();
    let call = work.call(inputs, Args::PublishPackage(args));
    let order = Order { call, resources: Resources::cpu_memory(CORE, PUBLISH_MEMORY), timeout: READ_TIMEOUT };
    Next::Phase { name: "packaging".into(), tasks: vec![order.run(1)] }
}

fn finish(spec: &FunctionSpec, called: &DoneTask) -> Result<Next, Failure> {
    let Value::User { result, log } = &called.answer.value else { return Err(called.wrong_kind()) };
    let view = |file: &Artifact| FunctionFileView {
        name: file.name.clone(),
        bytes: file.bytes,
        hash: file.hash.clone(),
        uri: spec.output.as_ref().map(|output| format!("{output}{}", file.name)),
    };
    let output = FunctionOutput {
        function: spec.name.clone(),
        version: spec.version.clone(),
        result: result.clone(),
        files: called.answer.artifacts.iter().map(view).collect(),
        log: log.clone(),
        worker: called.worker.clone(),
        attempt: called.attempt,
        seconds: called.finished.since(called.started).as_secs_f64(),
    };
    Ok(Next::Finish { output: serde_json::to_vec(&output).expect("plain data with string keys").into() })
}
