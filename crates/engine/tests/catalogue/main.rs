//! `docs/resets.md` lists exactly the rules that the engine knows, and every row of the catalogue with
//! what becomes of it; `docs/tests.md` lists what must be shown, and by which tests it is. Each rule, row
//! and item has a test, or a reason to have none.

mod law;
mod list;
mod page;
mod sources;

use lastack_engine::Rule;
use law::{Here, Row, TABLES};
use list::Linux;
use sources::{Index, scenarios, tests};
use std::fs;

/// Rules that no row of the catalogue has: refinements, and what an embedder decides.
const OUR_OWN: &[&str] = &["N6a", "U9", "I0", "I11", "E0", "X1", "X2", "X3", "X4"];

fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|table| table.rows)
}

/// `S10-12` is three ids; `R1a` is one.
fn expand(ids: &[&str]) -> Vec<String> {
    let one = |ids: &&str| match ids.split_once('-') {
        Some((first, last)) => sources::range(first, &format!("{}{last}", &first[..1])),
        None => vec![(*ids).to_owned()],
    };
    ids.iter().flat_map(one).collect()
}

/// The ids of `has`, against those there should be.
fn same_ids(title: &str, should: &[&str], has: impl Iterator<Item = &'static str>) {
    let mut should = expand(should);
    let mut has: Vec<String> = has.map(str::to_owned).collect();
    should.sort();
    has.sort();
    assert_eq!(should, has, "the ids of {title}");
}

fn check_page(name: &str, page: &str) {
    let path = sources::root().join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{name} is not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue"
    );
}

#[test]
fn the_pages_match_the_code() {
    check_page("docs/resets.md", &page::resets());
    let tests = tests();
    check_page("docs/tests.md", &page::tests(&tests, &scenarios()));
    check_page("crates/cli/src/rules/tests.tsv", &page::tests_of_rules(&tests));
}

#[test]
fn every_rule_has_a_test() {
    let tests = tests();
    let in_engine =
        |rule: &Rule| tests.get(rule.code()).is_some_and(|named| named.iter().any(|test| test.in_engine));
    let bare: Vec<_> = Rule::ALL.iter().filter(|rule| !in_engine(rule)).collect();
    assert!(bare.is_empty(), "no test of the engine names these rules: {bare:?}");
}

#[test]
fn every_id_of_the_catalogue_has_a_row() {
    for table in TABLES {
        same_ids(table.title, table.ids, table.rows.iter().map(|row| row.0));
    }
    for rule in Rule::ALL {
        let own = rows().any(|(id, _, here)| *id == rule.code() && *here == Here::Own);
        assert!(own != OUR_OWN.contains(&rule.code()), "{rule} is a row of the catalogue, or one of our own");
    }
}

#[test]
fn every_row_is_a_rule_or_has_a_test_or_a_reason() {
    let (tests, scenarios) = (tests(), scenarios());
    let mut wrong = Vec::new();
    for (id, what, here) in rows() {
        let is_rule = id.parse::<Rule>().is_ok();
        assert_eq!(is_rule, *here == Here::Own, "{id} has a rule of its own");
        if let Here::By(rules) = here {
            let unknown: Vec<_> = rules.split(' ').filter(|rule| rule.parse::<Rule>().is_err()).collect();
            assert!(unknown.is_empty(), "{id}: these are no rules: {unknown:?}");
        }
        let shown = tests.contains_key(*id) || scenarios.contains(*id);
        match here {
            Here::Not(why) => assert!(!why.is_empty(), "{id}"),
            _ if shown => {}
            _ => wrong.push(format!("{id} ({what})")),
        }
    }
    assert!(wrong.is_empty(), "no test and no scenario names these rows: {wrong:#?}");
}

#[test]
fn rows_without_an_id_name_a_test() {
    let tests = sources::names();
    for (place, what, test) in law::UNNUMBERED {
        assert!(tests.contains(*test), "{place}, {what}: there is no test {test}");
    }
}

#[test]
fn every_item_has_a_test_or_a_reason() {
    same_ids("the conformance list", list::IDS, list::ITEMS.iter().map(|item| item.0));
    let (tests, scenarios) = (tests(), scenarios());
    let mut wrong = Vec::new();
    for (id, what, _) in list::ITEMS {
        let absent = list::ABSENT.iter().any(|(absent, _)| absent == id);
        let one = list::ONE_FAMILY.iter().any(|(one, _)| one == id);
        match (tests.get(*id), absent) {
            (Some(_), true) => wrong.push(format!("{id} ({what}): has a test, and a reason to have none")),
            (None, false) if !scenarios.contains(*id) => wrong.push(format!("{id} ({what}): has no test")),
            // A scenario is played on the engine in virtual time, over both.
            (Some(named), false) if named.iter().any(|test| test.both) == one && !scenarios.contains(*id) => {
                wrong.push(format!(
                    "{id} ({what}): {}",
                    if one { "is shown for both IP versions" } else { "is shown for one IP version" }
                ));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} items: {wrong:#?}", wrong.len());
}

#[test]
fn scenarios_that_linux_can_show_are_compared() {
    let scenarios = scenarios();
    let mut wrong = Vec::new();
    for (id, what, linux) in list::ITEMS {
        if let Linux::By(ids) = linux {
            let bare: Vec<_> = ids.split(' ').filter(|id| !scenarios.contains(*id)).collect();
            if !bare.is_empty() {
                wrong.push(format!("{id} ({what}): {bare:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no scenario has these ids: {wrong:#?}");
}

/// The scanner finds what it should, so that the tests above can fail.
#[test]
fn ids_are_found() {
    let ids: Vec<_> = sources::ids_in("T1 to T3, S60; XS1 S1x T66a").into_iter().collect();
    assert_eq!(ids, ["S60", "T1", "T2", "T3", "T66a"]);
    assert_eq!(expand(&["S8-10", "R1a"]), ["S8", "S9", "S10", "R1a"]);
    let index: Index = tests();
    let named =
        |id: &str, test: &str| index.get(id).is_some_and(|all| all.iter().any(|t| t.name.ends_with(test)));
    assert!(named("T3", "a_closed::t1_to_t6_a_closed_port_answers_by_the_ack_flag"));
    assert!(named("T18", "a_listen::t17_t18_a_listener_drops_segments_without_syn_and_ack"));
    assert!(!named("T7", "a_closed::t1_to_t6_a_closed_port_answers_by_the_ack_flag"));
}
