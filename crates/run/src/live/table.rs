//! The table as text.

use std::time::Duration;

use super::board::{EndedRow, Row, View};
use crate::report::{Path, Process, Proto, Size, mark};

/// The columns, and the widths of those of numbers, which are to the right.
const TITLES: [&str; COLUMNS] =
    ["STATE", "REMOTE", "SENT", "RECVD", "OUT/s", "IN/s", "RTT", "RETR", "AGE", "PROCESS"];
const COLUMNS: usize = 10;
const STATE: usize = 11;
const NUMBERS: [usize; 7] = [6, 6, 6, 6, 8, 4, 7];
/// The columns that a narrow terminal does not have: the sums and the age.
const WIDE_ONLY: [usize; 3] = [2, 3, 8];
const WIDE: usize = 100;
/// The width of `PROCESS`, at least.
const PROCESS: usize = 16;
/// Rows for connections that have ended, if there are many open ones.
const FOR_ENDED: usize = 8;

/// Lines for a terminal of this size.
pub fn render(view: &View, command: &str, (rows, columns): (usize, usize)) -> Vec<String> {
    let mut lines = vec![cut(&head(view, command), columns), row(TITLES.map(ToOwned::to_owned), columns)];
    let room = rows.saturating_sub(lines.len());
    let for_ended = view.ended.len().min(FOR_ENDED.max(room.saturating_sub(view.open.len())));
    let for_open = room.saturating_sub(for_ended);
    let hidden = view.open.len().saturating_sub(for_open);
    let shown = if hidden > 0 { for_open.saturating_sub(1) } else { view.open.len() };
    lines.extend(view.open.iter().take(shown).map(|row| open(row, columns)));
    if hidden > 0 {
        lines.push(cut(&format!("and {} more", view.open.len() - shown), columns));
    }
    lines.extend(view.ended.iter().take(for_ended).map(|row| {
        let (style, _) = mark(row.severity);
        format!("{style}{}{style:#}", cut(&ended(row), columns))
    }));
    lines.truncate(rows);
    lines
}

fn head(view: &View, command: &str) -> String {
    let [benign, suspicious, harmful] = view.ends;
    let (out, into) =
        view.open.iter().fold((0, 0), |(out, into), row| (out + row.sending, into + row.receiving));
    format!(
        "lastack run {}  {} open; ended: {benign} ✓ {suspicious} ! {harmful} ✗; out {}/s, in {}/s: {command}",
        clock(view.elapsed),
        view.open.len(),
        Size(out),
        Size(into)
    )
}

fn open(row_of: &Row, columns: usize) -> String {
    let shot = &row_of.shot;
    let proto = if shot.proto == Proto::Udp { "udp " } else { "" };
    let from = if shot.inward { "from " } else { "" };
    let name = shot.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let path = |what: fn(Path) -> String| shot.path.map_or_else(|| "-".to_owned(), what);
    let cells = [
        shot.state.clone(),
        format!("{proto}{from}{}{name}", shot.remote),
        short(shot.sent),
        short(shot.received),
        short(row_of.sending),
        short(row_of.receiving),
        path(|path| milliseconds(path.rtt)),
        path(|path| path.retransmitted.to_string()),
        age(shot.opened.elapsed()),
        process(shot.process.as_ref()),
    ];
    row(cells, columns)
}

fn ended(row: &EndedRow) -> String {
    format!(
        "{}  {}  {} sent, {} received  {}  {}",
        row.what,
        row.whither,
        Size(row.sent),
        Size(row.received),
        age(row.duration),
        process(row.process.as_ref())
    )
}

fn row(cells: [String; COLUMNS], columns: usize) -> String {
    let hidden = |column: usize| columns < WIDE && WIDE_ONLY.contains(&column);
    let numbers: usize = (0..NUMBERS.len()).filter(|i| !hidden(i + 2)).map(|i| NUMBERS[i] + 1).sum();
    let remote = columns.saturating_sub(STATE + numbers + PROCESS + 3).clamp(15, 48);
    let mut line = String::new();
    for (column, cell) in cells.into_iter().enumerate().filter(|(column, _)| !hidden(*column)) {
        match column {
            0 => line += &format!("{:<STATE$} ", cut(&cell, STATE)),
            1 => line += &format!("{:<remote$}", cut(&cell, remote)),
            9 => line += &format!("  {cell}"),
            _ => {
                let width = NUMBERS[column - 2];
                line += &format!(" {:>width$}", cut(&cell, width));
            }
        }
    }
    cut(&line, columns)
}

/// A number of bytes in up to five characters: `999`, `1.2K`, `34M`.
fn short(bytes: u64) -> String {
    if bytes < 1000 {
        return if bytes == 0 { "-".to_owned() } else { bytes.to_string() };
    }
    let mut size = bytes as f64;
    for unit in ["K", "M", "G", "T"] {
        size /= 1024.0;
        if size < 9.95 {
            return format!("{size:.1}{unit}");
        }
        if size < 999.5 {
            return format!("{size:.0}{unit}");
        }
    }
    format!("{size:.0}T")
}

fn process(process: Option<&Process>) -> String {
    process.map_or_else(String::new, |process| format!("{}[{}]", process.comm, process.pid))
}

fn milliseconds(rtt: Duration) -> String {
    match rtt.as_micros() {
        micros @ ..1000 => format!("{micros} us"),
        micros @ ..100_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        micros => format!("{} ms", micros / 1000),
    }
}

fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => format!("{} ms", age.as_millis()),
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Cuts a line at the width. Text from outside (names of processes and of hosts) has no control characters here.
fn cut(text: &str, width: usize) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(width).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lastack_causes::Severity;

    use super::super::board::Shot;
    use super::*;

    fn row_of(port: u16) -> Row {
        let path =
            Path { rtt: Duration::from_micros(12_345), min_rtt: Duration::from_millis(11), retransmitted: 3 };
        let shot = Shot {
            proto: Proto::Tcp,
            inward: false,
            remote: ([192, 0, 2, 7], port).into(),
            name: Some("db.example".to_owned()),
            process: Some(Process { pid: 123, comm: "cu\x1brl".to_owned() }),
            state: "ESTABLISHED".to_owned(),
            sent: 1000,
            received: 2_000_000,
            path: Some(path),
            opened: Instant::now(),
        };
        Row { shot, sending: 0, receiving: 50_000 }
    }

    fn ended_row() -> EndedRow {
        EndedRow {
            at: Instant::now(),
            severity: Severity::Harmful,
            what: "✗ refused by the remote".to_owned(),
            whither: "192.0.2.7:9".to_owned(),
            sent: 0,
            received: 0,
            duration: Duration::from_micros(1500),
            process: None,
        }
    }

    #[test]
    fn a_row_has_state_traffic_path_and_process() {
        let view = View { open: vec![row_of(80)], ended: vec![ended_row()], ..View::default() };
        let lines = render(&view, "curl", (24, 200));
        assert_eq!(lines.len(), 4);
        for wanted in [
            "ESTABLISHED",
            "192.0.2.7:80 db.example",
            " 1.0K ",
            " 1.9M ",
            " 49K ",
            "12.3 ms",
            "    3 ",
            "cu?rl[123]",
        ] {
            assert!(lines[2].contains(wanted), "{wanted}: {}", lines[2]);
        }
        let narrow = render(&view, "curl", (24, 80));
        for wanted in ["ESTABLISHED", "192.0.2.7:80 db.", " 49K ", "12.3 ms", "cu?rl[123]"] {
            assert!(narrow[2].contains(wanted), "{wanted}: {}", narrow[2]);
        }
        assert!(lines[3].contains("✗ refused by the remote  192.0.2.7:9"), "{}", lines[3]);
        assert!(lines[0].contains("1 open") && lines[0].ends_with(": curl"), "{}", lines[0]);
    }

    #[test]
    fn it_fits_whatever_the_size_and_says_what_is_hidden() {
        let open: Vec<Row> = (1..100).map(row_of).collect();
        let view = View { open, ended: vec![ended_row(); 30], ..View::default() };
        for (rows, columns) in [(0, 0), (1, 1), (3, 10), (10, 40), (24, 80), (200, 300)] {
            let lines = render(&view, "a program", (rows, columns));
            assert!(lines.len() <= rows, "{rows}: {}", lines.len());
            let longest =
                lines.iter().map(|line| anstream::adapter::strip_str(line).to_string().chars().count()).max();
            assert!(longest.unwrap_or(0) <= columns, "{columns}: {longest:?}");
        }
        let lines = render(&view, "", (24, 80));
        // 22 rows: 8 for what has ended, 13 for what is open, one for the number of the others.
        assert_eq!(lines.iter().filter(|line| line.starts_with("ESTABLISHED")).count(), 13);
        assert_eq!(lines.iter().filter(|line| line.as_str() == "and 86 more").count(), 1);
    }
}
