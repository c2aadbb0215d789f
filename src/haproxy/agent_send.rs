//! What a check says first (HAProxy's configuration manual, `agent-send`): the view that it asks
//! about.

use crate::verdict::Verdict;
use crate::view::View;

/// The view that a check asks about by its line; an empty line means the default one.
///
/// # Errors
/// The verdict on a line that is none, or names none: it must neither be taken for a view nor
/// go unnoticed.
pub fn requested_view(line: &[u8], default: &View) -> Result<View, Verdict> {
    let fail = |what: &str| Verdict::Fail(format!("agent-send: {what}"));
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        // Its beginning may be another view.
        return Err(fail("a line without an end; write \\n at its end"));
    };
    let line = String::from_utf8_lossy(&line[..end]);
    match line.trim() {
        "" => Ok(default.clone()),
        line => line.parse().map_err(|_| fail("no health check endpoint of Patroni's")),
    }
}

/// What `find` finds of the view that a check asks about, if it is on the list. Each endpoint
/// means one more request at a time to Patroni, so which there are is for the settings to say.
///
/// # Errors
/// The verdict on a line that names none of them.
pub(crate) fn find<T>(line: &[u8], default: &View, find: impl FnOnce(&View) -> Option<T>) -> Result<T, Verdict> {
    let view = requested_view(line, default)?;
    find(&view).ok_or_else(|| Verdict::Fail(format!("agent-send: not in PATRONI_CHECK_ALSO: {view}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_an_endpoint_or_is_a_failure() {
        let default: View = "/sync".parse().unwrap();
        let said = |text: &[u8]| match requested_view(text, &default) {
            Ok(view) => view.to_string(),
            Err(verdict) => verdict.why().to_owned(),
        };
        let table: [(&[u8], &str); 12] = [
            (b"/replica\n", "/replica"),
            (b" /replica?lag=1kB\r\n/primary\n", "/replica?lag=1024"),
            (b"", "without an end"),
            (b"/replica", "without an end"),
            (b"/read-only", "without an end"),
            (&[b'x'; 512], "without an end"),
            (b"\n", "/sync"),
            (b"\r\n", "/sync"),
            (b"/replica/\n", "no health check"),
            (b"replica\n", "no health check"),
            (b"/replica\xff\n", "no health check"),
            (b"GET /replica HTTP/1.1\r\n", "no health check"),
        ];
        for (text, expected) in table {
            let got = said(text);
            assert!(got.contains(expected), "{}: {got}", String::from_utf8_lossy(text));
        }
    }
}
