//! Queries that options of the run answer: names that the policy denies, and injected faults.

use std::net::{Ipv4Addr, SocketAddr};

use super::conversation::{Answer, Conversation, Outcome};
use super::message;
use crate::Run;
use crate::inject::DnsFault;
use crate::policy::Decision;

/// Response codes (RFC 1035 section 4.1.1).
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// The answer to a query, by an option of the run.
#[derive(Debug)]
pub struct Ruling {
    /// The response code; `None`: no answer.
    rcode: Option<u8>,
    /// The address that stands for the name.
    address: Option<Ipv4Addr>,
    denied: Option<String>,
    injected: Option<String>,
}

/// Whether the proxy resolves the names, so that an address stands for each.
fn by_proxy(run: &Run) -> bool {
    run.plan.via.as_ref().is_some_and(|proxy| proxy.resolves_names())
}

impl Ruling {
    /// Whether queries may be answered without a name server.
    pub fn is_possible(run: &Run) -> bool {
        by_proxy(run) || !run.plan.policy.is_empty() || run.inject.answers_questions()
    }

    /// The ruling on this query; `None`: a name server answers.
    pub fn on(run: &Run, question: &[u8]) -> Option<Self> {
        let by_proxy = by_proxy(run);
        if run.plan.policy.is_empty() && run.inject.is_empty() && !by_proxy {
            return None;
        }
        let name = message::asked(question)?.name;
        if !run.plan.policy.is_empty()
            && let Decision::Denied(option) = run.plan.policy.decide_name(&name)
        {
            return Some(Self { rcode: Some(REFUSED), address: None, denied: Some(option), injected: None });
        }
        let Some((fault, rule)) = run.inject.question(&name) else {
            let address = by_proxy.then(|| run.names.substitute(&name))?;
            return Some(Self { rcode: Some(0), address: Some(address), denied: None, injected: None });
        };
        let rcode = match fault {
            DnsFault::NxDomain => Some(NXDOMAIN),
            DnsFault::ServFail => Some(SERVFAIL),
            DnsFault::Timeout => None,
        };
        Some(Self { rcode, address: None, denied: None, injected: Some(rule) })
    }

    /// Notes in the record of a query that the policy would deny its name without `--log-only`.
    pub fn note_on(run: &Run, conversation: &Conversation, question: &[u8]) {
        if run.plan.policy.is_empty() {
            return;
        }
        let Some(asked) = message::asked(question) else { return };
        if let Decision::WouldBeDenied(option) = run.plan.policy.decide_name(&asked.name) {
            conversation.account.context.borrow_mut().would_deny = Some(option);
        }
    }

    /// Records the outcome, and returns the answer, if there is one.
    pub fn answer(self, conversation: &Conversation, server: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
        let mut context = conversation.account.context.borrow_mut();
        context.denied = context.denied.take().or(self.denied);
        if let Some(rule) = self.injected.filter(|rule| !context.injected.contains(rule)) {
            context.injected.push(rule);
        }
        drop(context);
        let result = self.rcode.map_or(Answer::Silence, Answer::Code);
        conversation.add(Outcome { asked: message::asked(question), server, tries: 1, result });
        let answer = match self.address {
            Some(address) => message::with_address(question, address)?,
            None => message::without_records(question, self.rcode?)?,
        };
        conversation.account.received(answer.len(), 1);
        Some(answer)
    }
}
