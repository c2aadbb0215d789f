//! Text from those who need not be trusted, in a form that people and terminals can take.

use std::time::Duration;

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

/// A duration in humantime's words, `1m30s` or `1m 30s`.
///
/// # Errors
/// What is none. Neither are more digits and text than anybody needs: of those near the end of what
/// a `Duration` holds humantime would make a panic.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let too_many_digits = |run: &str| run.len() > 10;
    if text.len() > 64 || text.split(|c: char| !c.is_ascii_digit()).any(too_many_digits) {
        return Err("too long for a duration".into());
    }
    humantime::parse_duration(text).map_err(|e| e.to_string())
}

/// JSON in which a terminal finds nothing to obey, and a program what was there: only strings have
/// more than ASCII in them.
pub(crate) fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        match c {
            '\n' | ' '..='~' => text.push(c),
            c => c.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_bounded_before_it_is_read() {
        for (text, expected) in
            [("5000000000ns", 5000), ("1m 30s", 90_000), ("0.5s", 500), ("9999999999ms", 9_999_999_999)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        let panics = "18446744073709551615s1000ms";
        let almost = "584542046090y".to_owned() + &"1s".repeat(8);
        for text in
            [panics, "18446744073709551615s999ms1ms", "584942417355y", &almost, &"1s".repeat(33), "", "10", "s", "1 2"]
        {
            duration(text).expect_err(text);
        }
    }

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
