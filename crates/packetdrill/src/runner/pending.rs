//! System calls, including blocking ones.

use super::{Nominal, Runner};
use crate::constants;
use crate::error::Problem;
use crate::expect;
use crate::notation;
use crate::syntax::{Call, Event, Span, Time};
use crate::system::{Reply, System};
use std::time::Duration;

/// How long the next call waits for a pending one.
const PATIENCE: Duration = Duration::from_secs(1);

/// A pending call.
#[derive(Debug)]
pub struct Pending<O> {
    pub operation: O,
    span: Span,
    call: Call,
    began: Duration,
    /// When it must return; `None`: at any time.
    until: Option<Duration>,
}

impl<S: System> Runner<'_, S> {
    pub fn call(&mut self, event: &Event, call: &Call, nominal: Nominal) -> Result<(), Problem> {
        if self.pending.is_some() {
            self.finish_pending(PATIENCE)?;
            if call.until.is_some() && self.pending.is_some() {
                let message = "a call blocks while another call is blocked";
                return Err(Problem::mismatch(event.span.clone(), message));
            }
        }
        self.note_begun(call);
        let operation = self.system.begin(call)?;
        let base = nominal.from;
        let until = call.until.map(|until| self.end_of(event, until, base));
        let pending = Pending { operation, span: event.span.clone(), call: call.clone(), began: base, until };
        if call.until.is_some() {
            self.pending = Some(pending);
            self.check_pending()
        } else {
            // A call without a time to return at is awaited.
            let before = self.pending.replace(pending);
            self.check_pending()?;
            self.finish_pending(S::PATIENCE)?;
            if let Some(pending) = &self.pending {
                let message = format!("{} does not return", pending.call);
                return Err(Problem::mismatch(pending.span.clone(), message));
            }
            self.pending = before;
            Ok(())
        }
    }

    /// `+A...B` counts both from the same time; `A...B` are both absolute.
    fn end_of(&self, event: &Event, until: Duration, began: Duration) -> Duration {
        match event.time {
            Time::After(after) => (began + until).saturating_sub(after),
            _ => until,
        }
    }

    /// Whether the pending call has returned, and with the expected result.
    pub fn check_pending(&mut self) -> Result<(), Problem> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        match self.system.attempt(&mut pending.operation)? {
            Some(reply) => self.returned(pending, reply),
            None => {
                self.pending = Some(pending);
                Ok(())
            }
        }
    }

    fn finish_pending(&mut self, patience: Duration) -> Result<(), Problem> {
        let limit = self.system.now() + patience;
        while self.pending.is_some() && self.step(limit)? {}
        Ok(())
    }

    /// At the end of the script, a pending call is awaited as the next call would do.
    pub fn finish_pending_at_end(&mut self) -> Result<(), Problem> {
        self.finish_pending(PATIENCE)?;
        match &self.pending {
            Some(pending) => {
                let message = format!("{} had not returned at the end of the script", pending.call);
                Err(Problem::mismatch(pending.span.clone(), message))
            }
            None => Ok(()),
        }
    }

    fn returned(&mut self, pending: Pending<S::Operation>, reply: Reply) -> Result<(), Problem> {
        let Pending { call, span, began, until, .. } = pending;
        let mut wrong = None;
        let (value, errno) = match reply {
            Reply::Value(value) => (value, None),
            Reply::Errno(errno) => (-1, Some(errno)),
            Reply::Wrong(value, what) => {
                wrong = Some(what);
                (value, None)
            }
            Reply::Opened if call.result >= 0 => {
                if self.system.is_open(call.result) {
                    let message = format!("descriptor {} is already open", call.result);
                    return Err(Problem::syntax(call.result_span, message));
                }
                self.system.name(Some(call.result));
                self.note_opened(&call, call.result);
                (call.result, None)
            }
            Reply::Opened => {
                self.system.name(None);
                (3, None)
            }
        };
        self.note_returned(&call, errno);
        let got = notation::result(value, errno);
        self.say(&format!("{call} = {got}"));
        let expected = expected_errno(&call)?;
        let same = value == call.result && (expected.is_none() || expected == errno);
        if !same {
            let stated = notation::result(call.result, expected);
            let message = format!("{}() returned {got}, expected {stated}", call.name);
            let problem = Problem::mismatch(call.result_span, message).label(format!("it is {got}"));
            return Err(wrong.into_iter().fold(problem, Problem::note));
        }
        if let Some(wrong) = wrong {
            return Err(Problem::mismatch(span, wrong));
        }
        let Some(until) = until else { return Ok(()) };
        let tolerance = self.tolerance(until, began);
        let at = self.now();
        expect::in_time(at, until, until, tolerance)
            .map_err(|when| Problem::mismatch(span, format!("{}() returned: {when}", call.name)))
    }
}

fn expected_errno(call: &Call) -> Result<Option<i64>, Problem> {
    let Some(name) = &call.errno else { return Ok(None) };
    let unknown = || Problem::syntax(call.result_span.clone(), format!("unknown errno {name}"));
    constants::value(name).map(Some).ok_or_else(unknown)
}
