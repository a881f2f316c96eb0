#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::api::form_guard(bytes));
