#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::store::aws_book(bytes));
