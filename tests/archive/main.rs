//! The release archives: the same bytes from each directory, the same files as `make install`, an
//! `install.sh` that undoes itself, and a program that needs nothing of the host but its kernel.
//! That it installs a service which answers is in tests/machines/archive.rs.

mod installer;
mod lookup;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use lab::{archive, requires};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// All below a directory, but these: the paths from there, modes, and contents.
fn tree(root: &Path, but: &[&str]) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if but.iter().any(|but| name == Path::new(but)) {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(name, (metadata.permissions().mode(), content));
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    found
}

/// They are built by `make dist-twice`.
#[test]
fn two_directories_give_the_same_bytes() {
    let elsewhere = "target/elsewhere/of/that/target/dist";
    if !requires(&[archive::NEEDS, &format!("{elsewhere}/SHA256SUMS")]) {
        return;
    }
    let [one, other] = ["target/dist", elsewhere].map(|place| tree(&lab::repository().join(place), &[]));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, content) in &one {
        assert!(content == &other[name], "{} has other bytes: diffoscope tells which", name.display());
    }
    let name = archive::name();
    for file in [format!("{name}.tar.gz"), format!("{name}.cdx.json")] {
        assert!(one.contains_key(Path::new(&file)), "{file} is missing");
    }
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir("target/dist"));
}

#[test]
fn the_archive_is_one_directory_of_nobody_on_this_machine() {
    if !requires(&[archive::NEEDS]) {
        return;
    }
    let list = run(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(archive::path()));
    let top = archive::name();
    for line in String::from_utf8(list.stdout).unwrap().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[1], "0/0", "{line}");
        assert!(words[5].strip_prefix(&top).is_some_and(|rest| rest.starts_with('/')), "{line}");
    }
    let directory = TempDir::new().unwrap();
    let unpacked = archive::unpack(directory.path());
    let bom = fs::read_to_string(unpacked.join("patroni-check.cdx.json")).unwrap();
    assert!(fs::read_to_string(format!("target/dist/{top}.cdx.json")).unwrap() == bom);
    for (name, (_, content)) in tree(&unpacked, &[]) {
        let text = String::from_utf8_lossy(&content);
        for own in [env!("CARGO_MANIFEST_DIR"), "/.cargo/registry"] {
            assert!(!text.contains(own), "{} has {own} in it", name.display());
        }
    }
    // What is built in is listed: each crate that the program names, with its version.
    let lock = fs::read_to_string("Cargo.lock").unwrap();
    let version = lock.split("name = \"rustls\"\nversion = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(bom.contains(&format!("\"purl\": \"pkg:cargo/rustls@{version}\"")), "{bom}");
    assert!(!bom.contains("pkg:cargo/proptest@"), "what only the tests have is no part of it");
    // Without a dynamic linker (elf(5), PT_INTERP).
    let program = fs::read(archive::program(&unpacked)).unwrap();
    assert!(program.starts_with(b"\x7fELF") && !program.windows(7).any(|bytes| bytes == b"/ld-lin"));
}

/// `install.sh` of the archive.
fn install_sh(unpacked: &Path, root: &Path, prefix: &str, verb: &[&str]) -> Output {
    let mut install = Command::new(unpacked.join("install.sh"));
    install.args(verb).env("DESTDIR", root).env("PREFIX", prefix);
    run(&mut install)
}

#[test]
fn install_sh_installs_what_make_install_does_and_undoes_it() {
    if !requires(&["make", archive::NEEDS]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let unpacked = archive::unpack(directory.path());
    for prefix in ["/usr/local", "/usr", "/opt/pc"] {
        let roots = ["make", "install.sh"].map(|by| directory.path().join(format!("{by}{}", prefix.replace('/', "-"))));
        let [by_make, root] = &roots;
        let release = directory.path().join("build/release");
        fs::create_dir_all(&release).unwrap();
        fs::copy(archive::program(&unpacked), release.join("patroni-check")).unwrap();
        run(Command::new("make").arg("install").args([
            format!("PREFIX={prefix}"),
            format!("DESTDIR={}", by_make.display()),
            format!("TARGET={}", release.parent().unwrap().display()),
        ]));
        fs::create_dir_all(root).unwrap();
        install_sh(&unpacked, root, prefix, &[]);
        let own = format!("{}/share/patroni-check", prefix.trim_start_matches('/'));
        let list = format!("{own}/installed");
        let installed = tree(root, &[&list, &own]);
        assert_eq!(tree(by_make, &[]).keys().collect::<Vec<_>>(), installed.keys().collect::<Vec<_>>());
        assert!(tree(by_make, &[]) == installed, "other contents or modes");

        // Once more, from a newer archive: settings stay, and what is no more goes.
        let settings = root.join("etc/default/patroni-check");
        fs::write(&settings, "PATRONI_CHECK_WORDS=plain\n").unwrap();
        let gone = "share/doc/patroni-check/gone.md";
        let gone_file = root.join(&prefix[1..]).join(gone);
        fs::write(&gone_file, "").unwrap();
        let text = fs::read_to_string(root.join(&list)).unwrap();
        fs::write(root.join(&list), format!("{gone}\n{text}")).unwrap();
        install_sh(&unpacked, root, prefix, &[]);
        assert_eq!(fs::read_to_string(root.join(&list)).unwrap(), text);
        assert!(!gone_file.exists());
        assert_eq!(fs::read_to_string(&settings).unwrap(), "PATRONI_CHECK_WORDS=plain\n");

        // Away with it: settings, holds, and what is somebody else's stay.
        let hold = root.join("etc/patroni-check/hold");
        fs::create_dir(hold.parent().unwrap()).unwrap();
        fs::write(&hold, "").unwrap();
        let others = root.join(format!("{}/bin/other", &prefix[1..]));
        fs::write(&others, "").unwrap();
        install_sh(&unpacked, root, prefix, &["--uninstall"]);
        let left: Vec<_> = [&settings, &hold, &others].map(|path| path.clone()).to_vec();
        let files = |root: &Path| {
            let all = tree(root, &[]).into_keys().map(|name| root.join(name));
            all.filter(|path| path.is_file()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(files(root), left.into_iter().collect());
        assert!(!root.join(&own).exists() && !root.join(format!("{}/lib", &prefix[1..])).exists());
        install_sh(&unpacked, root, prefix, &["--purge"]);
        assert_eq!(files(root), [others].into_iter().collect());
    }
}

#[test]
fn install_sh_leaves_a_package_alone() {
    if !requires(&[archive::NEEDS]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let unpacked = archive::unpack(directory.path());
    let root = directory.path().join("root");
    let units = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("patroni-check.socket"), "").unwrap();
    fs::create_dir(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/patroni-check"), "").unwrap();
    let before = tree(&root, &[]);
    for (verb, says) in [(&[][..], "of a package"), (&["--purge"], "are those of /usr/bin/patroni-check")] {
        for prefix in ["/usr/local", "/usr"] {
            let mut install = Command::new(unpacked.join("install.sh"));
            let output = install.args(verb).env("DESTDIR", &root).env("PREFIX", prefix).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{output:?}");
        }
    }
    install_sh(&unpacked, &root, "/usr/local", &["--uninstall"]);
    assert!(tree(&root, &[]) == before);
}
