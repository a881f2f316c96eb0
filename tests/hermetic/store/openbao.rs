//! What is not OpenBao's answer: refused, within its bounds, and never repeated. What is, in `tests/real/openbao.rs`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bursar::crypto::SystemRandom;
use bursar::store::openbao::{Auth, OpenBaoStore, Settings};
use bursar::store::{Store, StoreError, Which};
use bursar::time::ManualClock;
use bursar::wire::tls::{Roots, Tls};
use tempfile::NamedTempFile;

/// What the store says when every request is answered with these bytes.
async fn heard(answer: Vec<u8>) -> StoreError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut read = 0;
        while read < 4 {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            read = if b"\r\n\r\n"[read] == byte[0] { read + 1 } else { 0 };
        }
        // Who has read enough hangs up.
        let _ = stream.write_all(&answer);
    });
    let mut token = NamedTempFile::new().unwrap();
    token.write_all(b"s.canary-token\n").unwrap();
    std::fs::set_permissions(token.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings {
        address: address.parse().unwrap(),
        mount: "kv".parse().unwrap(),
        prefix: None,
        namespace: None,
        auth: Auth::TokenFile(token.path().to_owned()),
    };
    let tls = Tls::default().config_for(&Roots::System, true).unwrap();
    let store = OpenBaoStore::new(settings, tls, Arc::new(ManualClock::default()), Arc::new(SystemRandom)).unwrap();
    let error = store.read(&"db".parse().unwrap(), &Which::Current).await.map(|_| ()).unwrap_err();
    assert!(!format!("{error}{error:?}").contains("canary"), "{error}");
    error
}

fn answer(status: &str, head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn what_is_not_openbao_is_refused_and_not_repeated() {
    let redirect = heard(answer("307 Elsewhere", "location: http://127.0.0.1:1/canary\r\n", "")).await;
    assert!(matches!(&redirect, StoreError::Setup(what) if what.contains("never followed")), "{redirect}");
    let page = heard(answer("200 OK", "", "<html>canary</html>")).await;
    assert!(matches!(&page, StoreError::Setup(what) if what.contains("`address`")), "{page}");
    let other =
        r#"{"data":{"data":{"canary":"canary"},"metadata":{"version":1,"created_time":"2026-11-21T06:00:00Z"}}}"#;
    let other = heard(answer("200 OK", "", other)).await;
    assert!(matches!(&other, StoreError::Damaged(_)), "{other}");
    let denied = heard(answer("403 Forbidden", "", r#"{"errors":["permission denied: canary"]}"#)).await;
    assert!(matches!(&denied, StoreError::Setup(what) if what.contains("`kv/data/.bursar/db`")), "{denied}");
    let throttled = heard(answer("429 Slow", "", "canary")).await;
    assert!(matches!(&throttled, StoreError::Unavailable(what) if what.contains("throttles")), "{throttled}");
    let cut = heard(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"data\":\"canary".to_vec()).await;
    assert!(matches!(cut, StoreError::Unavailable(_)), "{cut}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let endless = format!(r#"{{"data":"{}"}}"#, "canary".repeat(1 << 18));
    let cut = heard(answer("200 OK", "", &endless)).await;
    assert!(matches!(&cut, StoreError::Unavailable(what) if what.contains("longer than")), "{cut}");
}

#[tokio::test]
async fn the_books_are_nobody_s_secret() {
    let settings = Settings {
        address: "http://127.0.0.1:1".parse().unwrap(),
        mount: "kv".parse().unwrap(),
        prefix: None,
        namespace: None,
        auth: Auth::TokenFile("/nowhere".into()),
    };
    let tls = Tls::default().config_for(&Roots::System, true).unwrap();
    let store = OpenBaoStore::new(settings, tls, Arc::new(ManualClock::default()), Arc::new(SystemRandom)).unwrap();
    for name in [".bursar/db", "apps.bursar/db", "a/b.bursar/c"] {
        let refused = store.read(&name.parse().unwrap(), &Which::Current).await.map(|_| ());
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{name}");
    }
}
