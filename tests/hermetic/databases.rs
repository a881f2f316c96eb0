//! The rotators of databases, and a server that is none, or means harm. What a real server does is tested at real servers.

use std::path::Path;
use std::sync::Arc;

use bursar::config;
use bursar::config::meant::Rotator as Meant;
use bursar::crypto::SystemRandom;
use bursar::document::Source;
use bursar::rotation::Admin;
use bursar::rotation::postgres::{Postgres, Roles, Server};
use bursar::rotation::redis_acl::{Persist, RedisAcl, User};
use bursar::rotation::{ACT_TIMEOUT, Ended, Held, Overlap, Rotator, Trouble};
use bursar::secret::Secret;
use bursar::store::Place;
use bursar::store::files::FilesStore;
use bursar::wire::line::Line;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PASSWORD: &str = "a-password-of-an-application";

/// A server that says `says` to whoever connects, as often as they listen, and keeps what it was told.
async fn server(says: Vec<u8>, again: bool) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4_096];
        let first = stream.read(&mut heard).await.unwrap();
        heard.truncate(first);
        while stream.write_all(&says).await.is_ok() && again {}
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    (address, heard)
}

fn held() -> Held {
    let value = format!("{{\"username\":\"app\",\"password\":\"{PASSWORD}\"}}");
    Held { version: "1".parse().unwrap(), far_id: None, value: Arc::new(Secret::copy_of(value.as_bytes())) }
}

fn admin(folder: &Path) -> Admin {
    Admin::at(Place {
        store_name: "files".parse().unwrap(),
        store: Arc::new(FilesStore::open(folder).unwrap()),
        name: "admin".parse().unwrap(),
        fresh_for: None,
    })
}

fn contains(heard: &[u8], what: &str) -> bool {
    heard.windows(what.len()).any(|part| part == what.as_bytes())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

async fn postgres(says: Vec<u8>, again: bool) -> (Result<bool, Trouble>, Vec<u8>) {
    let folder = super::private_folder();
    let (address, heard) = server(says, again).await;
    let rotator = Postgres {
        server: Server::new(address.parse().unwrap(), None, "app".into()),
        roles: Roles::One("app".parse().unwrap()),
        admin: admin(folder.path()),
        random: Arc::new(SystemRandom),
    };
    (rotator.test(&held()).await, heard.await.unwrap())
}

async fn redis(says: &[u8], again: bool) -> Result<bool, Trouble> {
    let folder = super::private_folder();
    let (address, heard) = server(says.to_vec(), again).await;
    let line = Line { endpoint: address.parse().unwrap(), ca_file: None };
    let user = User { line, name: "app".parse().unwrap(), persist: Persist::AclSave };
    let rotator = RedisAcl { user, admin: admin(folder.path()), random: Arc::new(SystemRandom) };
    let tested = rotator.test(&held()).await;
    heard.await.unwrap();
    tested
}

#[tokio::test]
async fn a_postgres_server_that_means_harm_learns_no_password() {
    let scram = authentication(10, b"SCRAM-SHA-256\0\0");
    let without_end = authentication(11, b"r=x,s=c2FsdA==,i=4000000000");
    let cases = [
        ("clear text", authentication(3, b"")),
        ("clear text behind a notice", [message(b'N', b"SNOTICE\0\0"), authentication(3, b"")].concat()),
        ("any login is taken", [authentication(0, b""), message(b'Z', b"I")].concat()),
        ("taken before it is proved", [scram.clone(), authentication(0, b""), message(b'Z', b"I")].concat()),
        ("hashing without end", [scram, without_end].concat()),
    ];
    for (what, says) in cases {
        let (tested, heard) = postgres(says, false).await;
        let why = tested.expect_err(what).to_string();
        assert!(!contains(&heard, PASSWORD) && !why.contains(PASSWORD), "{what}: {why}");
    }
    let (tested, heard) = postgres(authentication(5, b"salt"), false).await;
    assert!(!tested.unwrap() && !contains(&heard, "md5"), "what is kept as MD5 is none of ours");
}

#[tokio::test]
async fn a_postgres_server_that_never_ends_is_left() {
    let cases = [
        ("no server of its kind", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false),
        ("a message of 4 GiB", b"E\xff\xff\xff\xff".to_vec(), false),
        ("notices without end", message(b'N', &[b'x'; 1_000]), true),
    ];
    for (what, says, again) in cases {
        let (tested, _) = postgres(says, again).await;
        let why = tested.expect_err(what);
        assert!(matches!(why, Trouble::Nonsense(_) | Trouble::Unavailable(_)), "{what}: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_postgres_login_leaves_time_for_what_comes_after_it() {
    let tested = tokio::time::timeout(ACT_TIMEOUT / 2, postgres(Vec::new(), false)).await;
    let (tested, _) = tested.expect("half of an act is for the login");
    assert!(matches!(&tested, Err(Trouble::Unavailable(why)) if why.contains("the login took longer")), "{tested:?}");
}

#[tokio::test]
async fn a_redis_server_that_means_harm_is_left_and_not_quoted() {
    let echo = format!("-{PASSWORD} is wrong\r\n");
    let deep = b"*1\r\n".repeat(1_000);
    let cases: [(&str, &[u8], bool); 6] = [
        ("an error that repeats the password", echo.as_bytes(), false),
        ("no server of its kind", b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        ("a value of 10 GB", b"$9999999999\r\n", false),
        ("a line without end", b"+xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", true),
        ("lists in lists", &deep, false),
        ("more than was asked", b"+OK\r\n+OK\r\n", false),
    ];
    for (what, says, again) in cases {
        let why = redis(says, again).await.expect_err(what).to_string();
        assert!(!why.contains(PASSWORD), "{what}: {why}");
    }
    assert_eq!(redis(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n", false).await, Ok(false));
}

#[tokio::test]
async fn what_is_no_login_of_ours_is_left_and_what_is_served_is_not_touched() {
    let folder = super::private_folder();
    // Nobody listens, and no admin credential is there: whatever acts, fails.
    let line = Line { endpoint: "/nobody/listens".parse().unwrap(), ca_file: None };
    let postgres = Postgres {
        server: Server::new(line.endpoint.clone(), None, "app".into()),
        roles: Roles::Pair(["app".parse().unwrap(), "other".parse().unwrap()]),
        admin: admin(folder.path()),
        random: Arc::new(SystemRandom),
    };
    let user = User { line, name: "app".parse().unwrap(), persist: Persist::AclSave };
    let redis = RedisAcl { user, admin: admin(folder.path()), random: Arc::new(SystemRandom) };
    let rotators: [&dyn Rotator; 2] = [&postgres, &redis];
    for rotator in rotators {
        let former = |value: &str| Ended { far_id: None, value: Some(Arc::new(Secret::copy_of(value.as_bytes()))) };
        let (served, third) = (held(), former("{\"username\":\"third\",\"password\":\"x\"}"));
        for left in [third, former("no login"), Ended { far_id: None, value: Some(held().value) }] {
            assert_eq!(rotator.revoke(&left, Some(&served)).await, Ok(()), "{}", rotator.kind());
        }
        let other = former("{\"username\":\"app\",\"password\":\"x\"}");
        let is_ended = rotator.revoke(&other, None).await.is_ok();
        assert!(!is_ended, "{} has ended what it could not reach", rotator.kind());
    }
    assert!(matches!(postgres.set(&held(), Some(&held())).await, Err(Trouble::Refused(_))));
}

/// A configuration with a rotated secret `key`, by `table`.
fn read(table: &str) -> Result<Meant, Vec<(String, String)>> {
    let text = format!(
        "[store.local]\nkind = \"sealed\"\n[secret.key]\nstore = \"local\"\n[secret.key.rotation]\nevery = \"30d\"\n{table}\n"
    );
    let source = Source { file: "bursar.toml".into(), text };
    match config::read(&[source], Path::new("/etc/bursar")) {
        Ok(read) => Ok(read.settings.secrets[&"key".parse().unwrap()].rotation.clone().unwrap().rotator),
        Err(faults) => Err(faults.iter().map(|fault| (fault.place.key.clone(), fault.what.clone())).collect()),
    }
}

const ADMIN: &str = "admin = { store = \"local\", name = \"admin\" }";

fn postgres_table(lines: &str) -> String {
    format!("[secret.key.rotation.postgres]\naddress = \"db.example.com:5432\"\ndatabase = \"app\"\n{lines}")
}

fn redis_table(lines: &str) -> String {
    format!("[secret.key.rotation.redis-acl]\naddress = \"/run/redis.sock\"\n{lines}")
}

#[test]
fn a_pair_overlaps_and_one_role_does_not() {
    let with = |roles: &str| read(&postgres_table(&format!("{ADMIN}\n{roles}"))).map(|it| it.overlap());
    assert_eq!(with("users = [\"a\", \"b\"]"), Ok(Overlap::Two));
    assert_eq!(with("user = \"a\""), Ok(Overlap::One));
    for roles in ["", "users = [\"a\"]", "users = [\"a\", \"a\"]", "user = \"a\"\nusers = [\"a\", \"b\"]"] {
        let faults = with(roles).unwrap_err();
        assert!(faults.iter().all(|(key, what)| key == "secret.key.rotation.postgres" && what.contains("either")));
    }
    assert_eq!(read(&redis_table(&format!("{ADMIN}\nuser = \"app\""))).map(|it| it.overlap()), Ok(Overlap::Two));
}

#[test]
fn a_rotation_that_could_not_be_mended_is_a_fault() {
    let itself = "admin = { store = \"local\", name = \"key\" }";
    let faulty = [
        (postgres_table(&format!("{itself}\nuser = \"a\"")), "postgres.admin", "is the secret that it rotates"),
        (redis_table(&format!("{itself}\nuser = \"a\"")), "redis-acl.admin", "is the secret that it rotates"),
        (
            postgres_table(&format!("{ADMIN}\nuser = \"a\"")).replace("db.example.com:5432", "postgres://db"),
            "postgres.address",
            "is neither `HOST:PORT`",
        ),
        (postgres_table(&format!("{ADMIN}\nuser = \"\"")), "postgres.user", "is not the name of a role"),
        (redis_table(&format!("{ADMIN}\nuser = \"a b\"")), "redis-acl.user", "is not the name of a user"),
    ];
    for (table, key, what) in faulty {
        let faults = read(&table).unwrap_err();
        let [(at, why)] = &faults[..] else { panic!("{faults:?}") };
        assert!(at.ends_with(key) && why.contains(what), "{at}: {why}");
    }
}
