#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::api::reject_form(bytes));
