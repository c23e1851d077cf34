//! A page: one file without references to anything outside of it.

use std::fmt::Write as _;

use crate::escape;

/// A number at the top of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The number.
    pub value: String,
    /// What it counts.
    pub label: String,
    /// `harmful`, `suspicious`, `benign`, or nothing.
    pub class: &'static str,
}

/// Content, made of texts that are escaped and of pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The heading; without one the content stands alone.
    pub title: String,
    /// What the table of contents calls it; empty to leave it out.
    pub anchor: String,
    html: String,
}

impl Section {
    /// A section without content.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        let _ = write!(self.html, "<p>{}</p>", escape(text));
        self
    }

    /// Adds a heading within the section.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        let _ = write!(self.html, "<h4>{}</h4>", escape(text));
        self
    }

    /// Adds a list.
    pub fn list<T: AsRef<str>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Self {
        self.html.push_str("<ul>");
        for item in items {
            let _ = write!(self.html, "<li>{}</li>", escape(item.as_ref()));
        }
        self.html.push_str("</ul>");
        self
    }

    /// Adds a table with this number of columns, without a header row.
    pub fn table<const N: usize>(&mut self, rows: impl IntoIterator<Item = [String; N]>) -> &mut Self {
        self.html.push_str("<table class=\"facts\">");
        for row in rows {
            self.html.push_str("<tr>");
            for cell in row {
                let _ = write!(self.html, "<td>{}</td>", escape(&cell));
            }
            self.html.push_str("</tr>");
        }
        self.html.push_str("</table>");
        self
    }

    /// Adds text as it is, with a fixed pitch.
    pub fn verbatim(&mut self, text: &str) -> &mut Self {
        let _ = write!(self.html, "<pre>{}</pre>", escape(text));
        self
    }

    /// Adds a picture made by [`crate::Sequence`] or [`crate::Plot`].
    pub fn picture(&mut self, svg: &str) -> &mut Self {
        if !svg.is_empty() {
            let _ = write!(self.html, "<div class=\"picture\">{svg}</div>");
        }
        self
    }
}

/// A cell of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// What it is sorted by, if not by its text.
    key: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Number(f64),
    Rank(i32),
}

impl Cell {
    /// A cell that is sorted by its text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), key: None }
    }

    /// A word that is sorted by its rank.
    pub fn ranked(text: impl Into<String>, rank: i32) -> Self {
        Self { text: text.into(), key: Some(Key::Rank(rank)) }
    }

    /// A number with its unit, sorted by the number.
    pub fn number(text: impl Into<String>, key: f64) -> Self {
        Self { text: text.into(), key: Some(Key::Number(key)) }
    }
}

/// A row of the list, which opens when it is clicked.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `harmful`, `suspicious` or `benign`.
    pub class: &'static str,
    /// As many as there are columns.
    pub cells: Vec<Cell>,
    /// The details that it expands to.
    pub body: Section,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The title of the page.
    pub title: String,
    /// The most important sentence.
    pub headline: String,
    /// Numbers.
    pub tiles: Vec<Tile>,
    /// The columns of the list.
    pub columns: Vec<&'static str>,
    /// The list.
    pub entries: Vec<Entry>,
    /// The content after the list.
    pub sections: Vec<Section>,
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Page {
    /// The page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\"><meta name=\"color-scheme\" content=\"light dark\">\
             <title>{title}</title>\n<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>"
        );
        if !self.headline.is_empty() {
            let _ = write!(out, "<p class=\"headline\">{}</p>", escape(&self.headline));
        }
        self.tiles(&mut out);
        self.contents(&mut out);
        self.list(&mut out);
        for section in &self.sections {
            let _ = write!(out, "\n<section id=\"{}\">", escape(&section.anchor));
            if !section.title.is_empty() {
                let _ = write!(out, "<h2>{}</h2>", escape(&section.title));
            }
            let _ = write!(out, "{}</section>", section.html);
        }
        if !self.entries.is_empty() {
            let _ = write!(out, "\n<script>{SCRIPT}</script>");
        }
        out.push_str("\n</main></body></html>\n");
        out
    }

    fn tiles(&self, out: &mut String) {
        if self.tiles.is_empty() {
            return;
        }
        out.push_str("<div class=\"tiles\">");
        for tile in &self.tiles {
            let _ = write!(
                out,
                "<div class=\"tile {}\"><b>{}</b>{}</div>",
                tile.class,
                escape(&tile.value),
                escape(&tile.label)
            );
        }
        out.push_str("</div>");
    }

    fn contents(&self, out: &mut String) {
        let named = self.sections.iter().filter(|section| !section.anchor.is_empty());
        let links: Vec<String> =
            named.map(|section| format!("<a href=\"#{0}\">{0}</a>", escape(&section.anchor))).collect();
        if !links.is_empty() {
            let _ = write!(out, "<nav>{}</nav>", links.join(" "));
        }
    }

    fn list(&self, out: &mut String) {
        if self.entries.is_empty() {
            return;
        }
        out.push_str("<p><input id=\"filter\" type=\"search\" placeholder=\"filter: address, cause, word\" aria-label=\"filter\"> <span id=\"shown\"></span></p>");
        out.push_str("<div class=\"wide\"><table id=\"list\"><thead><tr>");
        for (place, column) in self.columns.iter().enumerate() {
            let numbers =
                self.entries[0].cells.get(place).is_some_and(|cell| matches!(cell.key, Some(Key::Number(_))));
            let class = if numbers { " class=\"number\"" } else { "" };
            let _ = write!(out, "<th{class}><button type=\"button\">{}</button></th>", escape(column));
        }
        out.push_str("</tr></thead>");
        for entry in &self.entries {
            let _ = write!(
                out,
                "\n<tbody class=\"{}\"><tr class=\"row\" tabindex=\"0\" aria-expanded=\"false\">",
                entry.class
            );
            for cell in &entry.cells {
                let attributes = match cell.key {
                    Some(Key::Number(key)) => format!(" class=\"number\" data-key=\"{key}\""),
                    Some(Key::Rank(rank)) => format!(" data-key=\"{rank}\""),
                    None => String::new(),
                };
                let _ = write!(out, "<td{attributes}>{}</td>", escape(&cell.text));
            }
            let _ = write!(
                out,
                "</tr><tr class=\"detail\" hidden><td colspan=\"{}\">{}</td></tr></tbody>",
                self.columns.len(),
                entry.body.html
            );
        }
        out.push_str("</table></div>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut body = Section::new("");
        body.paragraph("<script>alert(1)</script>").list(["a", "b"]).verbatim("1 < 2").picture("<svg></svg>");
        Page {
            title: "a & b".into(),
            headline: "37 of 1,204".into(),
            tiles: vec![Tile { value: "3".into(), label: "harmful".into(), class: "harmful" }],
            columns: vec!["time", "idle"],
            entries: vec![Entry {
                class: "harmful",
                cells: vec![Cell::text("12:00"), Cell::number("1.5 s", 1.5)],
                body,
            }],
            sections: vec![Section { anchor: "groups".into(), ..Section::new("Groups") }],
        }
    }

    #[test]
    fn a_page_refers_to_nothing_outside() {
        let html = page().html();
        for word in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("href=\"#groups\"") && html.contains("default-src 'none'"));
    }

    #[test]
    fn texts_are_escaped_and_tags_closed() {
        let html = page().html();
        assert!(html.contains("a &amp; b") && html.contains("&lt;script&gt;alert"));
        assert!(html.contains("data-key=\"1.5\""));
        for tag in
            ["table", "tbody", "tr", "td", "ul", "div", "section", "main", "body", "p", "svg", "script"]
        {
            let open = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_page_without_a_list_needs_no_script() {
        assert!(!Page { sections: page().sections, ..Page::default() }.html().contains("<script>"));
    }
}
