//! What a run knows of a connection or flow beside its packets, when it begins and when it ends.

use std::net::{IpAddr, SocketAddr};

use crate::inject::Flow;
use crate::policy::Decision;
use crate::report::{Context, Proto, Record};
use crate::run::Run;

impl Run {
    /// What is known of a connection or flow of the program that begins now. A process may end soon: it is asked for at
    /// once.
    pub(crate) fn context(&self, flow: &Flow) -> Context {
        Context { name: self.name_of(flow.remote.ip()), ..Context::default() }
    }

    /// The name for which the program was given this address.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<String> {
        self.names.of(address).map(|name| name.to_string())
    }

    /// Asks the policy. `true`: it is denied, and the context says by which option.
    pub(crate) fn is_denied(
        &self,
        context: &mut Context,
        proto: Proto,
        remote: SocketAddr,
        actual: Option<SocketAddr>,
    ) -> bool {
        if self.plan.policy.is_empty() {
            return false;
        }
        match self.plan.policy.decide(Some(proto), remote, actual, context.name.as_deref()) {
            Decision::Allowed => false,
            Decision::Denied(option) => {
                context.denied = Some(option);
                true
            }
            Decision::WouldBeDenied(option) => {
                context.would_deny = Some(option);
                false
            }
        }
    }

    /// A connection or flow is over. The capture says of its last packet what the report says.
    pub(crate) fn record(&self, mut record: Record) {
        if record.context.name.is_none() {
            record.context.name = self.name_of(record.remote.ip());
        }
        let flow = Flow::new(record.proto, record.local, record.remote);
        record.context.injected.extend(self.inject.leave(&flow));
        if !record.context.injected.is_empty() && !record.outcome.is_fine() {
            record.by = crate::report::By::Lastack;
        }
        self.comments.end(record.local, record.remote, || record.reason());
        self.report.record(&record);
    }
}
