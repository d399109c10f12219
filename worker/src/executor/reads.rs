//! What a call reads through its worker: inputs that are no files of this machine. One `Reads` per call.

use spool_proto::call::SourceRead;
use spool_proto::failure::Failure;

use super::watch::{Pulse, beating};
use crate::stores::{Remote, Stores};
use crate::transfer::{Input, Opened, Owner};
use crate::wire;

/// Bytes of an answer to one Read, at most.
const READ_MAX: u64 = 1 << 20;

/// The inputs a call has open.
#[derive(Debug)]
pub struct Reads<'a> {
    stores: &'a Stores,
    inputs: &'a [Input],
    open: Vec<Option<Remote>>,
    /// The first input that could not be read: why the call is going to fail, whatever it says itself.
    failure: Option<Failure>,
}

impl<'a> Reads<'a> {
    pub fn new(stores: &'a Stores, inputs: &'a [Input]) -> Reads<'a> {
        Reads { stores, inputs, open: Vec::new(), failure: None }
    }

    /// Opens an input, and answers what the executor is told; a file goes beside it. An error: there is no such input. Beats
    /// while it waits: a slow store is not the executor's fault.
    pub async fn open(&mut self, index: u32, pulse: &Pulse) -> Result<(wire::Opened, Option<std::fs::File>), String> {
        let at = usize::try_from(index).ok().filter(|at| *at < self.inputs.len());
        let at = at.ok_or_else(|| format!("it asked for input {index}"))?;
        Ok(match beating(pulse, self.inputs[at].open(self.stores)).await {
            Ok(Opened::Local { file, bytes }) => (wire::Opened { bytes, remote: false, failure: None }, Some(file)),
            Ok(Opened::Remote(remote)) => {
                let told = wire::Opened { bytes: remote.bytes(), remote: true, failure: None };
                if self.open.len() <= at {
                    self.open.resize_with(at + 1, || None);
                }
                self.open[at] = Some(*remote);
                (told, None)
            }
            Err(failure) => (wire::Opened { bytes: 0, remote: false, failure: Some(failure.into()) }, None),
        })
    }

    /// Reads from an input that was opened. An error: it was not. The executor is not told why a read failed; the worker
    /// remembers it.
    pub async fn read(&mut self, read: wire::Read, pulse: &Pulse) -> Result<wire::Bytes, String> {
        let wire::Read { index, offset, length } = read;
        let remote = usize::try_from(index).ok().and_then(|at| self.open.get_mut(at)?.as_mut());
        let remote = remote.ok_or_else(|| format!("it read from input {index}, which it had not opened"))?;
        Ok(match beating(pulse, remote.read(offset, length.min(READ_MAX))).await {
            Ok(data) => wire::Bytes { data: data.into(), failed: false },
            Err(failure) => {
                self.failure.get_or_insert(failure);
                wire::Bytes { data: Vec::new(), failed: true }
            }
        })
    }

    /// Why an input could not be read.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// How the source was read, if it is one that this worker fetched.
    pub fn source(&self) -> Option<SourceRead> {
        self.inputs.first().filter(|input| input.owner == Owner::User)?;
        self.open.first()?.as_ref().map(Remote::read_so_far)
    }
}
