//! Tables for people.

use crate::text::printable;

/// Lines are not longer than this.
pub(super) const WIDTH: usize = 80;

/// The columns of a table are not wider than this: a view with options would leave no room for the
/// reason, and units have long names.
pub(super) const VIEW_WIDTH: usize = 28;
pub(super) const UNIT_WIDTH: usize = 40;

/// As wide as the widest of these, and no wider than a column may be.
pub(super) fn width<'a>(cells: impl Iterator<Item = &'a str>, limit: usize) -> usize {
    cells.map(|cell| cell.chars().count()).filter(|width| *width <= limit).max().unwrap_or_default()
}

/// Columns as wide as their widest cell, with the last one wrapped. A first cell that is too wide, such
/// as a view with options, has a line of its own.
pub(super) fn aligned<const N: usize>(table: &[[String; N]], limit: usize) -> Vec<String> {
    let table: Vec<_> = table.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| width(table.iter().map(|row| row[column].as_str()), limit));
    let options = || textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
    let lines = table.iter().map(|row| {
        let is_wide = row[0].chars().count() > limit;
        let first = if is_wide { textwrap::fill(&row[0], options()) + "\n" } else { String::new() };
        let cells = row.iter().zip(widths).enumerate().take(N - 1);
        let cell = |(column, (cell, width)): (usize, (&String, usize))| {
            let cell = if column == 0 && is_wide { "" } else { cell };
            format!("{cell:width$}  ")
        };
        let start = cells.map(cell).collect::<String>();
        let indent = " ".repeat(start.chars().count());
        let options = options().initial_indent(&start).subsequent_indent(&indent);
        first + textwrap::fill(&row[N - 1], options).trim_end()
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_is_wrapped() {
        let long = "why ".repeat(30);
        let table = [["A", "BB", "C"], ["aaa", "b", long.trim()]].map(|row| row.map(str::to_owned));
        let lines = aligned(&table, VIEW_WIDTH);
        assert_eq!(lines[0], "A    BB  C");
        assert!(lines[1].starts_with("aaa  b   why why"));
        assert!(lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert!(lines[1].lines().nth(1).unwrap().starts_with("         why"));
        let wide = format!("/replica?lag=16777216&{}", "tag_a=b&".repeat(20));
        let table =
            [["A", "BB", "C"], [&wide, "b", long.trim()], ["/sync", "b", "c"]].map(|row| row.map(str::to_owned));
        let lines = aligned(&table, VIEW_WIDTH);
        assert!(lines[1].lines().count() > 4 && lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert_eq!(lines[1].lines().take(3).collect::<String>(), wide, "whole, and by itself");
        assert_eq!(lines[2], "/sync  b   c");
    }
}
