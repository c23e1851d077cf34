//! What a relay does with a connection so that its peer sees the whole path: acknowledgments, errors and silence of
//! another host.

use crate::tcp::TcpStream;
use crate::wakers::Interest;
use lastack_wire::icmp::IcmpError;
use std::io;
use std::net::IpAddr;
use std::task::Poll;

/// For relays.
impl TcpStream {
    /// From now on the stream is acknowledged only as far as [`acknowledge`](Self::acknowledge) says, and a keep-alive
    /// probe of the peer is answered by that call alone, of which [`ack_wanted`](Self::ack_wanted) tells. The peer's
    /// timers (retransmission, user timeout, keep-alive) then measure the path to whoever reads the stream in the end.
    ///
    /// # Errors
    /// None as long as the stack knows the connection, which it does.
    pub fn hold_acks(&self) -> io::Result<()> {
        self.call(|tcp| {
            tcp.hold_acks();
            Ok(())
        })
    }

    /// Acknowledges the first `octets` of the stream, counted from its begin; `fin`: and the FIN, if these are all. With
    /// the last of it goes the answer to whatever the peer has asked.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn acknowledge(&self, octets: u64, fin: bool) -> io::Result<()> {
        self.call(|tcp| {
            tcp.acknowledge(octets, fin);
            Ok(())
        })
    }

    /// Waits until the peer asks for what is held back: an acknowledgment of what it sent again, or a sign of life.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    pub async fn ack_wanted(&self) -> io::Result<()> {
        let asked = |tcp: &mut lastack_engine::Tcp<'_>| {
            if tcp.ack_wanted() { Poll::Ready(Ok(())) } else { Poll::Pending }
        };
        self.wait(Interest::Acknowledge(self.id), asked).await
    }

    /// From now on nothing is sent to the peer, and nothing that it sends counts but a reset: to it, the path is cut.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn mute(&self) -> io::Result<()> {
        self.call(|tcp| {
            tcp.mute();
            Ok(())
        })
    }

    /// Tells the peer an ICMP error about what it has in flight, as a router on the way would; from this address or, with
    /// `None`, from our own.
    ///
    /// # Errors
    /// As [`hold_acks`](Self::hold_acks).
    pub fn report_error(&self, error: IcmpError, from: Option<IpAddr>) -> io::Result<()> {
        self.call(|tcp| {
            tcp.report_error(error, from);
            Ok(())
        })
    }
}
