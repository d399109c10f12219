//! Framing on the socket between a worker and an executor: messages preceded by their length as a varint, and file handles
//! beside them (SCM_RIGHTS). Both ends use the same buffer; they differ in how they wait.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Longest message either end accepts, bytes: a keyframe table of a day of film fits several times over.
pub const MAX_FRAME: usize = 64 << 20;
/// Bytes asked for in one read.
const READ: usize = 64 << 10;
/// File handles taken in one read. The protocol has at most one under way.
const HANDLES: usize = 4;

/// What came in and was not taken yet.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Kept from read to read: clearing it anew would cost more than a short call does.
    buffer: Vec<u8>,
    /// What of `buffer` came in and was not taken.
    fresh: Range<usize>,
    handles: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads once. Zero: the other end is closed.
    ///
    /// # Errors
    /// The system's; `WouldBlock` from a socket that does not block.
    pub fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.read(socket, RecvFlags::empty())
    }

    /// As [`Inbox::fill`], from a socket that blocks, without waiting.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when nothing is there.
    pub fn fill_if_there(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.read(socket, RecvFlags::DONTWAIT)
    }

    fn read(&mut self, socket: impl AsFd, flags: RecvFlags) -> io::Result<usize> {
        self.make_room();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let room = &mut self.buffer[self.fresh.end..];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let read = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(room)], &mut ancillary, flags)?;
        self.fresh.end += read.bytes;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(handles) = message {
                self.handles.extend(handles);
                if self.handles.len() > HANDLES {
                    let text = format!("more than {HANDLES} handles that nobody asked for");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(read.bytes)
    }

    /// At least half of [`READ`] behind what is fresh.
    fn make_room(&mut self) {
        if self.fresh.is_empty() {
            self.fresh = 0..0;
            // A long message was the exception.
            if self.buffer.len() > READ {
                self.buffer = Vec::new();
            }
        } else if self.buffer.len() - self.fresh.end < READ / 2 {
            self.buffer.copy_within(self.fresh.clone(), 0);
            self.fresh = 0..self.fresh.len();
        }
        if self.buffer.len() - self.fresh.end < READ / 2 {
            // Doubling, so that a long message is copied a few times and not once a read.
            self.buffer.resize((self.buffer.len() * 2).max(READ), 0);
        }
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// `InvalidData` when what came in is no message, or one longer than [`MAX_FRAME`].
    pub fn take<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let rest = &self.buffer[self.fresh.clone()];
        let length = match prost::decode_length_delimiter(rest) {
            Ok(length) => length,
            // A varint has at most ten bytes: with fewer, the rest may still come.
            Err(_) if rest.len() < 10 => return Ok(None),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        if length > MAX_FRAME {
            let text = format!("a message of {length} bytes, more than {MAX_FRAME}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let start = prost::length_delimiter_len(length);
        let Some(body) = rest.get(start..start + length) else { return Ok(None) };
        let message = M::decode(body)?;
        self.fresh.start += start + length;
        Ok(Some(message))
    }

    /// The oldest file handle that came in.
    pub fn take_handle(&mut self) -> Option<OwnedFd> {
        self.handles.pop_front()
    }
}

/// Writes once: as much of `bytes` as goes, `handle` beside the first of them.
///
/// # Errors
/// The system's; `WouldBlock` from a socket that does not block.
pub fn send(socket: impl AsFd, bytes: &[u8], handle: Option<&OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let handles = handle.map(|handle| [handle.as_fd()]);
    if let Some(handles) = &handles {
        let pushed = ancillary.push(SendAncillaryMessage::ScmRights(handles));
        debug_assert!(pushed, "the space was made for one handle");
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FromExecutor, Ready, from_executor};
    use std::os::unix::net::UnixStream;

    fn ready(pid: u32) -> FromExecutor {
        FromExecutor { kind: Some(from_executor::Kind::Ready(Ready { pid, walls: None })) }
    }

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::default();
        let bytes: Vec<u8> =
            [ready(1), ready(300_000)].iter().flat_map(FromExecutor::encode_length_delimited_to_vec).collect();
        let mut got = Vec::new();
        for byte in &bytes {
            send(&here, std::slice::from_ref(byte), None).unwrap();
            inbox.fill(&there).unwrap();
            got.extend(inbox.take::<FromExecutor>().unwrap());
        }
        assert_eq!(got, [ready(1), ready(300_000)]);
    }

    #[test]
    fn a_handle_comes_with_its_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        send(&here, &ready(7).encode_length_delimited_to_vec(), Some(&file)).unwrap();
        let mut inbox = Inbox::default();
        assert!(inbox.fill(&there).unwrap() > 0);
        assert_eq!(inbox.take::<FromExecutor>().unwrap(), Some(ready(7)));
        assert!(inbox.take_handle().is_some());
        assert!(inbox.take_handle().is_none());
        drop(here);
        assert_eq!(inbox.fill(&there).unwrap(), 0);
    }

    #[test]
    fn long_messages_pass_among_short_ones() {
        let (here, there) = UnixStream::pair().unwrap();
        let long = |n: usize| FromExecutor {
            kind: Some(from_executor::Kind::Done(crate::wire::Done { value: vec![7; n], ..Default::default() })),
        };
        let sent = [ready(1), long(5 << 20), ready(2), long(READ), long(READ / 2), ready(3)];
        let bytes: Vec<u8> = sent.iter().flat_map(FromExecutor::encode_length_delimited_to_vec).collect();
        let writer = std::thread::spawn(move || {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                rest = &rest[send(&here, rest, None).unwrap()..];
            }
        });
        let mut inbox = Inbox::default();
        let mut got = Vec::new();
        while inbox.fill(&there).unwrap() > 0 {
            while let Some(message) = inbox.take::<FromExecutor>().unwrap() {
                got.push(message);
            }
        }
        writer.join().unwrap();
        assert!(got == sent, "{} messages", got.len());
    }

    #[test]
    fn nonsense_and_monsters_are_refused() {
        for bytes in [vec![0xff; 16], {
            let mut long = Vec::new();
            prost::encode_length_delimiter(MAX_FRAME + 1, &mut long).unwrap();
            long
        }] {
            let (here, there) = UnixStream::pair().unwrap();
            send(&here, &bytes, None).unwrap();
            let mut inbox = Inbox::default();
            inbox.fill(&there).unwrap();
            assert_eq!(inbox.take::<FromExecutor>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
