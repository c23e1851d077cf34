//! A record as one line for people: who ended it, how, in which state, by which rule, and what was lost.

use std::fmt;

use anstyle::{AnsiColor, Style};
use jiff::SignedDuration;

use lastack_engine::TcpState;

use super::record::{By, Cause, Proto, Record};

const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const FAINT: Style = Style::new().dimmed();

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        };
        write!(f, "{proto} {} > {}: ", self.local, self.remote)?;
        self.verdict(f)?;
        self.figures(f)?;
        if let Some(note) = &self.note {
            write!(f, "; {note}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " {FAINT}[{} {}]{FAINT:#}", rule.name(), rule.text())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " -- {hint}")?;
        }
        Ok(())
    }
}

impl Record {
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = match self.cause {
            Cause::Orderly | Cause::Idle => GOOD,
            Cause::Open | Cause::TimedOut => DOUBTFUL,
            Cause::Refused | Cause::Reset | Cause::Aborted | Cause::Unreachable => BAD,
        };
        let verb = match (self.cause, self.proto) {
            (Cause::Orderly, _) => "closed in order",
            (Cause::Refused, _) => "refused",
            (Cause::Reset, _) => "reset",
            (Cause::Aborted, _) => "aborted",
            (Cause::TimedOut, _) => "timed out",
            (Cause::Unreachable, _) => "unreachable",
            (Cause::Open, _) => "still open when the program ended",
            (Cause::Idle, _) => "quiet",
        };
        write!(f, "{style}{verb}{style:#}")?;
        let who = match self.by {
            By::Program => " by the program",
            By::Remote => " by the remote",
            By::Network => " by the network",
            By::Host => " by this host",
            By::Lastack => " by lastack",
            By::Nobody => "",
        };
        f.write_str(who)?;
        if let Some(said) = self.icmp {
            write!(f, " (ICMP {}", said.error)?;
            said.from.map_or(Ok(()), |from| write!(f, " from {from}"))?;
            f.write_str(")")?;
        } else if self.by == By::Host {
            self.host_errno.as_ref().map_or(Ok(()), |errno| write!(f, " ({errno})"))?;
        }
        // Every orderly end leads to CLOSED: that tells nobody anything.
        let state = self.state.filter(|state| *state != TcpState::Closed);
        state.map_or(Ok(()), |state| write!(f, " in {state}"))
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " after {}", Elapsed(self.ended.duration_since(self.opened)))?;
        if self.octets.sent > 0 || self.octets.received > 0 {
            write!(f, "; {} octets sent, {} received", self.octets.sent, self.octets.received)?;
        }
        if self.lost.total() > 0 {
            f.write_str("; lost:")?;
            let parts = [
                (self.lost.unsent, "unsent"),
                (self.lost.unacked, "unacknowledged"),
                (self.lost.unread, "unread"),
            ];
            for (i, (octets, what)) in parts.into_iter().filter(|(octets, _)| *octets > 0).enumerate() {
                write!(f, "{} {octets} {what}", if i > 0 { "," } else { "" })?;
            }
        }
        Ok(())
    }
}

/// A time, as precise as it is worth.
struct Elapsed(SignedDuration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros().max(0);
        match micros {
            0..1_000 => write!(f, "{micros} us"),
            1_000..10_000 => write!(f, "{:.1} ms", micros as f64 / 1e3),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            _ => write!(f, "{:.1} s", micros as f64 / 1e6),
        }
    }
}

/// Octets, as people count them: `812 octets`, `1.5 MiB`.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        if self.0 < 10_000 {
            return write!(f, "{} octets", self.0);
        }
        for unit in ["KiB", "MiB", "GiB"] {
            size /= 1024.0;
            if size < 1000.0 {
                return write!(f, "{size:.1} {unit}");
            }
        }
        write!(f, "{:.1} TiB", size / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use lastack_engine::{Rule, TcpState};

    use super::super::record::{Lost, Octets, tests};
    use super::*;

    fn plain(record: &Record) -> String {
        anstream::adapter::strip_str(&record.to_string()).to_string()
    }

    #[test]
    fn an_orderly_end_names_who_closed_first() {
        assert_eq!(
            plain(&tests::orderly()),
            "tcp 10.0.2.100:40000 > 192.0.2.7:80: closed in order by the remote after 500 ms; \
             75 octets sent, 1200 received [E0 both directions ended with FIN]"
        );
    }

    #[test]
    fn an_unreachable_remote_names_code_and_sender() {
        assert_eq!(
            plain(&tests::unreachable()),
            "tcp 10.0.2.100:40000 > 192.0.2.7:80: unreachable by the network (ICMP host unreachable (3/1) from \
             192.0.2.1) in SYN-SENT after 500 ms [I1 an ICMP error ends an attempt to connect]"
        );
    }

    #[test]
    fn a_reset_counts_what_it_cost() {
        let record = Record {
            cause: Cause::Reset,
            rule: Some(Rule::PeerRstExact),
            state: Some(TcpState::Established),
            lost: Lost { unsent: 0, unacked: 812, unread: 3 },
            octets: Octets { sent: 5, received: 0 },
            hint: Some("try again".to_owned()),
            ..tests::orderly()
        };
        assert_eq!(
            plain(&record),
            "tcp 10.0.2.100:40000 > 192.0.2.7:80: reset by the remote in ESTABLISHED after 500 ms; 5 octets sent, \
             0 received; lost: 812 unacknowledged, 3 unread [R1 a reset exactly at RCV.NXT ends the connection] -- try again"
        );
    }

    #[test]
    fn figures_are_short() {
        let elapsed = |micros| Elapsed(SignedDuration::from_micros(micros)).to_string();
        assert_eq!(
            [elapsed(-5), elapsed(250), elapsed(1_250), elapsed(90_000), elapsed(3_000_000)],
            ["0 us", "250 us", "1.2 ms", "90 ms", "3.0 s"]
        );
        assert_eq!(Size(9_999).to_string(), "9999 octets");
        assert_eq!(Size(64 << 20).to_string(), "64.0 MiB");
        assert_eq!(Size(3 << 40).to_string(), "3.0 TiB");
    }
}
