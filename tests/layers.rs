//! The layers of `src/`: each module imports only from those listed before it in `src/lib.rs`, and
//! no two files import from each other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// By its path in the crate, such as `server::cache`: the modules that a file imports from.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files but those with tests alone, with the part of each before its tests.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut directories = vec![source()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            } else if path.is_dir() {
                directories.push(path);
            } else if !["main.rs", "lib.rs"].iter().any(|name| path.ends_with(name)) {
                let name = path.strip_prefix(source()).unwrap().with_extension("");
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
                files.push((name.to_str().unwrap().replace('/', "::"), text));
            }
        }
    }
    files
}

/// The path in braces are several: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn spread(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let inner = &rest[..rest.rfind('}').unwrap()];
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| spread(part.trim())).map(|part| format!("{}{part}", head.trim())).collect()
}

/// What a file imports, by the longest path that is a file.
fn imports() -> Imports {
    let files = files();
    let names: BTreeSet<_> = files.iter().map(|(name, _)| name.clone()).collect();
    let file_of = |path: &str| {
        let parts: Vec<_> = path.split("::").collect();
        (1..=parts.len()).rev().map(|length| parts[..length].join("::")).find(|name| names.contains(name))
    };
    let mut imports = Imports::new();
    for (name, text) in &files {
        let parent = name.rsplit_once("::").map_or("", |(parent, _)| parent);
        let children = format!("{name}::");
        let found = imports.entry(name.clone()).or_default();
        for statement in text.split(';') {
            let is_use = |line: &&str| line.trim_start().trim_start_matches("pub ").starts_with("use ");
            let Some(at) = statement.lines().find(is_use) else { continue };
            let path = &statement[statement.find(at).unwrap()..];
            let path = path.split_once("use ").unwrap().1;
            for path in spread(&path.replace('\n', " ")) {
                let whole = match path.split_once("::") {
                    Some(("crate", rest)) => rest.to_owned(),
                    Some(("super", rest)) => format!("{parent}::{rest}"),
                    // `use child::Name`, below `mod child`.
                    _ => format!("{children}{path}"),
                };
                found.extend(file_of(&whole).filter(|other| other != name));
            }
        }
    }
    imports
}

#[test]
fn each_room_imports_only_from_those_above_it() {
    let list = fs::read_to_string(source().join("lib.rs")).unwrap();
    let modules =
        list.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let order: Vec<_> = modules.collect();
    let place = |path: &str| order.iter().position(|room| Some(*room) == path.split("::").next()).expect("a room");
    let imports = imports();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 80, "they could not be read: {imports:?}");
    for (file, others) in imports {
        for other in others {
            assert!(place(&other) <= place(&file), "{file} imports from {other}, which is below it in src/lib.rs");
        }
    }
}

#[test]
fn no_two_files_import_from_each_other() {
    let mut left = imports();
    while !left.is_empty() {
        let names: BTreeSet<_> = left.keys().cloned().collect();
        let is_free = |others: &BTreeSet<String>| others.is_disjoint(&names);
        let free: Vec<_> = left.iter().filter(|(_, others)| is_free(others)).map(|(name, _)| name.clone()).collect();
        assert!(!free.is_empty(), "a circle among these, or below them: {left:#?}");
        left.retain(|name, _| !free.contains(name));
    }
}

#[test]
fn no_file_needs_a_tour() {
    let long: Vec<_> =
        files().into_iter().filter(|(_, text)| text.lines().count() > 350).map(|(name, _)| name).collect();
    assert!(long.is_empty(), "longer than 350 lines, without their tests: {long:?}");
}

#[test]
fn imports_are_read() {
    assert_eq!(
        spread("crate::a::{B, c::{D, E}, f}"),
        ["crate::a::B", "crate::a::c::D", "crate::a::c::E", "crate::a::f"]
    );
    let event_loop = &imports()["server::event_loop"];
    for other in ["server::endpoints", "systemd::journal", "config", "memory::file"] {
        assert!(event_loop.contains(other), "{other} is missing in {event_loop:?}");
    }
}
