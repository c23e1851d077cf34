//! Groups of ends by cause and server, for the headline and for `group` records.

use super::Context;
use crate::packet::Endpoint;
use crate::verdict::{Verdict, seconds};
use lastack_causes::{Cause, EndedBy};
use std::collections::BTreeMap;

/// Identifiers that a group lists.
const LISTED: usize = 100;

/// Ends of one cause at one server.
#[derive(Clone, Debug)]
pub struct Group {
    /// The cause.
    pub cause: Cause,
    /// The server.
    pub server: Endpoint,
    /// How many.
    pub count: u64,
    /// When the first one ended.
    pub first: i64,
    /// When the last one ended.
    pub last: i64,
    /// Who ended most of them.
    pub ended_by: EndedBy,
    /// What they have in common.
    pub fact: String,
    /// Which connections.
    pub ids: Vec<String>,
}

/// What is summed up of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupFacts {
    count: u64,
    first: i64,
    last: i64,
    idle: (f64, f64),
    ids: Vec<String>,
    by: BTreeMap<EndedBy, u64>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<(Cause, Endpoint), GroupFacts>);

impl Groups {
    /// Adds an end.
    pub fn add(&mut self, server: Endpoint, ended: i64, id: impl FnOnce() -> String, verdict: &Verdict) {
        let facts = self.0.entry((verdict.cause, server)).or_insert_with(|| GroupFacts {
            count: 0,
            first: ended,
            last: ended,
            idle: (f64::MAX, 0.0),
            ids: Vec::new(),
            by: BTreeMap::new(),
        });
        facts.count += 1;
        facts.first = facts.first.min(ended);
        facts.last = facts.last.max(ended);
        facts.idle = (facts.idle.0.min(verdict.idle), facts.idle.1.max(verdict.idle));
        *facts.by.entry(verdict.ended_by).or_default() += 1;
        if facts.ids.len() < LISTED {
            facts.ids.push(id());
        }
    }

    /// The groups of two or more, the largest first.
    pub fn finish(&self, context: &Context) -> Vec<Group> {
        let mut groups: Vec<Group> = self
            .0
            .iter()
            .filter(|(_, facts)| facts.count >= 2)
            .map(|((cause, server), facts)| Group {
                cause: *cause,
                server: *server,
                count: facts.count,
                first: facts.first,
                last: facts.last,
                ended_by: facts
                    .by
                    .iter()
                    .max_by_key(|(_, count)| **count)
                    .map_or(EndedBy::Unknown, |(by, _)| *by),
                fact: fact(*cause, *server, facts, context),
                ids: facts.ids.clone(),
            })
            .collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.cause, group.server));
        groups
    }
}

fn fact(cause: Cause, server: Endpoint, facts: &GroupFacts, context: &Context) -> String {
    let accepted = context.accepted(server);
    if matches!(cause, Cause::Refused | Cause::BacklogFull | Cause::FirewallReject | Cause::SilentDrop) {
        let before = accepted.iter().filter(|&&time| time < facts.first).max();
        let after = accepted.iter().filter(|&&time| time > facts.last).min();
        return match (before, after) {
            (Some(_), Some(_)) => "down, then back".into(),
            (Some(_), None) => "accepted connections before, none after".into(),
            (None, Some(_)) => "accepted connections only afterwards".into(),
            (None, None) => "accepted no connection in this capture".into(),
        };
    }
    let (low, high) = facts.idle;
    if facts.count >= 3 && low >= 1.0 && high - low <= (low * 0.02).max(0.1) {
        return format!("each after {low:.1} s without traffic");
    }
    if facts.count >= 2 && facts.last - facts.first < 100_000_000 {
        return "all in the same instant".into();
    }
    format!("over {:.0} s", seconds(facts.last - facts.first).max(1.0))
}
