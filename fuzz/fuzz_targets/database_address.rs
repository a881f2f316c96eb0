#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::database::database_address(bytes));
