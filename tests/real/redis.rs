//! Redis as it is, with the ACL file of `docs/rotators/redis-acl.md` and no more.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::rotation::redis_acl::{Persist, RedisAcl, User};
use bursar::wire::line::Line;
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::matrix::Works;
use crate::peers::{certify, free_port};
use crate::rotated::{AdminFile, Rotated, Stoppable, member, outlives_an_outage, refused, survives, under_load};

const PAGE: &str = include_str!("../../docs/rotators/redis-acl.md");

/// A server of its own for each test, in a folder, with a unix socket and a port for TLS.
struct Redis {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    /// Whether it has an ACL file, or its users stand in its configuration.
    has_acl_file: bool,
}

impl Redis {
    async fn start(has_acl_file: bool) -> Self {
        let mut redis = Self { child: None, folder: TempDir::new().unwrap(), port: free_port(), has_acl_file };
        let acl = PAGE.split("```acl\n").nth(1).unwrap().split("```").next().unwrap();
        certify(redis.path());
        let at = |name: &str| redis.path().join(name).display().to_string();
        let users = match has_acl_file {
            true => format!("aclfile {}\n", at("users.acl")),
            false => acl.replace("+acl|save", "+config|rewrite"),
        };
        std::fs::write(redis.path().join("users.acl"), acl).unwrap();
        let config = format!(
            "port 0\ntls-port {}\nbind 127.0.0.1\nunixsocket {}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no\n\
             save \"\"\ndir {}\nlogfile {}\n{users}",
            redis.port,
            at("socket"),
            at("server.pem"),
            at("server.key"),
            redis.path().display(),
            at("log"),
        );
        std::fs::write(redis.path().join("redis.conf"), config).unwrap();
        redis.run().await;
        redis
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("socket")
    }

    async fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.arg(self.path().join("redis.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("run `tests/peers/install`"));
        for _ in 0..1_000 {
            if UnixStream::connect(self.socket()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not start: {:?}", std::fs::read_to_string(self.path().join("log")));
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing that was not kept may come back.
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    fn works(&self) -> Works {
        let socket = self.socket();
        Arc::new(move |value| {
            let socket = socket.clone();
            async move { says(&socket, &login(&value)).await.is_some_and(|said| said == "+OK") }.boxed()
        })
    }

    /// What an operator with all rights is told.
    async fn told(&self, command: &str) -> String {
        let command = format!("AUTH operator operator-password\r\n{command}");
        says(&self.socket(), &command).await.unwrap()
    }

    /// Over the unix socket, or over TLS.
    fn rotator(&self, admin: &AdminFile, by_tls: bool) -> Arc<RedisAcl> {
        let (address, ca_file) = match by_tls {
            true => (format!("localhost:{}", self.port), Some(self.path().join("ca.pem"))),
            false => (self.socket().display().to_string(), None),
        };
        let line = Line { endpoint: address.parse().unwrap(), ca_file };
        let persist = if self.has_acl_file { Persist::AclSave } else { Persist::ConfigRewrite };
        let user = User { line, name: "app".parse().unwrap(), persist };
        Arc::new(RedisAcl { user, admin: admin.admin(), random: Arc::new(SystemRandom) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn login(value: &[u8]) -> String {
    format!("AUTH {} {}", member(value, "username"), member(value, "password"))
}

/// The first line of the last answer.
async fn says(socket: &Path, commands: &str) -> Option<String> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await.ok()?);
    let mut said = String::new();
    for command in commands.lines() {
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        said.clear();
        stream.read_line(&mut said).await.ok()?;
    }
    Some(said.trim_end().to_owned())
}

fn bursar() -> AdminFile {
    AdminFile::new("bursar", "change-me")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_leaves_a_redis_user_that_works() {
    let (redis, admin) = (Redis::start(true).await, bursar());
    survives(redis.rotator(&admin, true), redis.works()).await;
}

impl Stoppable for Redis {
    fn stop(&mut self) {
        self.stop();
    }

    async fn run(&mut self) {
        self.run().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_server_that_stops_in_the_middle_keeps_its_user() {
    let (redis, admin) = (Redis::start(true).await, bursar());
    let (rotator, works) = (redis.rotator(&admin, false), redis.works());
    outlives_an_outage(redis, rotator, works).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_redis_user_never_fail() {
    let (redis, admin) = (Redis::start(true).await, bursar());
    let logins = under_load(redis.rotator(&admin, false), redis.works(), Duration::from_millis(150)).await;
    assert!(logins.failed == 0 && logins.locked_out == 0 && logins.succeeded > 100, "{logins:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_password_outlives_the_server_and_the_former_one_does_not() {
    for has_acl_file in [true, false] {
        let (mut redis, admin) = (Redis::start(has_acl_file).await, bursar());
        let rotated = Rotated::by(redis.rotator(&admin, false), true, Duration::ZERO).await;
        let (_, former) = rotated.house.current().await;
        rotated.rotate().await.unwrap();
        let (_, served) = rotated.house.current().await;
        redis.stop();
        redis.run().await;
        let works = redis.works();
        assert!(works(served).await && !works(former).await, "with an ACL file: {has_acl_file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_a_redis_server_is_said_and_passes() {
    let (mut redis, admin) = (Redis::start(true).await, bursar());
    let mut rotated = Rotated::by(redis.rotator(&admin, false), true, Duration::ZERO).await;
    let (_, served) = rotated.house.current().await;
    let works = redis.works();
    admin.write("bursar", "wrong");
    refused(&mut rotated, "the server refuses the admin credential `files/admin`", &works, &served).await;
    admin.write("app", "x");
    refused(&mut rotated, "it is the login of the user that it would rotate", &works, &served).await;
    admin.remove();
    refused(&mut rotated, "the admin credential `files/admin` is missing", &works, &served).await;
    admin.write("bursar", "change-me");
    redis.told("ACL SETUSER app off").await;
    let error = rotated.try_again().await.unwrap_err();
    assert!(error.contains("the user `app` is off"), "{error}");
    redis.told("ACL SETUSER app on").await;
    redis.told("ACL SETUSER bursar -acl|save").await;
    refused(&mut rotated, "`ACL SAVE`: the login may not do that", &works, &served).await;
    redis.told("ACL SETUSER bursar +acl|save").await;
    redis.told("ACL SETUSER bursar -acl|setuser").await;
    let error = rotated.try_again().await.unwrap_err();
    assert!(error.contains("`ACL SETUSER`: the login may not do that"), "{error}");
    redis.told("ACL SETUSER bursar +acl|setuser").await;
    redis.told("ACL SAVE").await;
    redis.stop();
    assert!(rotated.try_again().await.is_err());
    redis.run().await;
    rotated.try_again().await.unwrap();
    let (_, after) = rotated.house.current().await;
    assert!(works(after).await && !works(served).await);
    redis.told("ACL DELUSER app").await;
    let error = rotated.try_again().await.unwrap_err();
    assert!(error.contains("there is no user `app`"), "{error}");
    assert!(redis.told("ACL GETUSER app").await.ends_with("-1"), "bursar made a user");
}
