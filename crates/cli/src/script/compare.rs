//! The comparison table: the expectations of scripts, and the results with this stack and with the kernel.

use std::io::Write;

use lastack_packetdrill::{Report, Verdict};

use super::{Run, ScriptArgs, Trouble, Versions, kernel, on_kernel, results::reason};

/// Marks a script for which the kernel is known to behave differently, with the reason.
const DIFFERS: &str = "// Linux differs: ";

/// A script, and its result over each IP version.
struct Row<'a> {
    run: &'a Run,
    ours: Vec<Outcome>,
    kernels: Vec<Outcome>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Outcome {
    fn of(run: &Run, report: &Report) -> Self {
        match &report.verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed(problem) => Self::Failed(reason(run, problem)),
            Verdict::Skipped(problem) => Self::Skipped(reason(run, problem)),
        }
    }
}

/// Runs every script on both, and prints the table. `false`: the results differ from what the scripts expect.
pub fn run(args: &ScriptArgs, runs: &[Run]) -> Result<bool, Trouble> {
    let mut kernels = Vec::new();
    on_kernel(args, runs, |run, report| {
        kernels.push(Outcome::of(run, report));
        Ok(())
    })?;
    let versions = Versions::count(args.ip_version);
    let ours: Vec<Outcome> = runs.iter().map(|run| Outcome::of(run, &run.play(args))).collect();
    let rows: Vec<Row<'_>> = runs
        .chunks(versions)
        .zip(ours.chunks(versions).zip(kernels.chunks(versions)))
        .map(|(runs, (ours, kernels))| Row { run: &runs[0], ours: ours.to_vec(), kernels: kernels.to_vec() })
        .collect();
    let release = kernel::release().map_err(Trouble::Kernel)?;
    let mut out = anstream::stdout().lock();
    writeln!(out, "| script | what it shows | lastack | Linux {release} |\n|---|---|---|---|")?;
    for row in &rows {
        writeln!(out, "{}", row.line())?;
    }
    Ok(rows.iter().all(Row::agrees))
}

impl Row<'_> {
    /// The first comment of the script.
    fn title(&self) -> String {
        let comment = self.run.source.lines().map_while(|line| line.strip_prefix("//")).map(str::trim);
        let comment = comment.take_while(|line| !line.starts_with(DIFFERS.trim_start_matches("// ")));
        comment.collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
    }

    /// Why the kernel behaves differently.
    fn difference(&self) -> Option<&str> {
        self.run.source.lines().find_map(|line| line.trim_start().strip_prefix(DIFFERS))
    }

    fn kernel_fails(&self) -> bool {
        self.kernels.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    fn agrees(&self) -> bool {
        !self.ours.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)))
            && self.kernel_fails() == self.difference().is_some()
    }

    fn line(&self) -> String {
        let name = self.run.path.file_name().unwrap_or_default().to_string_lossy();
        let theirs = match (self.kernel_fails(), self.difference()) {
            (true, Some(why)) => format!("differs: {why}"),
            (false, Some(_)) => "OK, **and the script says that it differs**".to_owned(),
            (true, None) => format!("**{}**", cell(&self.kernels)),
            (false, None) => cell(&self.kernels),
        };
        let escaped = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let [title, ours, theirs] = [self.title(), cell(&self.ours), theirs].map(|text| escaped(&text));
        format!("| {name} | {title} | {ours} | {theirs} |")
    }
}

/// The combined result of all IP versions: the worst, and why.
fn cell(outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed(why) => Some(format!("FAIL: {why}")),
        _ => None,
    });
    let skipped = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Skipped(why) => Some(why),
        _ => None,
    });
    match (failed, skipped) {
        (Some(failed), _) => failed,
        // A script may be for one IP version only.
        (None, Some(_)) if outcomes.contains(&Outcome::Passed) => "OK, one IP version".to_owned(),
        (None, Some(why)) => format!("SKIP: {why}"),
        (None, None) => "OK".to_owned(),
    }
}
