#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use lab::properties::MemoryFile;

/// Where the memory is left. What is in it at first is a seed, which is of this boot.
static FILE: LazyLock<MemoryFile> = LazyLock::new(|| {
    let directory = |name| PathBuf::from(std::env::var_os(name).expect("fuzz/run names a directory"));
    let (file, bytes) = lab::properties::memory_file(&directory("MEMORY"));
    std::fs::write(directory("SEEDS").join("memory"), bytes).expect("a directory that takes it");
    file
});

libfuzzer_sys::fuzz_target!(init: { LazyLock::force(&FILE); }, |bytes: &[u8]| lab::properties::memory(&FILE, bytes));
