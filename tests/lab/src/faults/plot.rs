//! The plot of a fault: for each rule when each node was READY, beside when it took writes. SVG.

use std::fmt::Write as _;

use serde_json::Value;

use super::timeline::RULES;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 20.0;
const LANE: f64 = 20.0;

const RIGHT_COLOUR: &str = "#2f9e5b";
const WRONG_COLOUR: &str = "#d9342b";
const TRUTH_COLOUR: &str = "#3b6fb6";
const TEXT: &str = "#24292f";
const FAINT: &str = "#8c959f";
const GRID: &str = "#e4e7eb";

/// From so long before the fault to so long after, in ms.
const BEFORE: f64 = 1000.0;
const AFTER: f64 = 5000.0;

/// The timelines of a fault, from `make faults`'s JSON.
pub fn timelines(fault: &Value) -> String {
    let began = fault["began ms"].as_f64().unwrap_or_default();
    let x = |ms: f64| LEFT + (WIDTH - LEFT - RIGHT) * (ms - began + BEFORE) / (BEFORE + AFTER);
    let (first, last) = (began - BEFORE, began + AFTER);
    let names = ["primary before", "primary after"].map(|key| fault[key].as_str().unwrap_or_default());
    let text = |svg: &mut String, x: f64, y: f64, anchor: &str, style: &str, text: &str| {
        let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {style}>{text}</text>"#);
    };
    let mut y = 58.0;
    let top = y - 8.0;
    let mut lanes = String::new();
    let groups = [("takes writes", None)].into_iter().chain([
        ("READY by the role alone", Some(RULES[0])),
        ("READY by the status alone", Some(RULES[1])),
        ("READY by patroni-check", Some(RULES[2])),
        ("the same, a process each", Some(RULES[3])),
    ]);
    for (title, rule) in groups {
        text(&mut lanes, 16.0, y + 5.0, "start", r#"font-weight="600""#, title);
        y += 14.0;
        for (name, label) in names.iter().zip(["old primary", "new primary"]) {
            let node = &fault["nodes"][*name];
            text(&mut lanes, LEFT - 12.0, y + 14.0, "end", &format!(r#"fill="{FAINT}""#), label);
            let fit = spans(&node["fit"], first, last);
            let track = rule.map_or_else(|| fit.clone(), |rule| spans(&node["ready"][rule], first, last));
            for (from, to, _) in track.iter().filter(|(_, _, on)| *on) {
                // Cut where the node's fitness changes.
                for (fit_from, fit_to, is_fit) in &fit {
                    let (from, to) = (from.max(*fit_from), to.min(*fit_to));
                    if to <= from {
                        continue;
                    }
                    let colour = match (rule, is_fit) {
                        (None, _) => TRUTH_COLOUR,
                        (_, true) => RIGHT_COLOUR,
                        (_, false) => WRONG_COLOUR,
                    };
                    let (left, width) = (x(from), (x(to) - x(from)).max(1.0));
                    let _ = writeln!(
                        lanes,
                        r#"<rect x="{left:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/>"#,
                        y + 3.0,
                        LANE - 6.0
                    );
                }
            }
            y += LANE;
        }
        y += 16.0;
    }
    let bottom = y - 12.0;
    let mut grid = String::new();
    for second in -1..=5 {
        let at = x(began + f64::from(second) * 1000.0);
        let _ = writeln!(grid, r#"<path d="M{at:.1} {top:.1}V{bottom:.1}" stroke="{GRID}"/>"#);
        let label = if second == 0 { "switchover".to_owned() } else { format!("{second} s") };
        text(&mut grid, at, bottom + 16.0, "middle", &format!(r#"fill="{FAINT}""#), &label);
    }
    let mut legend = String::new();
    let entries = [
        (TRUTH_COLOUR, "takes writes"),
        (RIGHT_COLOUR, "READY, and takes writes"),
        (WRONG_COLOUR, "READY, and does not"),
    ];
    let mut at = LEFT;
    for (colour, label) in entries {
        let _ = writeln!(legend, r#"<rect x="{at:.1}" y="19" width="14" height="10" fill="{colour}"/>"#);
        text(&mut legend, at + 20.0, 28.0, "start", "", label);
        at += 40.0 + 7.0 * f64::from(u32::try_from(label.len()).unwrap_or_default());
    }
    let height = bottom + 30.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}">
<title>Who was READY during a switchover, by each rule</title>
<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>
{grid}{lanes}{legend}</svg>
"##
    )
}

/// A track as spans that cover the whole time.
fn spans(track: &Value, first: f64, last: f64) -> Vec<(f64, f64, bool)> {
    let changes = track.as_array().into_iter().flatten();
    let changes =
        changes.map(|change| (change[0].as_f64().unwrap_or_default(), change[1].as_u64().unwrap_or_default() > 0));
    let mut points: Vec<(f64, bool)> = [(0.0, false)].into_iter().chain(changes).collect();
    points.push((f64::INFINITY, false));
    let pairs = points.windows(2).map(|pair| (pair[0].0.max(first), pair[1].0.min(last), pair[0].1));
    pairs.filter(|(from, to, _)| from < to).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Span = (f64, f64, bool);

    #[test]
    fn spans_cover_the_whole_time_and_no_more() {
        let table: [(Value, &[Span]); 4] = [
            (json!([]), &[(100.0, 900.0, false)]),
            (json!([[0, 1]]), &[(100.0, 900.0, true)]),
            (json!([[50, 1], [300, 0], [950, 1]]), &[(100.0, 300.0, true), (300.0, 900.0, false)]),
            // Another timeline is no other colour, and may be a span of its own.
            (json!([[200, 1], [300, 2]]), &[(100.0, 200.0, false), (200.0, 300.0, true), (300.0, 900.0, true)]),
        ];
        for (track, expected) in table {
            assert_eq!(spans(&track, 100.0, 900.0), expected, "{track}");
        }
    }
}
