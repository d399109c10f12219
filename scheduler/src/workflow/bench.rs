//! `bench`: so many calls of `bench.noop`, all at once.

use spool_core::io::Next;
use spool_proto::call::{Args, Call};
use spool_proto::resources::Resources;
use spool_proto::spec::BenchSpec;
use spool_proto::time::Span;

use super::Order;

pub(super) fn next(spec: &BenchSpec, phase: Option<&str>) -> Next {
    if phase.is_some() {
        return Next::Finish { output: b"{}".as_slice().into() };
    }
    let args = Args::Noop { sleep_us: spec.call_time.0, through_executor: spec.through_executor };
    let call = Call { inputs: Vec::new(), output_prefix: String::new(), source_version: None, args };
    // The call itself, and a minute for a machine that is busy with other things.
    let timeout = spec.call_time + Span::from_secs(60);
    let order = Order { call, resources: Resources::cpu_memory(1_000, 0), timeout };
    Next::Phase { name: "running".into(), tasks: vec![order.run(spec.tasks)] }
}
