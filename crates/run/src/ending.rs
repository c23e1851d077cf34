//! The end of a run: what it waits for after the program's end, and for how long.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;

use crate::lifetime::Until;
use crate::namespace::{Guest, Process, Signals};
use crate::run::Run;

/// How long processes may take to end by themselves that the program has left after a signal that asks for the end.
const ENDS_ALONE: Duration = Duration::from_secs(1);

/// How long lastack waits after the program's end before it explains why.
const UNEXPLAINED: Duration = Duration::from_secs(2);

/// Max processes that are listed.
const NAMED: usize = 8;

/// Waits for the end of the program and of what it has left running; without a program, for the end of the namespace.
pub async fn wait(
    run: &Run,
    guest: Option<Guest>,
    until: &Until,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let Some(mut guest) = guest else {
        tokio::select! {
            () = until.over() => {}
            _ = signals.another() => {}
        }
        return Ok(ExitStatus::default());
    };
    let status = guest.wait(signals).await.context("cannot wait for the program")?;
    wait_for_the_rest(run, &mut guest, signals)
        .await
        .context("cannot wait for the processes that the program left running")?;
    Ok(status)
}

/// The program has ended; its child processes may go on, with their network, until a signal asks for the end.
async fn wait_for_the_rest(run: &Run, guest: &mut Guest, signals: &mut Signals) -> io::Result<()> {
    let asked = signals.is_asked_to_end();
    let unexplained = tokio::time::sleep(if asked { ENDS_ALONE } else { UNEXPLAINED });
    let is_late = tokio::select! {
        rest = guest.rest() => return rest,
        _ = signals.another() => false,
        () = unexplained => true,
    };
    if is_late && !asked {
        let left = guest.processes();
        if run.talks() && !left.is_empty() {
            say!(
                "lastack: the program has ended; processes that it started are still running: {}. The run ends with them, or with Ctrl-C; --kill-rest kills them when the program ends.",
                named(&left)
            );
        }
        tokio::select! {
            rest = guest.rest() => return rest,
            _ = signals.another() => {}
        }
    }
    let killed = guest.processes();
    if !killed.is_empty() {
        run.report.warn(format!("killed at the end of the run, after a signal: {}", named(&killed)));
    }
    guest.end()?;
    guest.rest().await
}

/// `sleep[123], make[124]`, the first of them.
fn named(processes: &[Process]) -> String {
    let mut names: Vec<String> =
        processes.iter().take(NAMED).map(|process| format!("{}[{}]", process.name, process.id)).collect();
    if processes.len() > NAMED {
        names.push(format!("and {} more", processes.len() - NAMED));
    }
    names.join(", ")
}

/// Waits until the connections have ended, as long as they make progress, or until another signal.
pub async fn wait_for_connections(run: &Run, signals: &mut Signals) {
    tokio::select! {
        () = run.live.drain(signals.is_asked_to_end()) => {}
        () = explain_the_wait(run) => {}
        // A second interrupt ends the run at once.
        _ = signals.another() => {}
    }
}

/// Explains why lastack waits after the program's end. Never returns.
async fn explain_the_wait(run: &Run) {
    tokio::time::sleep(UNEXPLAINED).await;
    let blocked = run.live.blocked();
    if blocked > 0 && run.talks() {
        say!(
            "lastack: the program has ended; {blocked} of its connections still have data that the remote does not accept yet. lastack waits as long as the remote accepts some of it, for at most {} seconds; Ctrl-C discards it.",
            crate::closing::LIMIT.as_secs()
        );
    }
    std::future::pending::<()>().await;
}

/// Closes what is still open.
pub async fn close(run: &Run) {
    let left = run.live.close().await;
    if left > 0 {
        let (plural, have) = if left == 1 { ("", "has") } else { ("s", "have") };
        run.report.warn(format!(
            "{left} connection{plural} or flow{plural} {have} not ended in time, and {have} no line in this report: please report this"
        ));
    }
}
