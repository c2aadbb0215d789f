//! Text from those who need not be trusted, in a form that people and terminals can take.

/// Text for people, in one line: without what a terminal obeys, and without what nobody sees, such
/// as C1 controls, directions of writing and spaces of no width. Rust's `escape_debug` knows them
/// all.
pub(crate) fn printable(text: &str) -> String {
    let printable = |c: char| match c {
        '"' | '\'' | '\\' => c,
        c if c.is_whitespace() => ' ',
        c if c.escape_debug().len() > 1 => '?',
        c => c,
    };
    text.chars().map(printable).collect()
}

/// The words of a text with one space between them.
pub(crate) fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_shown_what_they_can_read_and_nothing_that_a_terminal_obeys() {
        let table = [
            ("für \"new\" d'isk\\", "für \"new\" d'isk\\"),
            ("диск 中文 ✓", "диск 中文 ✓"),
            ("a\u{9b}31mb\u{1b}]0;c\u{7}\u{7f}\0", "a?31mb?]0;c???"),
            ("a\nOK: b\r\tc\u{2028}d\u{85}e", "a OK: b  c d e"),
            ("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{ad}f\u{e0041}g", "a?b?c?d?e?f?g"),
        ];
        for (text, shown) in table {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }
}
