//! Lines on standard output, written by a separate thread: a reader that stops does not stop the server.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Max lines that wait for the reader; further ones are dropped and counted.
const QUEUE: usize = 4096;
/// The max time for writing the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Standard output.
pub struct Output {
    lines: Mutex<Option<SyncSender<String>>>,
    dropped: Arc<AtomicU64>,
    /// The error of a failed write.
    failed: watch::Receiver<Option<io::ErrorKind>>,
    finished: Receiver<()>,
    json: bool,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn new(json: bool) -> io::Result<Self> {
        Self::to(anstream::stdout(), json)
    }

    fn to(mut out: impl Write + Send + 'static, json: bool) -> io::Result<Self> {
        let (lines, queue) = sync_channel::<String>(QUEUE);
        let (fail, failed) = watch::channel(None);
        let (finish, finished) = sync_channel(1);
        let dropped = Arc::<AtomicU64>::default();
        let count = dropped.clone();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            for line in &queue {
                let missed = count.swap(0, Ordering::Relaxed);
                let mut result = writeln!(out, "{line}");
                if missed > 0 {
                    result = result.and_then(|()| writeln!(out, "{}", dropped_line(missed, json)));
                }
                if let Err(error) = result.and_then(|()| out.flush()) {
                    fail.send_replace(Some(error.kind()));
                    break;
                }
            }
            // If this fails, the receiver is no longer waiting.
            let _late = finish.send(());
        })?;
        Ok(Self { lines: Mutex::new(Some(lines)), dropped, failed, finished, json })
    }

    /// Prints a line, or counts it as dropped.
    pub fn line(&self, line: String) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = &*lines else { return };
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until writing fails, and returns the error.
    pub async fn failed(&self) -> io::Error {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await.map(|kind| *kind) {
            Ok(Some(kind)) => kind.into(),
            // The thread has ended because everything is written.
            _ => std::future::pending().await,
        }
    }

    /// Gives the reader limited time for the last lines.
    pub fn finish(self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        if matches!(self.finished.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout)) {
            let missed = self.dropped.load(Ordering::Relaxed);
            let about = dropped_line(missed, false);
            lastack_run::message(format_args!(
                "lastack serve: nothing reads the output: the last lines are lost ({about})"
            ));
        }
    }

    /// Whether lines are JSON.
    pub const fn json(&self) -> bool {
        self.json
    }
}

fn dropped_line(missed: u64, json: bool) -> String {
    if json {
        format!(r#"{{"v":1,"type":"dropped","lines":{missed}}}"#)
    } else {
        format!("{missed} lines dropped: the output was not read fast enough")
    }
}

/// A rate limit per second, which counts what exceeds it: remote hosts without a connection must not be able to
/// fill the log.
#[derive(Debug)]
pub struct PerSecond {
    limit: u32,
    passed: u32,
    held: u64,
    since: Instant,
}

impl PerSecond {
    /// Allows this many per second.
    pub fn new(limit: u32) -> Self {
        Self { limit, passed: 0, held: 0, since: Instant::now() }
    }

    /// Whether one more is allowed now.
    pub fn pass(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.passed) = (now, 0);
        }
        let passes = self.passed < self.limit;
        self.passed += u32::from(passes);
        self.held += u64::from(!passes);
        passes
    }

    /// The number suppressed since the last call.
    pub fn take_held(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts no data until it is resumed.
    struct Stuck(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let _told = self.0.recv();
            self.1.lock().unwrap().write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time() {
        let (go, wait) = sync_channel(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let output = Output::to(Stuck(wait, written.clone()), false).unwrap();
        let start = Instant::now();
        for n in 0..QUEUE + 1000 {
            output.line(n.to_string());
        }
        assert!(start.elapsed() < Duration::from_secs(5), "nothing waits for it");
        let missed = output.dropped.load(Ordering::Relaxed);
        assert!((998..=1000).contains(&missed), "{missed}");
        drop(go);
        output.finish();
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let count = written.lines().filter(|line| line.parse::<usize>().is_ok()).count() as u64;
        assert_eq!(count + missed, QUEUE as u64 + 1000);
        assert!(written.contains(&format!("{missed} lines dropped")), "it says how many are missing");
    }

    #[tokio::test]
    async fn an_output_that_fails_is_detected() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::to(Broken, false).unwrap();
        output.line("x".to_owned());
        assert_eq!(output.failed().await.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn so_many_pass_in_a_second() {
        let mut limit = PerSecond::new(2);
        let now = Instant::now();
        let passes: Vec<_> = (0..5).map(|_| limit.pass(now)).collect();
        assert_eq!((passes, limit.take_held()), (vec![true, true, false, false, false], 3));
        assert!(limit.pass(now + Duration::from_secs(1)) && limit.take_held() == 0);
    }
}
