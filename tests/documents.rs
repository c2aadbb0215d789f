//! What the documents name is there: links and their headings, files, commands, crates.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

struct Document {
    name: String,
    text: String,
}

fn documents() -> Vec<Document> {
    let mut names: Vec<String> = Vec::new();
    for directory in ["", "docs/", "tests/lab/", "tests/recorded/"] {
        let files = fs::read_dir(root().join(directory)).unwrap().map(|file| file.unwrap().file_name());
        names.extend(
            files.map(|file| format!("{directory}{}", file.to_string_lossy())).filter(|name| name.ends_with(".md")),
        );
    }
    assert!(names.len() > 7, "{names:?}");
    names.into_iter().map(|name| Document { text: file(&name), name }).collect()
}

impl Document {
    /// What stands in a line `so`, or between two lines of three.
    fn quoted(&self) -> impl Iterator<Item = &str> {
        self.text.split('`').skip(1).step_by(2)
    }

    /// Commands in lines of their own, without what is said of them.
    fn indented(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(|line| line.strip_prefix("    ")?.split(" #").next())
    }

    /// What leads to a place in this repository: its path and heading.
    fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        let links = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.filter(|link| !link.contains("://")).map(|link| link.split_once('#').unwrap_or((link, "")))
    }
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|text| text.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for document in documents() {
        for (path, heading) in document.links() {
            let own = root().join(&document.name);
            let target = if path.is_empty() { own } else { own.with_file_name(path) };
            let is_there = target.exists()
                && (heading.is_empty()
                    || anchors(&fs::read_to_string(target).unwrap()).iter().any(|anchor| anchor == heading));
            if !is_there {
                wrong.push(format!("{}: {path}#{heading}", document.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_where_they_are_said_to_be() {
    let places = ["src/", "tests/", "docs/", "fuzz/", "systemd/", "man/", "benches/", "completions/"];
    let mut wrong = Vec::new();
    // A changelog names what is gone.
    for document in documents().iter().filter(|document| document.name != "CHANGELOG.md") {
        for code in document.quoted().chain(document.indented()) {
            let paths = code.split([' ', ':', '\n']).filter(|word| places.iter().any(|place| word.starts_with(place)));
            let missing = paths.filter(|path| !path.contains('*') && !root().join(path).exists());
            wrong.extend(missing.map(|path| format!("{}: {path}", document.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_are_there() {
    let (makefile, mut found, mut wrong) = (file("Makefile"), 0, Vec::new());
    let is_test = |name: &str| ["", "/main"].iter().any(|end| root().join(format!("tests/{name}{end}.rs")).exists());
    for document in documents() {
        for command in document.quoted().chain(document.indented()) {
            let words: Vec<_> = command.split_whitespace().collect();
            for pair in words.windows(2) {
                let is_there = match pair {
                    ["make", target] if target.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                        makefile.contains(&format!("\n{target}:"))
                    }
                    ["--test", test] => is_test(test),
                    _ => continue,
                };
                found += 1;
                if !is_there {
                    wrong.push(format!("{}: {}", document.name, pair.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 20, "only {found} commands were found");
}

/// Each crate that is built in is something that an operator has to trust.
#[test]
fn every_crate_has_its_reason() {
    let (manifest, text) = (file("Cargo.toml"), file("CONTRIBUTING.md"));
    let reasons = text.split("\n## Crates\n").nth(1).unwrap();
    let rows = reasons.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let mut named: Vec<_> = rows.flat_map(|row| row.split(", ")).filter(|name| *name != "crate").collect();
    let crates = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let crates = crates.lines().filter(|line| !line.starts_with('#'));
    let mut crates: Vec<_> = crates.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    named.sort_unstable();
    crates.sort_unstable();
    assert_eq!(named, crates);
}
