#![no_main]

#[path = "../../tests/lab/properties.rs"]
#[allow(dead_code)]
mod properties;
#[path = "../../tests/lab/replay.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|text: &str| properties::endpoint(text));
