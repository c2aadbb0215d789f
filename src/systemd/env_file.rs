//! Environment files, as systemd reads them (systemd.exec(5), `EnvironmentFile=`; systemd's
//! `env-file.c`).

use std::collections::BTreeMap;

use super::units;

/// What a comment that ends in a backslash means changed then (systemd's NEWS, "CHANGES WITH 254").
const COMMENTS_END: u32 = 254;

/// The assignments of an environment file, as the systemd of this host reads them; none where it
/// refuses the file.
pub(super) fn read(text: &[u8]) -> Option<BTreeMap<String, String>> {
    let (of_now, of_old) = (assignments(text, false), assignments(text, true));
    if of_now != of_old && units::version().is_some_and(|version| version < COMMENTS_END) { of_old } else { of_now }
}

/// Where in an environment file.
#[derive(Clone, Copy)]
enum Place {
    Line,
    Comment,
    CommentEscape,
    Name,
    /// Behind the `=`, or behind a closing quote.
    Begin,
    Value,
    ValueEscape,
    SingleQuotes,
    DoubleQuotes,
    DoubleQuotesEscape,
}

/// The assignments of an environment file (systemd.exec(5), `EnvironmentFile=`; systemd's
/// `env-file.c`), the last of a name; none where it has a NUL, or an assignment that is not UTF-8.
/// Before 254 a backslash continued a comment.
pub fn assignments(text: &[u8], comments_continue: bool) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let (mut name, mut value) = (Vec::new(), Vec::new());
    // How much of a value is left without the blanks at its end.
    let mut kept = None;
    let mut place = Place::Line;
    // `None` after the last byte ends an unfinished last line. It adds nothing to a value in quotes
    // or after a backslash.
    for byte in text.iter().copied().map(Some).chain([None]) {
        let is_end = matches!(byte, None | Some(b'\n' | b'\r'));
        let is_blank = is_end || matches!(byte, Some(b' ' | b'\t'));
        let is_complete = match place {
            Place::Begin | Place::Value => is_end,
            Place::ValueEscape | Place::SingleQuotes | Place::DoubleQuotes | Place::DoubleQuotesEscape => {
                byte.is_none()
            }
            _ => false,
        };
        if is_complete {
            if let (Place::Value, Some(kept)) = (place, kept) {
                value.truncate(kept);
            }
            let (given, value) = (std::mem::take(&mut name), std::mem::take(&mut value));
            let (given, value) = (String::from_utf8(given).ok()?, String::from_utf8(value).ok()?);
            let given = given.trim_end_matches([' ', '\t']);
            if is_name(given) {
                found.insert(given.to_owned(), value);
            }
            place = Place::Line;
            continue;
        }
        let Some(byte) = byte else { break };
        place = match place {
            _ if byte == 0 => return None,
            Place::Line if matches!(byte, b'#' | b';') => Place::Comment,
            Place::Line if is_blank => Place::Line,
            Place::Line | Place::Name if is_end => {
                name.clear();
                Place::Line
            }
            Place::Name if byte == b'=' => {
                kept = None;
                Place::Begin
            }
            Place::Line | Place::Name => {
                name.push(byte);
                Place::Name
            }
            Place::Comment if byte == b'\\' => Place::CommentEscape,
            Place::CommentEscape if comments_continue => Place::Comment,
            Place::Comment | Place::CommentEscape => {
                if is_end {
                    Place::Line
                } else {
                    Place::Comment
                }
            }
            Place::Begin if byte == b'\'' => Place::SingleQuotes,
            Place::Begin if byte == b'"' => Place::DoubleQuotes,
            Place::Begin | Place::Value if byte == b'\\' => {
                kept = None;
                Place::ValueEscape
            }
            Place::Begin if is_blank => Place::Begin,
            Place::Begin | Place::Value => {
                kept = if is_blank { kept.or(Some(value.len())) } else { None };
                value.push(byte);
                Place::Value
            }
            Place::ValueEscape => {
                value.extend((!is_end).then_some(byte));
                Place::Value
            }
            Place::SingleQuotes if byte == b'\'' => Place::Begin,
            Place::DoubleQuotes if byte == b'"' => Place::Begin,
            Place::DoubleQuotes if byte == b'\\' => Place::DoubleQuotesEscape,
            Place::SingleQuotes | Place::DoubleQuotes => {
                value.push(byte);
                place
            }
            Place::DoubleQuotesEscape => {
                let is_escaped = matches!(byte, b'"' | b'\\' | b'`' | b'$');
                value.extend((!is_escaped && byte != b'\n').then_some(b'\\'));
                value.extend((byte != b'\n').then_some(byte));
                Place::DoubleQuotes
            }
        };
    }
    Some(found)
}

/// A name that systemd takes for a variable's.
fn is_name(text: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_good) && text.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
