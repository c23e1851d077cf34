//! Time-sequence plots: sequence numbers over time, one panel for each direction.

use std::fmt::Write as _;

use crate::escape;

/// What a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A segment with data: from its first to its last byte.
    Data,
    /// A segment without data, at its sequence number.
    Bare,
    /// An acknowledgment of the other end.
    Acknowledgment,
    /// A reset.
    Reset,
}

/// Something at a time and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since the beginning.
    pub time: f64,
    /// Relative sequence number.
    pub seq: f64,
    /// Bytes.
    pub len: f64,
    /// What it is.
    pub mark: Mark,
}

/// A plot of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// In any order.
    pub points: Vec<Point>,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 22.0;

impl Plot {
    /// The plot as SVG; empty if there is nothing to show.
    #[must_use]
    pub fn svg(&self) -> String {
        if self.points.is_empty() {
            return String::new();
        }
        let max = |of: fn(&Point) -> f64| self.points.iter().map(of).fold(0.0, f64::max);
        let (time, seq) = (max(|point| point.time).max(1e-6), max(|point| point.seq + point.len).max(1.0));
        let x = |value: f64| LEFT + value / time * (WIDTH - LEFT - 12.0);
        let y = |value: f64| HEIGHT - BOTTOM - value / seq * (HEIGHT - BOTTOM - TOP);
        let mut out = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             aria-label=\"time-sequence plot\"><text class=\"name\" x=\"{LEFT}\" y=\"13\">{}</text>",
            escape(&self.title)
        );
        let (right, base) = (WIDTH - 12.0, HEIGHT - BOTTOM);
        let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{base}H{right}\"/>");
        for part in [0.0, 0.5, 1.0] {
            let (at_time, at_seq) = (part * time, part * seq);
            let _ = write!(
                out,
                "<text class=\"time\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
                 <text class=\"time\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                x(at_time).min(right - 14.0),
                base + 14.0,
                seconds(at_time),
                LEFT - 6.0,
                y(at_seq) + 4.0,
                bytes(at_seq)
            );
        }
        for point in &self.points {
            let (px, py) = (x(point.time), y(point.seq));
            let _ = match point.mark {
                Mark::Data => write!(
                    out,
                    "<path class=\"data\" d=\"M{px:.1} {py:.1}V{:.1}\"/>",
                    y(point.seq + point.len).min(py - 1.5)
                ),
                Mark::Bare => write!(out, "<circle class=\"bare\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"1.6\"/>"),
                Mark::Acknowledgment => {
                    write!(out, "<path class=\"acknowledgment\" d=\"M{:.1} {py:.1}h6\"/>", px - 3.0)
                }
                Mark::Reset => {
                    write!(
                        out,
                        "<path class=\"reset\" d=\"M{:.1} {:.1}l8 8m0 -8l-8 8\"/>",
                        px - 4.0,
                        py - 4.0
                    )
                }
            };
        }
        out.push_str("</svg>");
        out
    }
}

fn seconds(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        small if small < 0.001 => format!("{:.0} us", small * 1e6),
        small if small < 1.0 => format!("{:.0} ms", small * 1e3),
        large => format!("{large:.1} s"),
    }
}

fn bytes(value: f64) -> String {
    match value {
        small if small < 10_000.0 => format!("{small:.0}"),
        small if small < 10_000_000.0 => format!("{:.0} K", small / 1e3),
        large => format!("{:.0} M", large / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_plot() {
        let point = |time, seq, mark| Point { time, seq, len: 1000.0, mark };
        let marks = [Mark::Data, Mark::Bare, Mark::Acknowledgment, Mark::Reset];
        let points = (0..4).map(|n| point(f64::from(n), f64::from(n) * 5e6, marks[n as usize])).collect();
        let svg = Plot { title: "a > b".into(), points }.svg();
        assert!(svg.contains("a &gt; b") && svg.contains("class=\"reset\"") && svg.contains("15 M"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_single_point_needs_no_range() {
        let svg = Plot {
            title: String::new(),
            points: vec![Point { time: 0.0, seq: 0.0, len: 0.0, mark: Mark::Reset }],
        }
        .svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(Plot { title: String::new(), points: Vec::new() }.svg(), "");
    }
}
