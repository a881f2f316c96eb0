#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::store::openbao_answer(bytes));
