//! `spool exec`: the inside of an executor process. Started by workers, spoken to over its stdin.

use spool_media::{Host, Product};
use spool_proto::call::Args;
use spool_proto::failure::Failure;
use spool_worker::executor::{self, Functions};

struct Media;

impl Functions for Media {
    fn run(&self, args: &Args, host: &mut dyn Host) -> Result<Product, Failure> {
        spool_media::run(args, host)
    }

    fn golden(&self, backend: &str) -> Result<(), Failure> {
        spool_media::golden::golden(backend)
    }
}

/// Serves calls until the worker closes the socket.
pub fn main() -> ! {
    executor::main(&Media)
}
