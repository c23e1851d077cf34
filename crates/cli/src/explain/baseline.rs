//! The output of an earlier run.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use lastack_explain::Explained;
use lastack_explain::record::Writer;
use serde::Deserialize;

/// The fields of a record that are compared.
#[derive(Deserialize)]
struct Known {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    server: String,
    #[serde(default)]
    ended_by: String,
}

/// The ends of an earlier output.
#[derive(Debug, Default)]
pub struct Baseline {
    ids: HashSet<String>,
    kinds: HashSet<(String, String, String)>,
}

impl Baseline {
    /// Reads the output of `--json`.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the baseline {}", path.display()))?;
        let mut this = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let known: Known = serde_json::from_str(line).map_err(|error| {
                anyhow!(
                    "line {} of {} is not a record of `lastack explain --json`: {error}",
                    number + 1,
                    path.display()
                )
            })?;
            if known.kind == "connection" {
                this.ids.insert(known.id);
                this.kinds.insert((known.cause, known.server, known.ended_by));
            }
        }
        Ok(this)
    }

    /// Whether the earlier run had this connection, or one of the same cause at the same server.
    pub fn knows(&self, explained: &Explained, writer: &Writer) -> bool {
        let verdict = &explained.verdict;
        let server = writer.endpoint(explained.server());
        self.ids.contains(&writer.id(explained))
            || self.kinds.contains(&(verdict.cause.name().into(), server, verdict.ended_by.name().into()))
    }
}
