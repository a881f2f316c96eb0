#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::database::postgres_watch(bytes));
