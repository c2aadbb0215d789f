//! The lines that a document gives its readers, so that what is tried is what they copy.

use std::fs;

/// The lines of a section of docs/clients.md by its heading: its first block between ``` or, where it has none, its
/// first indented one. `192.0.2.1` and `db1` stand for a host.
///
/// # Panics
/// Where there is no such section, or nothing to copy in it.
#[must_use]
pub fn lines(heading: &str) -> String {
    lines_of("clients.md", heading)
}

/// The same of another document in docs.
///
/// # Panics
/// As above.
#[must_use]
pub fn lines_of(document: &str, heading: &str) -> String {
    let page = fs::read_to_string(crate::repository().join("docs").join(document)).expect("a document");
    find(&page, heading).unwrap_or_else(|| panic!("docs/{document} has no lines under {heading:?}"))
}

fn find(page: &str, heading: &str) -> Option<String> {
    let is_heading = |line: &&str| line.starts_with("##");
    let after = page.lines().skip_while(|line| !is_heading(line) || line.trim_start_matches('#').trim() != heading);
    let section: Vec<&str> = after.skip(1).take_while(|line| !is_heading(line)).collect();
    let block = match section.iter().position(|line| line.starts_with("```")) {
        Some(start) => section.get(start + 1..)?.iter().take_while(|line| !line.starts_with("```")).copied().collect(),
        None => {
            let indented = section.iter().skip_while(|line| !line.starts_with("    "));
            indented.map_while(|line| line.strip_prefix("    ")).collect::<Vec<_>>()
        }
    };
    (!block.is_empty()).then(|| block.join("\n") + "\n")
}

#[test]
fn the_lines_of_a_section() {
    let page =
        "# A\n\n## B\nText.\n\n    one\n    two\n\n- more\n\n    three\n### C\n```sh\n# d\n    e\n```\n## D\ntext\n";
    for (heading, lines) in [("B", Some("one\ntwo\n")), ("C", Some("# d\n    e\n")), ("D", None), ("E", None)] {
        assert_eq!(find(page, heading).as_deref(), lines, "{heading}");
    }
}
