#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::api::secret_query(bytes));
