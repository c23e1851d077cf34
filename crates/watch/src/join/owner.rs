//! Which process owned a socket, and whether a signal ended it.

use lastack_causes::{Cause, Severity};

use super::Join;
use super::connection::{Connection, Side};
use super::judge::{By, Opinion};
use super::kernel::{is_crash, signal_name};
use crate::ended::Owner;
use crate::event::{Flow, Time};

impl Join {
    pub(super) fn owner(&self, side: &Side, ended: Time) -> Option<Owner> {
        let holder = side.holder.map(|pid| (pid, None, "fd"));
        let actor = |actor: &Option<super::Actor>, how| {
            actor.as_ref().map(|actor| (actor.pid, Some(actor.comm.clone()), how))
        };
        let found = actor(&side.listener_closed, "listener")
            .or_else(|| actor(&side.closer, "close"))
            .or(holder)
            .or_else(|| actor(&side.opener, "connect"))
            .or_else(|| self.listener_of(side));
        let (pid, comm, how) = found?;
        let known = self.processes.get(pid);
        let process = known.map(|known| &known.process);
        let text = |of: fn(&crate::event::Process) -> &std::sync::Arc<str>| {
            process.map_or_else(|| "".into(), |process| of(process).clone())
        };
        let signal = known.and_then(|known| known.exit).and_then(|(between, status)| {
            let signal = status.map(|status| status & 0x7f);
            signal.filter(|signal| *signal != 0 && side.fits_exit(between, ended))
        });
        // The name of the process rather than that of the thread.
        let name =
            Some(text(|process| &process.comm)).filter(|name| !name.is_empty()).or(comm).unwrap_or_default();
        Some(Owner {
            pid,
            comm: name,
            command: text(|process| &process.command),
            uid: process
                .and_then(|process| process.uid)
                .or_else(|| side.listed.map(|(_, report)| report.uid)),
            cgroup: text(|process| &process.cgroup),
            how,
            killed_by: signal,
        })
    }

    /// A connection that is not accepted yet belongs to the listener; of one that was gone before a list showed it, the
    /// process that holds the listener is known.
    fn listener_of(&self, side: &Side) -> Option<(u32, Option<std::sync::Arc<str>>, &'static str)> {
        if side.client == Some(true) || side.listed.is_some_and(|(_, report)| report.inode != 0) {
            return None;
        }
        let (_, holder) = self.listeners.get(&side.flow.local.port())?;
        holder.map(|pid| (pid, None, "listener"))
    }

    /// The signal that killed the owner at the end, if one did.
    pub(super) fn killed(&self, side: &Side) -> Option<i32> {
        self.owner(side, side.over_at()?)?.killed_by
    }

    /// Adds that the process of the end that closed was ended by a signal. The kernel closes its sockets like any others.
    pub(super) fn add_signal(&self, connection: &Connection, flow: Flow, mut opinion: Opinion) -> Opinion {
        if !matches!(
            opinion.cause,
            Cause::Orderly
                | Cause::Abort
                | Cause::ConnectCancelled
                | Cause::ResetForFin
                | Cause::DataAfterClose
        ) {
            return opinion;
        }
        let side = |flow: Flow| connection.sides[connection.place(flow)].as_ref();
        let killed = |flow: Flow| side(flow).and_then(|side| self.killed(side));
        let found = match opinion.by {
            By::Remote => killed(flow.mirrored()),
            By::Local => killed(flow),
            By::Unknown => killed(flow).or_else(|| killed(flow.mirrored())),
            By::Path | By::Nobody => None,
        };
        let Some(signal) = found else { return opinion };
        if opinion.by == By::Unknown && killed(flow.mirrored()).is_none() {
            (opinion.by, opinion.by_confidence) = (By::Local, 0.8);
        } else if opinion.by == By::Unknown && killed(flow).is_none() {
            (opinion.by, opinion.by_confidence) = (By::Remote, 0.8);
        }
        let name = signal_name(signal);
        let text = format!("its process was killed by {name}");
        if opinion.cause == Cause::Orderly && is_crash(signal) {
            opinion.severity = Some(Severity::Suspicious);
        }
        opinion.detail = match (opinion.detail.as_str(), opinion.detail.split_once("; ")) {
            ("", _) => text.clone(),
            // What comes first there is the close.
            (_, Some((_, after))) if opinion.cause == Cause::DataAfterClose => format!("{text}; {after}"),
            (detail, _) => format!("{text}; {detail}"),
        };
        opinion.because("kernel", signal, text)
    }
}
