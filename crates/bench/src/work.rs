//! Units of work, and how the processes of the benchmark exchange them: JSON lines.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Ports of the server.
pub mod port {
    /// Sends data for the time in the request.
    pub const SOURCE: u16 = 5001;
    /// Receives data and confirms it.
    pub const SINK: u16 = 5002;
    /// Returns each byte.
    pub const ECHO: u16 = 5003;
    /// Accepts, and closes when the client has closed.
    pub const CLOSE: u16 = 5004;
    /// Answers HTTP requests.
    pub const HTTP: u16 = 5005;
    /// Accepts, and sends for as long as there is room.
    pub const FLOOD: u16 = 5006;
    /// Nothing listens here.
    pub const CLOSED: u16 = 5009;
    /// UDP: counts datagrams; returns those of one byte.
    pub const DATAGRAMS: u16 = 5010;
    /// UDP: sends datagrams for the time in the request.
    pub const STREAM: u16 = 5011;
    /// TCP: what the two UDP ports have counted since the last query.
    pub const COUNTERS: u16 = 5012;
}

/// Data bytes of a datagram: the first eight are its number.
pub const DATAGRAM: usize = 1400;

/// What a client is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Work {
    /// Bulk data from the server to the client, over a number of connections.
    Download {
        /// Connections at the same time.
        streams: usize,
    },
    /// Bulk data from the client to the server.
    Upload {
        /// Connections at the same time.
        streams: usize,
    },
    /// One byte there and back.
    PingPong,
    /// Connections opened, and closed by both sides.
    Connect,
    /// Connections to a closed port.
    Refused,
    /// HTTP requests on one connection.
    HttpKeepAlive,
    /// HTTP requests, each on its own connection.
    HttpClose,
    /// One datagram there and back.
    UdpPingPong,
    /// Datagrams from the client to the server.
    UdpUp {
        /// Datagrams a second; 0: as many as the client can send.
        rate: u32,
    },
    /// Datagrams from the server to the client.
    UdpDown {
        /// Datagrams a second; 0: as many as the server can send.
        rate: u32,
    },
    /// Opens idle connections and keeps them until the next order.
    Idle {
        /// Their number.
        connections: usize,
    },
    /// Opens connections over which the server sends, and does not read; kept until the next order.
    NeverRead {
        /// Their number.
        connections: usize,
    },
    /// Closes the connections that were kept.
    Release,
}

/// An order to a client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    pub work: Work,
    pub server: Ipv4Addr,
    /// How long.
    pub millis: u64,
    /// The CPU to run on; any if there is none.
    pub cpu: Option<usize>,
    /// Compare every byte.
    pub thorough: bool,
}

/// The result.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Gbit/s of payload, or operations a second.
    pub rate: f64,
    /// Bytes or operations.
    pub amount: u64,
    /// Of several streams: the slowest in relation to the fastest.
    pub fairness: Option<f64>,
    /// Lost datagrams, as a share of those sent.
    pub loss: Option<f64>,
}

/// A line of a client.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The client takes orders.
    Ready,
    Done(Outcome),
    Failed(String),
}

/// The request that begins a connection to [`port::SOURCE`] and [`port::SINK`], and the datagram to [`port::STREAM`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub millis: u64,
    pub rate: u32,
    pub thorough: bool,
}

impl Request {
    pub const LEN: usize = 16;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.millis.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rate.to_le_bytes());
        bytes[12] = self.thorough.into();
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut millis = [0; 8];
        millis.copy_from_slice(&bytes[..8]);
        let mut rate = [0; 4];
        rate.copy_from_slice(&bytes[8..12]);
        Self { millis: u64::from_le_bytes(millis), rate: u32::from_le_bytes(rate), thorough: bytes[12] != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request { millis: 1234, rate: 99, thorough: true };
        assert_eq!(Request::from_bytes(&request.to_bytes()), request);
    }
}
