//! Builders for unit tests.

use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::io::Shape;

/// A shape that needs `cpu` milli-cores.
pub(crate) fn shape(cpu: u64) -> Shape {
    Shape {
        function: "bench.noop".into(),
        backend: String::new(),
        resources: Resources::cpu_memory(cpu, 0),
        timeout: Span::ZERO,
        no_progress: Span::ZERO,
    }
}
