//! Socket options about buffers and packet sizes: `SO_RCVBUF`, `TCP_NOTSENT_LOWAT`, `MSG_EOR`, `IP_MTU_DISCOVER`.

use crate::tcp::TcpStream;
use crate::tcp::socket::check_recv_buffer;
use crate::tcp::stream::poll_tcp;
use std::io;

/// Buffers and packet sizes.
impl TcpStream {
    /// Limits unsent data (`TCP_NOTSENT_LOWAT`): a write takes at most this many bytes beyond what the peer's window
    /// and the congestion window allow sending, and the stream counts as writable again once less than half of that
    /// is unsent. What is written then is recent, for data that ages, as a picture or a HTTP/2 frame of high priority.
    /// `None`: the size of the send buffer is the only limit.
    ///
    /// # Errors
    /// None while the stream exists.
    pub fn set_not_sent_low_water(&self, bytes: Option<u32>) -> io::Result<()> {
        self.set(|tcp| tcp.set_not_sent_low_water(bytes))
    }

    /// See [`set_not_sent_low_water`](Self::set_not_sent_low_water).
    ///
    /// # Errors
    /// None while the stream exists.
    pub fn not_sent_low_water(&self) -> io::Result<Option<u32>> {
        self.call(|tcp| Ok(tcp.not_sent_low_water()))
    }

    /// Limits the receive buffer (`SO_RCVBUF`) from now on, up to the host's
    /// [`receive_buffer`](crate::TcpConfig::receive_buffer), instead of tuning it automatically. A window that was advertised
    /// before is not taken back.
    ///
    /// # Errors
    /// `InvalidInput` below 536 or above 1 GiB.
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        check_recv_buffer(bytes)?;
        self.set(|tcp| tcp.set_receive_buffer(Some(bytes as usize)))
    }

    /// The limit of the receive buffer: what was set, or the host's.
    ///
    /// # Errors
    /// None while the stream exists.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        self.call(|tcp| Ok(tcp.receive_buffer() as u32))
    }

    /// `IP_MTU_DISCOVER`. `false` is `IP_PMTUDISC_DONT`: IPv4 segments are sent without DF, and ICMP errors do not
    /// lower the path MTU. No effect on IPv6, whose routers never fragment.
    ///
    /// # Errors
    /// None while the stream exists.
    pub fn set_path_mtu_discovery(&self, on: bool) -> io::Result<()> {
        self.set(|tcp| tcp.set_path_mtu_discovery(on))
    }

    /// See [`set_path_mtu_discovery`](Self::set_path_mtu_discovery).
    ///
    /// # Errors
    /// None while the stream exists.
    pub fn path_mtu_discovery(&self) -> io::Result<bool> {
        self.call(|tcp| Ok(tcp.path_mtu_discovery()))
    }

    /// [`try_write`](Self::try_write), and a record ends after `data` if all of it was taken (`MSG_EOR`): no segment
    /// contains data from both sides of its end. The peer is not notified of it. At most 1024 ends are kept.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, _peer) = (near?, far?.0);
    /// stream.set_nodelay(false)?;
    /// stream.try_write_record(b"one message")?; // a segment of its own, also if another message is queued behind it
    /// stream.try_write_record(b"another")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_write_record(&self, data: &[u8]) -> io::Result<usize> {
        self.host.shared().with(|inner| {
            inner.running()?;
            let sent = poll_tcp(inner, self.id, |tcp| tcp.send_record(data));
            inner.or_would_block(sent)
        })
    }
}
