#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the endpoint.
    if let Some((which, answer)) = bytes.split_first() {
        lab::properties::reply(*which, answer);
    }
});
