//! The output for runs.

use lastack_packetdrill::{Problem, Report, Verdict};
use std::io::{self, Write};

use super::{Run, ScriptArgs, Trouble, Versions};

/// Prints the results.
pub struct Results {
    tap: bool,
    verbose: bool,
    /// There is only one run, which prints nothing if it passes.
    alone: bool,
    several_versions: bool,
    count: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Results {
    pub fn new(args: &ScriptArgs, count: usize) -> Self {
        Self {
            tap: args.tap,
            verbose: args.verbose,
            alone: count == 1,
            several_versions: Versions::count(args.ip_version) > 1,
            count,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    pub fn add(&mut self, run: &Run, report: &Report) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let begins = self.passed + self.failed + self.skipped == 0;
        if self.tap && begins {
            writeln!(out, "TAP version 13\n1..{}", self.count)?;
        }
        if self.verbose {
            for line in &report.log {
                writeln!(out, "{}{line}", if self.tap { "# " } else { "" })?;
            }
        }
        match &report.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
        let name = self.name(run);
        if self.tap {
            return self.tap_line(&mut out, run, &report.verdict, &name);
        }
        match &report.verdict {
            Verdict::Passed if self.alone => Ok(()),
            Verdict::Passed => writeln!(out, "OK   {name}"),
            Verdict::Skipped(problem) => writeln!(out, "SKIP {name}: {}", reason(run, problem)),
            Verdict::Failed(problem) => {
                if !self.alone {
                    writeln!(out, "FAIL {name}: {}", reason(run, problem))?;
                    out.flush()?;
                }
                let path = run.path.display().to_string();
                writeln!(anstream::stderr(), "{}", problem.draw(&path, &run.source, true))
            }
        }
    }

    fn name(&self, run: &Run) -> String {
        let path = run.path.display();
        if self.several_versions { format!("{path} ({})", run.version.name()) } else { path.to_string() }
    }

    fn tap_line(&self, out: &mut impl Write, run: &Run, verdict: &Verdict, name: &str) -> io::Result<()> {
        let number = self.passed + self.failed + self.skipped;
        match verdict {
            Verdict::Passed => writeln!(out, "ok {number} - {name}"),
            Verdict::Skipped(problem) => {
                writeln!(out, "ok {number} - {name} # SKIP {}", reason(run, problem))
            }
            Verdict::Failed(problem) => {
                writeln!(out, "not ok {number} - {name}")?;
                let drawn = problem.draw(&run.path.display().to_string(), &run.source, false);
                drawn.lines().try_for_each(|line| writeln!(out, "# {line}"))
            }
        }
    }

    pub fn finish(self) -> Result<bool, Trouble> {
        if !self.alone && !self.tap {
            let Self { passed, failed, skipped, .. } = self;
            writeln!(anstream::stdout(), "{passed} passed, {failed} failed, {skipped} skipped")?;
        }
        Ok(self.failed == 0)
    }
}

/// The line number and the problem there.
pub fn reason(run: &Run, problem: &Problem) -> String {
    format!("line {}: {}", problem.line(&run.source), problem.message)
}
