#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::dev::bad_day(bytes));
