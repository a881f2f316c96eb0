#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::rotation::rotator_template(bytes));
