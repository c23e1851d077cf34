//! Writing the packets of connections as pcapng, with a comment on each that decides.

use crate::comment;
use crate::decap::{self, Ip};
use crate::explainer::{Explained, Known};
use crate::packet::{Endpoint, Frame};
use crate::read::RawPacket;
use crate::record::Writer;
use crate::render::pseudonym;
use crate::segment::Segment;
use crate::stated::Stated;
use lastack_wire::ip::IpHeader;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;

const RAW: u16 = 101;
const TCP: u8 = 6;

/// Which packets are written, and their comments.
#[derive(Debug, Default)]
pub struct Selection {
    ranges: HashMap<(Endpoint, Endpoint), Vec<(Frame, Frame)>>,
    comments: HashMap<Frame, String>,
    /// How connections ended, as the stack that wrote the capture has stated: by their last packets.
    ends: HashMap<Frame, Stated>,
    all: bool,
}

fn key(a: Endpoint, b: Endpoint) -> (Endpoint, Endpoint) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Selection {
    /// Chooses these connections; or all packets, with comments on these.
    #[must_use]
    pub fn new<'a>(chosen: impl Iterator<Item = &'a Explained>, writer: &Writer, all: bool) -> Self {
        let mut this = Self { all, ..Self::default() };
        for one in chosen {
            let range = (one.conn.first.1, one.conn.last.1);
            this.ranges.entry(key(one.client(), one.server())).or_default().push(range);
            if let Some(known) = comment::known(one) {
                let (client, server) = (one.client().into(), one.server().into());
                let end = Stated { udp: false, client, server, time: one.conn.last.0, known };
                this.ends.insert(one.conn.last.1, end);
            }
            for frame in &one.verdict.decisive {
                let evidence = one.verdict.evidence.iter().find(|evidence| evidence.frame == Some(*frame));
                let text = evidence.map_or(one.verdict.cause.sentence(), |evidence| evidence.text.as_str());
                let comment = format!(
                    "{} by {}, confidence {:.2}: {text} [{}]",
                    one.verdict.cause,
                    one.verdict.ended_by.noun(),
                    one.verdict.confidence,
                    writer.id(one)
                );
                this.comments.insert(*frame, comment);
            }
            for (reset, role) in one.conn.resets.iter().zip(&one.verdict.roles) {
                let text =
                    || format!("reset: {}, {}, of {}", role.name(), reset.effect.name(), one.verdict.cause);
                this.comments.entry(reset.pkt.frame).or_insert_with(text);
            }
        }
        this
    }

    fn takes(&self, ip: Option<&Ip<'_>>, packet: &RawPacket<'_>) -> bool {
        if self.all {
            return true;
        }
        if self.comments.contains_key(&packet.frame) {
            return true;
        }
        let Some(segment) =
            ip.filter(|ip| ip.protocol == TCP).and_then(|ip| Segment::read(ip, packet.time, packet.frame))
        else {
            return false;
        };
        let ranges = self.ranges.get(&key(segment.src, segment.dst));
        ranges
            .is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&packet.frame)))
    }
}

/// A pcapng file being written.
pub struct PcapngWriter<W: Write> {
    out: W,
    interfaces: Vec<u16>,
    anonymize: bool,
    /// Packets that were written.
    pub written: u64,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins the file. `anonymize`: addresses are replaced, link headers, tunnels and payload left out.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, anonymize: bool) -> io::Result<Self> {
        let mut this = Self { out, interfaces: Vec::new(), anonymize, written: 0 };
        let application = format!("lastack explain {}", env!("CARGO_PKG_VERSION"));
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, 4, application.as_bytes());
        option(&mut body, 0, &[]);
        this.block(0x0a0d_0d0a, &body)?;
        Ok(this)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() + 12) as u32;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(body)?;
        self.out.write_all(&length.to_le_bytes())
    }

    fn interface(&mut self, link: u16) -> io::Result<u32> {
        if let Some(place) = self.interfaces.iter().position(|known| *known == link) {
            return Ok(place as u32);
        }
        let mut body = Vec::new();
        body.extend(link.to_le_bytes());
        body.extend([0; 6]);
        option(&mut body, 9, &[9]);
        option(&mut body, 0, &[]);
        self.block(1, &body)?;
        self.interfaces.push(link);
        Ok(self.interfaces.len() as u32 - 1)
    }

    /// Writes a packet if it is chosen.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn packet(&mut self, packet: &RawPacket<'_>, selection: &Selection) -> io::Result<()> {
        self.choose(packet, selection)?;
        match selection.ends.get(&packet.frame) {
            Some(end) if !selection.all => self.end(end),
            _ => Ok(()),
        }
    }

    /// Writes how a connection or a flow ended, as the stack that wrote the capture has stated: in a block of its own, after the
    /// packets.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(&mut self, stated: &Stated) -> io::Result<()> {
        if self.interfaces.is_empty() {
            return Ok(());
        }
        let text = if self.anonymize { hide_end(stated).to_string() } else { stated.to_string() };
        let ticks = stated.time.max(0).unsigned_abs();
        let mut body = Vec::new();
        body.extend(0_u32.to_le_bytes());
        body.extend(((ticks >> 32) as u32).to_le_bytes());
        body.extend((ticks as u32).to_le_bytes());
        option(&mut body, 1, text.as_bytes());
        option(&mut body, 0, &[]);
        self.block(5, &body)
    }

    fn choose(&mut self, packet: &RawPacket<'_>, selection: &Selection) -> io::Result<()> {
        let ip = decap::dissect(packet.link, packet.data, packet.length, packet.interface);
        if !selection.takes(ip.as_ref(), packet) {
            return Ok(());
        }
        let comment = selection.comments.get(&packet.frame);
        if !self.anonymize {
            return self.write(packet.link, packet.time, packet.data, packet.length, comment);
        }
        // What is not TCP over IP may hold addresses anywhere: it is left out.
        let Some(hidden) = ip.and_then(|ip| hide(&ip)) else { return Ok(()) };
        let length = hidden.len() as u32;
        self.write(RAW, packet.time, &hidden, length, comment)
    }

    fn write(
        &mut self,
        link: u16,
        time: i64,
        data: &[u8],
        length: u32,
        comment: Option<&String>,
    ) -> io::Result<()> {
        let interface = self.interface(link)?;
        let ticks = time.max(0).unsigned_abs();
        let mut body = Vec::with_capacity(data.len() + 64);
        body.extend(interface.to_le_bytes());
        body.extend(((ticks >> 32) as u32).to_le_bytes());
        body.extend((ticks as u32).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
        if let Some(comment) = comment {
            option(&mut body, 1, comment.as_bytes());
            option(&mut body, 0, &[]);
        }
        self.written += 1;
        self.block(6, &body)
    }

    /// Writes out what is left.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX) & !3)];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A stated end with other addresses, and without the words of the relay, which may have names.
fn hide_end(stated: &Stated) -> Stated {
    let hide = |end: SocketAddr| SocketAddr::new(pseudonym(end.ip().into()).ip(), end.port());
    let known = Known { text: stated.known.cause.sentence().to_owned(), ..stated.known.clone() };
    Stated { client: hide(stated.client), server: hide(stated.server), known, ..stated.clone() }
}

/// A TCP packet with other addresses, a payload of zeros, and right checksums.
fn hide(ip: &Ip<'_>) -> Option<Vec<u8>> {
    let header = usize::from(*ip.payload.get(12)? >> 4) * 4;
    if ip.protocol != TCP || header < 20 || ip.payload.len() < header || ip.length > 65_000 {
        return None;
    }
    let (src, dst) = (pseudonym(ip.src), pseudonym(ip.dst));
    let mut segment = ip.payload[..header].to_vec();
    segment.resize(ip.length as usize, 0);
    let parts = IpHeader {
        src: src.ip(),
        dst: dst.ip(),
        protocol: TCP,
        hop_limit: ip.ttl,
        traffic_class: 0,
        flow_label: 0,
        ident: ip.ident,
        dont_fragment: true,
    };
    lastack_wire::tcp::fill_checksum(&parts, &mut segment);
    let mut packet = Vec::with_capacity(segment.len() + 40);
    parts.emit(segment.len(), &mut packet);
    packet.extend_from_slice(&segment);
    Some(packet)
}
