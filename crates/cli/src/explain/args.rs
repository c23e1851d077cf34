//! The options of `lastack explain`.

use std::path::PathBuf;

use clap::Args;
use lastack_run::same_file;

use crate::fail_on::FailOn;

/// Report for each connection in packet captures who ended it, why, how certain that is, and what to do.
///
/// Reads pcap and pcapng, compressed with gzip, zstd, xz, bzip2 or lz4. Several files are merged by time.
/// Exit status: 0 if no connection ended in a way that --fail-on names (always, without --fail-on); 1 if one did; 2 for
/// options that are not valid; 3 if no input could be read, or an output could not be written; 4 if
/// the input could be read only in part.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The captures; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Show orderly and harmless ends, too
    #[arg(long)]
    pub all: bool,

    /// Show one connection in full: its ID, its number in the list, `client > server`, `ADDRESS:PORT`, or `frame:N`
    #[arg(long, value_name = "WHICH")]
    pub conn: Option<String>,

    /// Print JSON lines
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,

    /// Print Markdown, for tickets
    #[arg(long = "md")]
    pub markdown: bool,

    /// Write a self-contained HTML page to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write the packets of the connections that ended badly to this pcapng file, with comments on the decisive ones
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// With -w: write all packets
    #[arg(long, requires = "write")]
    pub all_packets: bool,

    /// Replace addresses in all output; with -w, leave out payload, link headers and packets other than TCP
    #[arg(long)]
    pub anonymize: bool,

    /// Leave out application data: error lines and the payload of resets
    #[arg(long)]
    pub redact: bool,

    /// Use the kernel's reasons of resets: the output of `perf script` or tracefs with tcp:tcp_send_reset events
    #[arg(long, value_name = "FILE")]
    pub kernel_trace: Option<PathBuf>,

    /// Exit with status 1 if a connection ended in a way that is `harmful`, at least `suspicious`, or of one of these causes;
    /// `:CONF` counts only verdicts of at least this confidence, 0 to 1
    #[arg(long, value_name = "harmful|suspicious|CAUSE,..[:CONF]")]
    pub fail_on: Option<FailOn>,

    /// Show only what is new: leave out what an earlier --json output has (the same connection, or the same cause and party at
    /// the same server)
    #[arg(long, value_name = "OLD.JSON")]
    pub baseline: Option<PathBuf>,

    /// Track at most this many connections at a time
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(usize))]
    pub max_connections: usize,

    /// Print no list, progress or warnings; only the exit status reports the result
    #[arg(short, long)]
    pub quiet: bool,
}

impl ExplainArgs {
    /// Rejects options that do not fit together.
    pub fn check(&self) -> Result<(), String> {
        let stdin = self.files.iter().filter(|file| file.as_os_str() == "-").count();
        if stdin > 1 {
            return Err("standard input can be read only once".into());
        }
        if stdin == 1 && self.write.is_some() {
            return Err(
                "-w reads the input twice, which standard input does not allow: save it to a file first"
                    .into(),
            );
        }
        self.check_outputs()?;
        if self.max_connections == 0 {
            return Err("--max-connections must be at least 1".into());
        }
        Ok(())
    }

    /// No output may replace an input, or another output.
    fn check_outputs(&self) -> Result<(), String> {
        let inputs = self.files.iter().chain(&self.baseline).chain(&self.kernel_trace);
        let outputs = || self.write.iter().chain(&self.html);
        if let Some(output) = outputs().find(|output| inputs.clone().any(|input| same_file(input, output))) {
            return Err(format!("{} is an input: it would be overwritten", output.display()));
        }
        match (&self.write, &self.html) {
            (Some(write), Some(html)) if same_file(write, html) => {
                Err(format!("-w and --html name the same file, {}", html.display()))
            }
            _ => Ok(()),
        }
    }
}
