//! Source B: the counters of TCP in /proc/net/snmp and /proc/net/netstat.

use std::fs::File;
use std::io::{self, Read, Seek};

use crate::event::Counters;

/// Those of the network namespace in which they were opened.
#[derive(Debug)]
pub(super) struct CounterFiles {
    snmp: File,
    netstat: File,
    buffer: String,
}

impl CounterFiles {
    pub(super) fn open() -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/thread-self/net/{name}"));
        Ok(Self { snmp: open("snmp")?, netstat: open("netstat")?, buffer: String::new() })
    }

    pub(super) fn read(&mut self) -> io::Result<Counters> {
        self.buffer.clear();
        for file in [&mut self.snmp, &mut self.netstat] {
            file.rewind()?;
            file.read_to_string(&mut self.buffer)?;
        }
        Ok(parse(&self.buffer))
    }
}

/// Both files have lines in pairs: a prefix with names, then the same prefix with numbers. What is missing is 0.
fn parse(content: &str) -> Counters {
    let mut counters = Counters::default();
    let mut lines = content.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let mut names = names.split_ascii_whitespace();
        let mut numbers = numbers.split_ascii_whitespace();
        let prefix = names.next();
        if prefix != numbers.next() || !matches!(prefix, Some("Tcp:" | "TcpExt:")) {
            continue;
        }
        for (name, number) in names.zip(numbers) {
            if let Some(field) = field(&mut counters, name) {
                *field = number.parse().unwrap_or_default();
            }
        }
    }
    counters
}

fn field<'a>(counters: &'a mut Counters, name: &str) -> Option<&'a mut u64> {
    Some(match name {
        "ActiveOpens" => &mut counters.active_opens,
        "PassiveOpens" => &mut counters.passive_opens,
        "AttemptFails" => &mut counters.attempt_fails,
        "EstabResets" => &mut counters.estab_resets,
        "OutRsts" => &mut counters.out_resets,
        "TCPAbortOnData" => &mut counters.abort_on_data,
        "TCPAbortOnClose" => &mut counters.abort_on_close,
        "TCPAbortOnMemory" => &mut counters.abort_on_memory,
        "TCPAbortOnTimeout" => &mut counters.abort_on_timeout,
        "TCPAbortOnLinger" => &mut counters.abort_on_linger,
        "ListenOverflows" => &mut counters.listen_overflows,
        "TCPKeepAlive" => &mut counters.keep_alive,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_joined_by_place() {
        let counters = parse(
            "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
             Tcp: RtoAlgorithm MaxConn ActiveOpens OutRsts\nTcp: 1 -1 15 7\n\
             TcpExt: TCPAbortOnClose New\nTcpExt: 3 9\n",
        );
        let expected = Counters { active_opens: 15, out_resets: 7, abort_on_close: 3, ..Counters::default() };
        assert_eq!(counters, expected);
    }

    #[test]
    fn this_kernel_has_them() {
        let counters = CounterFiles::open().unwrap().read().unwrap();
        let later = CounterFiles::open().unwrap().read().unwrap();
        assert_eq!(later.since(&later), Counters::default());
        assert!(later.active_opens >= counters.active_opens);
    }
}
