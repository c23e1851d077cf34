//! Congestion control: facts in, a window out.

mod reno;

pub(crate) use reno::Reno;

/// What an algorithm is told and asked. Windows are in octets.
pub(crate) trait Control {
    /// `octets` were acknowledged for the first time while the window was what held us back.
    fn on_ack(&mut self, octets: u32, mss: u32);
    /// A loss was found by duplicate ACKs, with `flight` octets in flight.
    fn on_loss(&mut self, flight: u32, mss: u32);
    /// The retransmission timer expired, with `flight` octets in flight.
    fn on_timeout(&mut self, flight: u32, mss: u32);
    /// cwnd
    fn window(&self) -> u32;
    /// ssthresh
    fn threshold(&self) -> u32;
}
