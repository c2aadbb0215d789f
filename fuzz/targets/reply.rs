#![no_main]

#[path = "../../tests/lab/properties.rs"]
#[allow(dead_code)]
mod properties;
#[path = "../../tests/lab/replay.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the endpoint.
    if let Some((which, answer)) = bytes.split_first() {
        properties::reply(*which, answer);
    }
});
