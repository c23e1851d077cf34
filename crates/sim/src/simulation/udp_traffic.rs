//! Datagrams and pings beside the connections.

use super::application::text;
use super::settings::addresses;
use crate::random::Random;
use lastack_engine::{Stack, UdpId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The port on which datagrams are answered.
const PORT: u16 = 7;
/// The length in bytes of the id that precedes the rest.
const NAME: usize = 8;

/// The datagrams and pings of one host.
#[derive(Debug, Default)]
pub(super) struct UdpTraffic {
    socket: Option<UdpId>,
    /// The length of each request that was sent, by its id.
    asked: BTreeMap<u64, usize>,
    next: u64,
}

fn letter(name: u64, len: usize) -> Vec<u8> {
    let mut letter = name.to_be_bytes().to_vec();
    letter.extend(text(name, 0, len.saturating_sub(NAME) as u64));
    letter
}

/// The id of a message, if the bytes that follow are intact.
fn name(letter: &[u8]) -> Option<u64> {
    let name = u64::from_be_bytes(*letter.first_chunk::<NAME>()?);
    (letter[NAME..] == text(name, 0, (letter.len() - NAME) as u64)).then_some(name)
}

impl UdpTraffic {
    pub fn open(&mut self, stack: &mut Stack) {
        self.socket = stack.udp_bind(SocketAddr::from(([0u16; 8], PORT))).ok();
    }

    /// Its host has lost all state. Requests that were sent may still be answered.
    pub fn lose(&mut self) {
        self.socket = None;
    }

    pub fn close(&mut self, stack: &mut Stack) {
        if let Some(udp) = self.socket.take().and_then(|socket| stack.udp(socket)) {
            udp.close();
        }
    }

    /// Sends a datagram or a ping. One that cannot be sent is not recorded.
    pub fn send(&mut self, stack: &mut Stack, to: usize, random: &mut Random) {
        let max = if random.once_in(3) { 9_000 } else { 600 };
        let len = NAME + 1 + random.below(max) as usize;
        let to = addresses(to)[random.below(2) as usize];
        self.next += 1;
        let letter = letter(self.next, len);
        let asked = if random.once_in(2) {
            stack.echo_send(None, to, 1, self.next as u16, &letter).is_ok()
        } else if let Some(mut udp) = self.socket.and_then(|socket| stack.udp(socket)) {
            let port = if random.once_in(4) { PORT + 1 } else { PORT };
            udp.send(&letter, Some(SocketAddr::new(to, port))).is_ok()
        } else {
            false
        };
        if asked {
            self.asked.insert(self.next, len);
        }
    }

    /// Receives what has arrived, and answers requests.
    ///
    /// # Errors
    ///
    /// The data received differs from the data sent.
    pub fn receive(&mut self, stack: &mut Stack) -> Result<(), String> {
        while let Some(reply) = stack.poll_echo_reply() {
            if reply.result.is_ok() {
                self.check(&reply.data)?;
            }
        }
        while let Some(mut udp) = self.socket.and_then(|socket| stack.udp(socket))
            && let Ok(Some(datagram)) = udp.receive()
        {
            let (question, body) = (datagram.payload.len() > NAME, &datagram.payload);
            if name(body).is_none() {
                return Err(format!("a datagram from {} was damaged and not dropped", datagram.remote));
            }
            if question {
                // A full queue loses the answer, as a path may.
                let _lost = udp.send(&body[..NAME], Some(datagram.remote));
            } else {
                self.was_asked(body)?;
            }
        }
        Ok(())
    }

    /// Checks that the reply to a ping carries the data that was sent.
    fn check(&self, data: &[u8]) -> Result<(), String> {
        let asked = name(data).and_then(|name| self.asked.get(&name));
        if asked != Some(&data.len()) {
            return Err(format!("a ping brings back what was not sent: {} bytes", data.len()));
        }
        Ok(())
    }

    fn was_asked(&self, answer: &[u8]) -> Result<(), String> {
        let asked = name(answer).is_some_and(|name| self.asked.contains_key(&name));
        if asked { Ok(()) } else { Err(format!("an answer that nobody asked for: {answer:?}")) }
    }
}
