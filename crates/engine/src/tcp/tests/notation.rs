//! Segments as short text: `R. seq=0 ack=1`, numbers relative to both ISS.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use lastack_wire::tcp::{SackBlocks, TcpFlags, TcpHeader, Timestamps};

/// A segment as a test writes it: flags, then `key=value` in any order. What is not given, the peer
/// fills in.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub flags: TcpFlags,
    /// `seq=`: relative to the peer's ISS. `at=`: relative to the number that is next.
    pub seq: Option<i64>,
    pub at: i64,
    /// `ack=`: relative to our ISS.
    pub ack: Option<i64>,
    pub window: Option<u16>,
    pub len: usize,
    /// `port=`: the peer's.
    pub port: Option<u16>,
    /// `ts=`: how far the peer's clock is from where it should be; `ecr=`: relative to what was
    /// last heard; `nots`: no timestamp.
    pub ts: i64,
    pub ecr: i64,
    pub nots: bool,
    /// `mss=`, `ws=`, `sackok`, `tsok`: what a SYN offers.
    pub mss: Option<u16>,
    pub ws: Option<u8>,
    pub sackok: bool,
    pub tsok: bool,
    /// `uto=`: the field of the user timeout option.
    pub uto: Option<u16>,
    /// `sack=from-to`, relative to our ISS.
    pub sack: Option<(u32, u32)>,
}

impl Spec {
    pub fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let mut spec = Self { flags: flags(words.next().unwrap_or("-")), ..Self::default() };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, "0"));
            let number: i64 = value.parse().unwrap_or_default();
            match key {
                "seq" => spec.seq = Some(number),
                "at" => spec.at = number,
                "ack" => spec.ack = Some(number),
                "win" => spec.window = Some(number as u16),
                "len" => spec.len = number as usize,
                "port" => spec.port = Some(number as u16),
                "ts" => spec.ts = number,
                "ecr" => spec.ecr = number,
                "nots" => spec.nots = true,
                "mss" => spec.mss = Some(number as u16),
                "ws" => spec.ws = Some(number as u8),
                "uto" => spec.uto = Some(number as u16),
                "sackok" => spec.sackok = true,
                "tsok" => spec.tsok = true,
                "sack" => {
                    let (from, to) = value.split_once('-').expect("sack=from-to");
                    spec.sack = Some((from.parse().unwrap(), to.parse().unwrap()));
                }
                _ => panic!("{word} in {text:?}"),
            }
        }
        spec
    }

    /// The options, given the timestamp that belongs there.
    pub fn options(&self, iss: u32, timestamps: Option<Timestamps>) -> lastack_wire::tcp::TcpOptions {
        let mut sack = SackBlocks::new();
        if let Some((from, to)) = self.sack {
            sack.push((iss.wrapping_add(from), iss.wrapping_add(to)));
        }
        lastack_wire::tcp::TcpOptions {
            mss: self.mss,
            window_scale: self.ws,
            sack_permitted: self.sackok,
            timestamps,
            sack,
            user_timeout: self.uto,
            ..Default::default()
        }
    }
}

fn flags(text: &str) -> TcpFlags {
    text.chars().fold(TcpFlags::empty(), |flags, letter| {
        flags
            | match letter {
                'F' => TcpFlags::FIN,
                'S' => TcpFlags::SYN,
                'R' => TcpFlags::RST,
                'P' => TcpFlags::PSH,
                '.' => TcpFlags::ACK,
                'U' => TcpFlags::URG,
                'E' => TcpFlags::ECE,
                'W' => TcpFlags::CWR,
                '-' => TcpFlags::empty(),
                _ => panic!("{letter} is no flag"),
            }
    })
}

/// What a segment of ours says, its numbers relative to our ISS and to the peer's.
pub(super) fn show(tcp: &TcpHeader, len: usize, iss: u32, irs: u32) -> String {
    // The SEQ 0 of `<SEQ=0><ACK=..><CTL=RST,ACK>` is a number of no connection.
    let nobody = tcp.flags == TcpFlags::RST | TcpFlags::ACK && tcp.seq == 0;
    let seq = if nobody { 0 } else { tcp.seq.wrapping_sub(iss) as i32 };
    let mut text = format!("{} seq={seq}", tcp.flags);
    if tcp.flags.contains(TcpFlags::ACK) {
        write!(text, " ack={}", tcp.ack.wrapping_sub(irs) as i32).unwrap();
    } else {
        assert_eq!(tcp.ack, 0, "no ACK, no number");
    }
    if len > 0 {
        write!(text, " len={len}").unwrap();
    }
    for (from, to) in tcp.options.sack.iter() {
        write!(text, " sack={}-{}", from.wrapping_sub(irs) as i32, to.wrapping_sub(irs) as i32).unwrap();
    }
    if let Some(field) = tcp.options.user_timeout {
        write!(text, " uto={field}").unwrap();
    }
    text
}
