//! What the issuer's faults are told with.

use bursar::dev::issuer::BadDay;
use bursar::dev::issuer::fault::{Endpoint, Fault};

use super::input::reads_back;

/// A bad day, as lines or as JSON. What is understood is understood the same when it is shown, by either way; what is not
/// is told in a bounded text that shows nothing unprintable; and a fault that ends strikes as often as it says at most.
pub fn bad_day(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let day = match text.parse::<BadDay>() {
        Ok(day) => day,
        Err(why) => {
            let told = why.to_string();
            assert!(told.len() < 64 * 1024 && !told.chars().any(char::is_control), "{told:?}");
            return;
        }
    };
    assert_eq!(day.to_string().parse(), Ok(day.clone()));
    assert_eq!(serde_json::to_string(&day.written()).unwrap().parse(), Ok(day.clone()));
    for written in day.written() {
        reads_back::<Fault>(&written);
        let fault: Fault = written.parse().unwrap();
        let struck = (0..64).filter(|before| fault.strikes(Endpoint::Keys, *before)).count();
        assert!(fault.times.is_none_or(|times| struck <= times as usize));
    }
    for before in [0, 1, 2, u64::MAX] {
        let course = day.course(Endpoint::Token, before);
        assert!(course.struck.len() <= 7, "one of each kind: {course:?}");
    }
}
