//! Expected packets of the stack.

use super::{Nominal, Runner, excerpt};
use crate::error::Problem;
use crate::expect::{self, Ticks};
use crate::packets::Live;
use crate::syntax::{Body, Event, Packet};
use crate::system::System;
use lastack_engine::Instant;

impl<S: System> Runner<'_, S> {
    /// Waits for a packet and compares it.
    pub fn outbound(&mut self, event: &Event, packet: &Packet, nominal: Nominal) -> Result<(), Problem> {
        let tolerance = self.tolerance(nominal.from, self.before);
        let limit = if nominal.any { self.now() + S::PATIENCE } else { nominal.to + tolerance };
        let live = self.collect(event, packet, Instant::ZERO + limit)?;
        let at = live.at.elapsed();
        let actual = self.in_script_numbers(packet, &live);
        self.say(&format!("> {}", brief(&actual)));
        let ticks = Ticks {
            tick: self.exchange.setup.tick,
            tolerance: self
                .exchange
                .setup
                .tolerance
                .max(at.mul_f64(self.exchange.setup.tolerance_percent / 100.0)),
        };
        let mut found = expect::differences(packet, &actual, ticks);
        found.extend(live.flaw.map(str::to_owned));
        if found.is_empty() && !nominal.any {
            found.extend(expect::in_time(at, nominal.from, nominal.to, tolerance).err());
        }
        if found.is_empty() {
            return Ok(());
        }
        let shown = shown_like(packet, &actual);
        let problem = Problem::mismatch(event.span.clone(), found.join("; "))
            .label(format!("sent: > {shown}"))
            .note(format!("expected: {}", excerpt(self.source, event)))
            .note(format!("actual:   {:.6} > {shown}", at.as_secs_f64()));
        Err(self.with_rule(problem))
    }

    /// The next packet of the socket under test, joined from as many as it takes to carry as much data as the
    /// packet in the script.
    fn collect(&mut self, event: &Event, packet: &Packet, limit: Instant) -> Result<Live, Problem> {
        let mut whole = self.next_packet(event, limit)?;
        let (Body::Tcp(wanted), Body::Tcp(first)) = (&packet.body, &whole.packet.body) else {
            return Ok(whole);
        };
        let part_len = first.len;
        if self.exchange.setup.strict_segments || part_len == 0 {
            return Ok(whole);
        }
        let mut len = part_len;
        while len < wanted.len {
            let part = self.next_packet(event, limit).map_err(|problem| {
                problem.note(format!("{len} of {} bytes had been sent by then", wanted.len))
            })?;
            let Body::Tcp(next) = &part.packet.body else { break };
            len += next.len;
            let shown = brief(&self.in_script_numbers(packet, &part));
            whole = expect::glue(whole, part, part_len).map_err(|message| {
                Problem::mismatch(event.span.clone(), message)
                    .note(format!("expected: {}", excerpt(self.source, event)))
                    .note(format!("next:     > {shown}"))
            })?;
        }
        Ok(whole)
    }

    fn next_packet(&mut self, event: &Event, limit: Instant) -> Result<Live, Problem> {
        loop {
            match self.exchange.next_sent(&mut self.system) {
                Some(Ok(live)) => return Ok(live),
                Some(Err(what)) => {
                    return Err(Problem::mismatch(event.span.clone(), format!("the stack sent {what}")));
                }
                None if self.step(limit)? => {}
                // A call or the last step may have left something to send.
                None => {
                    return self
                        .exchange
                        .next_sent(&mut self.system)
                        .and_then(Result::ok)
                        .ok_or_else(|| self.silence(event));
                }
            }
        }
    }

    fn silence(&self, event: &Event) -> Problem {
        let until = self.now().as_secs_f64();
        let problem = Problem::mismatch(event.span.clone(), "the stack sent nothing")
            .label(format!("waited for this until {until:.6} s"));
        self.with_rule(problem)
    }

    /// Adds the stack's report on the last packets, if it may explain the problem.
    fn with_rule(&self, problem: Problem) -> Problem {
        let last = self.exchange.passed.iter().rev().take(2);
        last.fold(problem, |problem, passed| match &passed.said {
            Some(said) if passed.outbound => problem.note(format!("the last packet was sent by rule {said}")),
            Some(said) => problem.note(format!("the last arrival: {said}")),
            None => problem,
        })
    }

    /// Derives the values of the script's numbers from a packet, and translates the packet into them.
    fn in_script_numbers(&mut self, expected: &Packet, live: &Live) -> Packet {
        let mut packet = live.packet.clone();
        if let (Body::Tcp(segment), Some(record)) = (&live.packet.body, self.exchange.record()) {
            if let Body::Tcp(expected) = &expected.body {
                record.note_syn(expected, segment);
                record.note_timestamps(expected, segment);
            }
            packet.body = Body::Tcp(record.outbound(segment));
        }
        packet
    }
}

/// A packet in the notation of scripts, without the parts that scripts seldom show.
fn brief(packet: &Packet) -> String {
    shown_like(&Packet::default(), packet)
}

/// A packet with only those parts that the other one has.
fn shown_like(model: &Packet, packet: &Packet) -> String {
    let mut shown = packet.clone();
    shown.ip.tos = model.ip.tos.and(shown.ip.tos);
    shown.ip.ttl = model.ip.ttl.and(shown.ip.ttl);
    shown.ip.ecn = model.ip.ecn.and(shown.ip.ecn);
    shown.ip.flow_label = model.ip.flow_label.and(shown.ip.flow_label);
    if let Body::Tcp(segment) = &mut shown.body {
        segment.urgent = segment.urgent.filter(|urgent| *urgent != 0);
        segment.ports = None;
        if segment.ack == Some(0) && !segment.flags.contains(lastack_wire::tcp::TcpFlags::ACK) {
            segment.ack = None;
        }
    }
    shown.to_string()
}
