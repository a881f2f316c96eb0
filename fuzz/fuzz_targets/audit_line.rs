#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::audit::audit_line(bytes));
