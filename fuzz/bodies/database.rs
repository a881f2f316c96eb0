//! What database servers say, and the logins that stand in stores.

use bursar::rotation::login::Login;
use bursar::rotation::postgres::watch::Watch;
use bursar::rotation::redis_acl::resp::{MOST_REPLY, command, reply};
use bursar::secret::Secret;
use bursar::wire::line::Endpoint;

/// What a PostgreSQL server says. It is judged alike in whatever parts it comes.
pub fn postgres_watch(bytes: &[u8]) {
    let whole = Watch::default().see(bytes);
    let mut slowly = Watch::default();
    assert_eq!(bytes.iter().try_for_each(|byte| slowly.see(&[*byte])), whole);
}

/// What a Redis server says. A reply does not depend on what follows it, and is bounded.
pub fn redis_reply(bytes: &[u8]) {
    match reply(bytes) {
        Ok(Some((one, length))) => assert_eq!(reply(&bytes[..length]), Ok(Some((one, length)))),
        Ok(None) => assert!(bytes.len() < MOST_REPLY),
        Err(_) => {}
    }
    // A command is a list of texts: it comes back as it was given.
    let words: Vec<_> = bytes.split(|byte| *byte == b' ').take(16).collect();
    assert!(bytes.len() > 4_096 || matches!(reply(&command(&words)), Ok(Some(_))));
}

/// A login in a store. What is none is not quoted.
pub fn database_login(bytes: &[u8]) {
    match Login::read(&Secret::copy_of(bytes)) {
        Ok(login) => assert!(!login.username.is_empty() && !login.password.is_empty()),
        Err(why) => assert!(why.to_string().starts_with("it is not a login: write it as JSON")),
    }
}

/// Where a server listens. It reads again as it is shown.
pub fn database_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}
