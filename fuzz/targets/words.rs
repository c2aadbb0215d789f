#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| lab::properties::words(text));
