//! A piece, decoded.

use std::io::{BufReader, Read};

use spool_proto::failure::{Class, Failure};

use crate::av::AvError;
use crate::av::codec::{Decoder, Received};
use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::piece::PieceReader;

/// The pictures of a piece, in display order.
#[derive(Debug)]
pub struct PieceFrames<R: Read> {
    packets: PieceReader<BufReader<R>>,
    decoder: Decoder,
    decoded: Frame,
    draining: bool,
}

fn libav(error: AvError) -> Failure {
    error.failure(Class::Internal, "libav", "decoding a chunk to score it")
}

impl<R: Read> PieceFrames<R> {
    pub fn open(piece: R, threads: u16) -> Result<PieceFrames<R>, Failure> {
        let packets = PieceReader::open(BufReader::new(piece))?;
        let decoder = Decoder::for_parameters(packets.parameters(), threads).map_err(libav)?;
        Ok(PieceFrames { packets, decoder, decoded: Frame::new().map_err(libav)?, draining: false })
    }

    /// The next; `None` at its end.
    pub fn next(&mut self) -> Result<Option<&mut Frame>, Failure> {
        loop {
            match self.decoder.receive(&mut self.decoded).map_err(libav)? {
                Received::One => return Ok(Some(&mut self.decoded)),
                Received::End => return Ok(None),
                Received::Again if self.draining => return Ok(None),
                Received::Again => {}
            }
            let Some(packet) = self.packets.next().transpose()? else {
                self.draining = true;
                self.decoder.send(None).map_err(libav)?;
                continue;
            };
            let mut coded = Packet::from_bytes(&packet.data).map_err(libav)?;
            for (kind, bytes) in &packet.side_data {
                coded.add_side_data(*kind, bytes).map_err(libav)?;
            }
            coded.set_times(packet.pts, packet.dts, packet.duration);
            self.decoder.send(Some(&coded)).map_err(libav)?;
        }
    }
}
