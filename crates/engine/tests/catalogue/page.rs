//! The pages that are written of the catalogue.

use crate::law::{self, Here, TABLES};
use crate::list::{self, Linux};
use crate::sources::{Index, Test};
use lastack_engine::Rule;
use std::collections::BTreeSet;
use std::fmt::Write;

const RULES: &str = "\
# The rules

Every answer, drop and end has a rule. Reports, the comments of captures and `lastack lab` print its name; JSON
has the name (`rule`) and the code (`rule_code`); tests name the code. `lastack rules NAME` prints one of them.
This page is written by `UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue`, and a test fails where a
rule has no test; [tests.md](tests.md) lists the conformance tests.

The first word of a name is the action of the rule: `rst-` sends a reset, `peer-rst-` accepts one, `ack-` answers \
with an ACK, `drop-` ignores a packet, `icmp-` sends or handles an ICMP error, `end-` ends a connection without a \
reset, `limit-` applies a bound. Codes by their first letter: **N** never answered, **S** a reset or ACK is sent, **R** a reset is received, \
**H** half-open connections, **U** UDP, **I** ICMP, **P** path MTU, **E** orderly release, **Q** TIME-WAIT, \
**D** attacks, **X** decided by the program that uses the stack. *Declares*: the reason that the reset carries if \
`TcpConfig::send_rst_reason` is on (draft-ietf-tcpm-rst-diagnostic-payload). *Linux*: the name in its tracepoint \
`tcp_send_reset`.

| code | name | rule | source | declares | Linux |
|---|---|---|---|---|---|
";

const ROWS: &str = "
## Every row

All known cases of resets, half-open connections and orderly release, and how they are handled here: *own*: a rule above has
the same code; codes: it is a case of these rules; *no rule*: it is handled as described, and nothing is answered, dropped or
ended by it. A test fails if a code is missing, or if no test and no scenario of [linux.md](linux.md) names a row.
";

const UNNUMBERED: &str = "
## Cases without a code

| subject | case | test |
|---|---|---|
";

const NOT_BUILT: &str = "
## Not built, and why

| code | case | reason |
|---|---|---|
";

const OTHERS: &str = "\
| | TCP-MD5, TCP-AO | no keys: a signed segment is dropped (N7) |
| | a reset in TIME-WAIT ends it (RFC 793) | ignored (R17) |
";

/// `docs/resets.md`
pub fn resets() -> String {
    let mut page = String::from(RULES);
    for rule in Rule::ALL {
        let declares = rule.rst_reason().map_or(String::new(), |reason| reason.to_string());
        let (code, name, text, source) = (rule.code(), rule.name(), rule.text(), rule.section());
        let linux = rule.linux().unwrap_or_default();
        row(&mut page, &[code, &format!("`{name}`"), text, source, &declares, linux]);
    }
    page += ROWS;
    for table in TABLES {
        write!(page, "\n### {}\n\n| code | case | here |\n|---|---|---|\n", table.title).unwrap();
        for (id, what, here) in table.rows {
            let here = match here {
                Here::Own => "own",
                Here::So => "no rule",
                Here::By(rules) => rules,
                Here::Not(_) => "not built",
            };
            row(&mut page, &[id, what, here]);
        }
    }
    page += UNNUMBERED;
    for (place, what, test) in law::UNNUMBERED {
        row(&mut page, &[place, what, &format!("`{test}`")]);
    }
    page += NOT_BUILT;
    for (id, what, here) in TABLES.iter().flat_map(|table| table.rows) {
        if let Here::Not(why) = here {
            row(&mut page, &[id, what, why]);
        }
    }
    page + OTHERS
}

const ITEMS: &str = "\
# What is shown, and by which tests

The conformance list for resets: what must be shown, the tests that show it (in virtual time, over IPv4 and IPv6, unless
said; the scenarios of [linux.md](linux.md) that have the id are some, too), and the scenarios in which Linux was asked
the same, by the ids of their rules. This page is written by
`UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue`; a test fails where an item has neither a test nor a reason
to have none, and where no scenario has the id.

A hand-made peer shows what each stack sends and takes. That each takes what the *other* sends is shown with both, alive,
over TUN and veth (`crates/lastack/tests/device/resets.rs`):

| | in ESTABLISHED, FIN-WAIT-2, CLOSE-WAIT, at a shut window of either side | elsewhere |
|---|---|---|
| ours, taken by Linux | S60, S64, S103, with a reason and without | S1, S4, S10, S20 (a connection that we lost), S71, S80, S97, S90, S99, S106 |
| Linux', taken by us | S60, S64, S103 | S1, S80, S90 |

What is left: S30, S32, S37, S40 and S44 answer what a Linux that is in its senses does not send, or a race; S91, S92, S93,
S95 and S100 are sent where nobody answers any more.

| id | what is expected | tests | Linux |
|---|---|---|---|
";

/// A row of a table, in whose cells a bar is no border.
fn row(page: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    writeln!(page, "| {} |", cells.join(" | ")).unwrap();
}

/// `crates/cli/src/rules/tests.tsv`: the code of each rule, a tab, its tests.
pub fn tests_of_rules(tests: &Index) -> String {
    let mut lines = String::new();
    for rule in Rule::ALL {
        let names: Vec<&str> =
            tests.get(rule.code()).into_iter().flatten().map(|test| test.name.as_str()).collect();
        writeln!(lines, "{}\t{}", rule.code(), names.join(", ")).unwrap();
    }
    lines
}

/// `docs/tests.md`
pub fn tests(tests: &Index, scenarios: &BTreeSet<String>) -> String {
    let mut page = String::from(ITEMS);
    for (id, what, linux) in list::ITEMS {
        let mut named = tests.get(*id).map(|named| names(named.iter())).unwrap_or_default();
        if scenarios.contains(*id) {
            named += if named.is_empty() { "scenarios" } else { ", scenarios" };
        }
        let reason = |from: &[(&str, &str)]| {
            from.iter().find(|(absent, _)| absent == id).map(|(_, why)| (*why).to_owned())
        };
        let shown = match (reason(list::ABSENT), reason(list::ONE_FAMILY)) {
            (Some(why), _) => format!("*{why}*"),
            (None, Some(why)) => format!("{named} *({why})*"),
            (None, None) => named,
        };
        let asked = match linux {
            Linux::Not(why) => format!("*{why}*"),
            Linux::By(ids) => (*ids).to_owned(),
        };
        row(&mut page, &[id, what, &shown, &asked]);
    }
    page
}

fn names<'a>(tests: impl Iterator<Item = &'a Test>) -> String {
    tests.map(|test| format!("`{}`", test.name)).collect::<Vec<_>>().join(", ")
}
