//! What real Patronis said: the files in tests/recorded. A section begins with `=== NODE ENDPOINT`;
//! the answer follows byte for byte, and one line end.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// An answer, and the node (or the moment) and the endpoint that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub node: String,
    pub endpoint: String,
    pub answer: Vec<u8>,
}

fn directory() -> PathBuf {
    crate::repository().join("tests/recorded")
}

/// The sections of each version that was recorded, by its number.
///
/// # Panics
/// Where the files are not what they should be.
pub fn all() -> Vec<(String, Vec<Section>)> {
    let files = fs::read_dir(directory()).expect("tests/recorded").map(|entry| entry.expect("a file").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "http"));
    let versions: Vec<_> = files
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a recording");
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), sections(&text))
        })
        .collect();
    assert!(versions.len() >= 7, "{} versions", versions.len());
    versions
}

/// What one version answered to an endpoint in a moment, in the order in which it came.
///
/// # Panics
/// Where there is nothing of it.
pub fn answers(version: &str, moment: &str, endpoint: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(directory().join(format!("{version}.http"))).expect("a version that was recorded");
    let sections = sections(&text).into_iter();
    let sections = sections.filter(|section| section.node == moment && section.endpoint == endpoint);
    let answers: Vec<_> = sections.map(|section| section.answer).collect();
    assert!(!answers.is_empty(), "{version}: no {moment} {endpoint}");
    answers
}

/// Reads a file's text.
fn sections(text: &str) -> Vec<Section> {
    let read = |section: &str| {
        let (title, answer) = section.split_once('\n')?;
        let (node, endpoint) = title.split_once(' ')?;
        let answer = answer.strip_suffix('\n')?.as_bytes().to_vec();
        Some(Section { node: node.to_owned(), endpoint: endpoint.to_owned(), answer })
    };
    text.split("=== ").skip(1).map(|section| read(section).unwrap_or_else(|| panic!("no section: {section}"))).collect()
}

/// Writes one.
pub fn write(out: &mut impl Write, title: &str, answer: &[u8]) -> io::Result<()> {
    writeln!(out, "=== {title}")?;
    out.write_all(answer)?;
    writeln!(out)
}

#[test]
fn what_is_written_is_read_again() {
    let answers: [(&str, &str, &[u8]); 3] = [
        ("primary", "/primary", b"HTTP/1.0 200 OK\r\n\r\n{\"a\": 1}"),
        ("primary", "/replica?lag=1", b""),
        ("crash", "/primary", b"ends with\n\n"),
    ];
    let mut text = Vec::new();
    for (node, endpoint, answer) in answers {
        write(&mut text, &format!("{node} {endpoint}"), answer).unwrap();
    }
    let read = sections(&String::from_utf8(text).unwrap());
    let read: Vec<_> = read.iter().map(|s| (s.node.as_str(), s.endpoint.as_str(), s.answer.as_slice())).collect();
    assert_eq!(read, answers);
}
