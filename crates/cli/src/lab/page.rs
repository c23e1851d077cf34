//! `lastack lab --html`: the scenarios as an HTML page for learning and teaching.

use lastack_diagram::{Page, Section};
use lastack_lab::Played;
use lastack_lab::timeline;

/// The page of the scenarios.
pub(super) fn page(sections: Vec<Section>) -> String {
    let count = sections.len();
    Page {
        title: "How TCP connections begin and end".into(),
        headline: format!(
            "{count} scenario{}, each played by two hosts. Time runs down, in seconds; sequence numbers are relative; \
             codes such as S60 name the rule that was followed.",
            if count == 1 { "" } else { "s" }
        ),
        sections,
        ..Page::default()
    }
    .html()
}

/// The section of a scenario.
pub(super) fn section(played: &Played) -> Section {
    let scenario = played.scenario;
    let mut section = Section::new(format!("{}: {}", scenario.name, scenario.summary));
    section.anchor = scenario.name.into();
    section.paragraph(&format!("{} ({})", scenario.topic.heading(), scenario.reference));
    let (sequence, rules) = timeline::sequence(&played.trace);
    section.picture(&sequence.svg());
    section.heading("How it ended");
    section.table(
        timeline::endings(&played.trace).into_iter().flat_map(|(host, sentences)| {
            sentences.into_iter().map(move |sentence| [host.clone(), sentence])
        }),
    );
    if !rules.is_empty() {
        section.heading("Rules").table(rules.into_iter().map(|rule| {
            [rule.code().to_owned(), format!("{rule}: {}", rule.text()), rule.section().to_owned()]
        }));
    }
    if !played.differences.is_empty() {
        section.heading("It did not go as expected").list(&played.differences);
    }
    section
}
