//! A TCP segment as it was captured.

use crate::decap::{Ip, Tunnel};
use crate::packet::{Endpoint, Frame, Pkt};
use lastack_wire::TcpHeader;

/// Bytes of a header up to the flags and the window: with fewer there is nothing to report.
const LEAST: usize = 14;
/// Bytes of a header up to the window's end.
const WINDOW: usize = 16;
const HEADER: usize = 20;

/// A segment: what is kept of it, and what is looked at while it is here.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// What is kept.
    pub pkt: Pkt,
    /// The sender.
    pub src: Endpoint,
    /// The receiver.
    pub dst: Endpoint,
    /// The header.
    pub header: TcpHeader,
    /// Its options as they stand in the packet.
    pub options: &'a [u8],
    /// Bytes of options that the packet has, captured or not.
    pub options_size: u8,
    /// The payload as far as it was captured.
    pub payload: &'a [u8],
    /// The sender's hardware address.
    pub mac: [u8; 6],
    /// What distinguishes copies on several interfaces.
    pub tap: u32,
    /// The tunnel around the packet.
    pub tunnel: Tunnel,
    /// The whole segment, if all of it was captured.
    whole: Option<&'a [u8]>,
}

impl<'a> Segment<'a> {
    /// Reads the segment of an IP packet.
    #[must_use]
    pub fn read(ip: &Ip<'a>, time: i64, frame: Frame) -> Option<Self> {
        let data = ip.payload;
        let mut header = TcpHeader::default();
        let size = usize::from(*data.get(12)? >> 4) * 4;
        if size < HEADER || (size as u32) > ip.length {
            return None;
        }
        let (options, payload): (&[u8], &[u8]) = if data.len() >= size {
            let payload = header.read(data).ok()?;
            (&data[HEADER..size], payload)
        } else {
            // The snapshot length cut the header: its fixed part has to do.
            let mut copy = [0; HEADER];
            let there = data.len().min(HEADER);
            if there < LEAST {
                return None;
            }
            copy[..there].copy_from_slice(&data[..there]);
            // A window that was cut off is not shut; that of a reset means nothing.
            if there < WINDOW && copy[13] & 4 == 0 {
                copy[14..16].copy_from_slice(&[0xff; 2]);
            }
            copy[12] = 5 << 4 | copy[12] & 15;
            header.read(&copy).ok()?;
            (data.get(HEADER..).unwrap_or_default(), &[])
        };
        let len = ip.length - size as u32;
        let pkt = Pkt {
            time,
            frame,
            side: 0,
            vantage: 0,
            seen: 0,
            flags: header.flags,
            reserved: data[12] >> 1 & 7,
            ttl: ip.ttl,
            ident: ip.ident,
            window: header.window,
            seq: header.seq,
            ack: header.ack,
            len,
            tsval: header.options.timestamps.map(|timestamps| timestamps.val),
            sack: header.options.sack.iter().map(|(_, end)| end).next(),
            tls: record(&header, payload, len),
        };
        Some(Self {
            pkt,
            src: Endpoint { addr: ip.src, port: header.src_port },
            dst: Endpoint { addr: ip.dst, port: header.dst_port },
            header,
            options,
            options_size: (size - HEADER) as u8,
            payload,
            mac: ip.mac,
            tap: ip.tap,
            tunnel: ip.tunnel,
            whole: (data.len() as u32 == ip.length && !ip.fragment).then_some(data),
        })
    }

    /// Whether the checksum is wrong; `None` if the segment was not captured whole.
    #[must_use]
    pub fn has_bad_checksum(&self) -> Option<bool> {
        let whole = self.whole?;
        let ip = lastack_wire::ip::IpHeader {
            src: self.src.addr.ip(),
            dst: self.dst.addr.ip(),
            protocol: lastack_wire::ip::TCP,
            hop_limit: self.pkt.ttl,
            traffic_class: 0,
            flow_label: 0,
            ident: 0,
            dont_fragment: true,
        };
        Some(!lastack_wire::tcp::checksum_ok(&ip, whole))
    }
}

/// The last TLS record of a payload. Where the snapshot length cut it off, the size of an alert on a port of TLS has to do.
fn record(header: &TcpHeader, payload: &[u8], len: u32) -> Option<(u8, u16)> {
    const ALERT: u8 = 21;
    if len == 0 {
        return None;
    }
    let port = |port| matches!(port, 443 | 465 | 636 | 853 | 989 | 990 | 993 | 995 | 5223 | 8443);
    let cut = payload.len() < 5 && payload.len() < len as usize;
    if cut && let &[kind @ 20..=24, 3, ..] = payload {
        return Some((kind, (len as u16).saturating_sub(5)));
    }
    if cut && (24..=64).contains(&len) && (port(header.src_port) || port(header.dst_port)) {
        return Some((ALERT, len as u16 - 5));
    }
    crate::protocol::last_record(payload, len)
}
