//! Tables for people.

use crate::text::printable;

/// Lines are not longer than this.
pub(super) const WIDTH: usize = 80;

/// Columns as wide as their widest cell, with the last one wrapped.
pub(super) fn aligned<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let table: Vec<_> = table.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let lines = table.iter().map(|row| {
        let cells = row.iter().zip(widths).take(N - 1);
        let start = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
        let indent = " ".repeat(start.chars().count());
        let options = textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
        let options = options.initial_indent(&start).subsequent_indent(&indent);
        textwrap::fill(&row[N - 1], options).trim_end().to_owned()
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
        let lines = aligned(&table);
        assert_eq!(lines[0], "A    BB  C");
        assert!(lines[1].starts_with("aaa  b   why why"));
        assert!(lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert!(lines[1].lines().nth(1).unwrap().starts_with("         why"));
    }
}
