#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use lab::properties::MemoryFile;

static FILE: LazyLock<MemoryFile> = LazyLock::new(|| {
    let directory = PathBuf::from(std::env::var_os("MEMORY").expect("fuzz/run names a directory"));
    lab::properties::memory_file(&directory).0
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::properties::memory(&FILE, bytes));
