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

/// The summary of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupFacts {
    count: u64,
    first: i64,
    last: i64,
    idle: (f64, f64),
    /// When the first of them ended, and their identifiers.
    members: Vec<(i64, String)>,
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
            members: Vec::new(),
            by: BTreeMap::new(),
        });
        facts.count += 1;
        facts.first = facts.first.min(ended);
        facts.last = facts.last.max(ended);
        facts.idle = (facts.idle.0.min(verdict.idle), facts.idle.1.max(verdict.idle));
        *facts.by.entry(verdict.ended_by).or_default() += 1;
        if facts.members.len() < LISTED {
            facts.members.push((ended, id()));
        }
    }

    /// The groups of two or more, the largest first.
    pub fn finish(&self, context: &Context) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for ((cause, server), facts) in self.0.iter().filter(|(_, facts)| facts.count >= 2) {
            // One party for the whole group, or none.
            let by = facts.by.keys().next().filter(|_| facts.by.len() == 1).copied();
            let group = Group {
                cause: *cause,
                server: *server,
                count: facts.count,
                first: facts.first,
                last: facts.last,
                ended_by: by.unwrap_or(EndedBy::Unknown),
                fact: fact(*cause, *server, facts, context),
                ids: facts.members.iter().map(|(_, id)| id.clone()).collect(),
            };
            match outages(&group, facts, context) {
                Some(outages) => groups.extend(outages),
                None => groups.push(group),
            }
        }
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.cause, group.server));
        groups
    }
}

/// Whether ends of this cause mean that the server accepts nothing at that time.
const fn is_outage(cause: Cause) -> bool {
    matches!(cause, Cause::Refused | Cause::BacklogFull | Cause::FirewallReject | Cause::SilentDrop)
}

/// A group whose server accepted connections in between, as one group for each time in which it did not.
fn outages(group: &Group, facts: &GroupFacts, context: &Context) -> Option<Vec<Group>> {
    let accepted = context.accepted(group.server);
    let between = |from: i64, to: i64| accepted.iter().any(|&time| from < time && time < to);
    if !is_outage(group.cause)
        || !between(group.first, group.last)
        || facts.members.len() as u64 != facts.count
    {
        return None;
    }
    let mut members = facts.members.clone();
    members.sort_unstable();
    let outages = members.chunk_by(|(a, _), (b, _)| !between(*a, *b)).filter(|part| part.len() >= 2);
    Some(
        outages
            .map(|part| {
                let (first, last) = (part[0].0, part[part.len() - 1].0);
                Group {
                    count: part.len() as u64,
                    first,
                    last,
                    fact: outage(first, last, accepted).into(),
                    ids: part.iter().map(|(_, id)| id.clone()).collect(),
                    ..group.clone()
                }
            })
            .collect(),
    )
}

/// What the connections that the server accepted show about the time in which it did not.
fn outage(first: i64, last: i64, accepted: &[i64]) -> &'static str {
    let before = accepted.iter().any(|&time| time < first);
    let during = accepted.iter().any(|&time| first < time && time < last);
    let after = accepted.iter().any(|&time| time > last);
    match (before, during, after) {
        (_, true, _) => "it accepted others at that time",
        (true, _, true) => "down, then back",
        (true, _, false) => "accepted connections before, none after",
        (false, _, true) => "accepted connections only afterwards",
        (false, _, false) => "accepted no connection in this capture",
    }
}

fn fact(cause: Cause, server: Endpoint, facts: &GroupFacts, context: &Context) -> String {
    let accepted = context.accepted(server);
    if is_outage(cause) {
        return outage(facts.first, facts.last, accepted).into();
    }
    let (low, high) = facts.idle;
    let alike = facts.count >= 3 && low >= 1.0 && high - low <= (low * 0.02).max(0.1);
    let together = facts.count >= 2 && facts.last - facts.first < 100_000_000;
    match (together, alike) {
        // One event, though the connections may have been idle for as long as each other.
        (true, true) => return format!("all at the same time, {low:.1} s after the last traffic"),
        (true, false) => return "all at the same time".into(),
        (false, true) => return format!("each after {low:.1} s without traffic"),
        (false, false) => {}
    }
    format!("over {:.0} s", seconds(facts.last - facts.first).max(1.0))
}
