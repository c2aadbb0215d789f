//! Bytes in place of a connection to Patroni, read by the real client, without a socket.

use std::sync::Arc;
use std::time::Duration;

use patroni_check::patroni::{Observation, ask, http_agent};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

/// What comes of an answer of these bytes.
pub fn replay(bytes: &[u8]) -> Observation {
    ask(&http_agent(Duration::from_secs(1), None, Replay(bytes.into())), "http://127.0.0.1:8008/")
}

#[derive(Debug)]
struct Replay(Arc<[u8]>);

#[derive(Debug)]
struct Playing {
    buffers: LazyBuffers,
    bytes: Arc<[u8]>,
    sent: usize,
}

impl Connector for Replay {
    type Out = Playing;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Playing>, ureq::Error> {
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Playing { buffers, bytes: Arc::clone(&self.0), sent: 0 }))
    }
}

impl Transport for Playing {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let room = self.buffers.input_append_buf();
        let rest = &self.bytes[self.sent..];
        let amount = rest.len().min(room.len());
        room[..amount].copy_from_slice(&rest[..amount]);
        self.sent += amount;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        true
    }
}
