//! PostgreSQL as it is, set up as `docs/rotators/postgres.md` says and no further.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::rotation::postgres::{Postgres, Roles, Server};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_postgres::NoTls;

use crate::matrix::Works;
use crate::peers::{certify, free_port};
use crate::rig::Agent;
use crate::rotated::{AdminFile, Rotated, Stoppable, member, outlives_an_outage, refused, survives, under_load};

const PAGE: &str = include_str!("../../docs/rotators/postgres.md");
const SUPER: &str = "super-password";
const HBA: &str = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
const RELOADED: &str = "reloading configuration files";

/// A server of its own for each test, in a folder, with a unix socket and a port of loopback.
struct Pg {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    user: Option<(u32, u32)>,
}

impl Pg {
    async fn start() -> Self {
        let (folder, user) = (TempDir::new().unwrap(), not_root());
        let mut pg = Self { child: None, folder, port: free_port(), user };
        certify(pg.path());
        std::fs::write(pg.path().join("super"), SUPER).unwrap();
        std::fs::write(pg.path().join("pg_hba.conf"), HBA).unwrap();
        pg.own();
        let data = pg.path().join("data");
        let made = pg
            .program("initdb")
            .args(["-N", "--no-locale", "-E", "UTF8", "-U", "postgres", "-A", "scram-sha-256", "--pwfile"])
            .arg(pg.path().join("super"))
            .arg("-D")
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        pg.run().await;
        pg.sql(block(0)).await;
        if pg.version().await >= 160_000 {
            pg.sql(block(1)).await;
        }
        pg
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What stands in the folder is the server's user's.
    fn own(&self) {
        let Some((uid, gid)) = self.user else { return };
        for entry in std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()) {
            std::os::unix::fs::chown(&entry, Some(uid), Some(gid)).unwrap();
        }
        std::os::unix::fs::chown(self.path(), Some(uid), Some(gid)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.path().join("server.key"), mode).unwrap();
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(self.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    async fn run(&mut self) {
        let (path, port) = (self.path(), self.port.to_string());
        let at = |name: &str| path.join(name).display().to_string();
        let settings = [
            format!("unix_socket_directories={}", path.display()),
            format!("hba_file={}", at("pg_hba.conf")),
            format!("ssl_cert_file={}", at("server.pem")),
            format!("ssl_key_file={}", at("server.key")),
            "listen_addresses=127.0.0.1".into(),
            "ssl=on".into(),
            "fsync=off".into(),
            "log_statement=all".into(),
            "shared_buffers=16MB".into(),
        ];
        let log = std::fs::File::create(path.join("log")).unwrap();
        let mut command = self.program("postgres");
        command.arg("-D").arg(path.join("data")).args(["-p", &port]);
        for setting in settings {
            command.args(["-c", &setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        for _ in 0..1_000 {
            if self.logs_in("postgres", SUPER).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not start: {}", self.log());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A fast shutdown: its children end before it does.
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }

    /// Lets `first` come before the other lines of its file, and waits until the server has read it.
    async fn hba(&self, first: &str) {
        let text = format!("{first}\n{HBA}");
        std::fs::write(self.path().join("pg_hba.conf"), text).unwrap();
        let before = self.log().matches(RELOADED).count();
        self.sql("SELECT pg_reload_conf()").await;
        while self.log().matches(RELOADED).count() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A session that begins now is told of it before its login, or begins after it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn socket(&self) -> PathBuf {
        self.path().join(format!(".s.PGSQL.{}", self.port))
    }

    async fn client(&self, user: &str, password: &str) -> Result<tokio_postgres::Client, String> {
        connect(&self.socket(), user, password).await
    }

    async fn logs_in(&self, user: &str, password: &str) -> bool {
        self.client(user, password).await.is_ok()
    }

    /// Carries out `text` as the superuser.
    async fn sql(&self, text: &str) {
        self.client("postgres", SUPER).await.unwrap().batch_execute(text).await.unwrap();
    }

    async fn version(&self) -> i32 {
        let client = self.client("postgres", SUPER).await.unwrap();
        let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await.unwrap();
        row.get(0)
    }

    fn works(&self) -> Works {
        let socket = self.socket();
        Arc::new(move |value| {
            let socket = socket.clone();
            async move { connect(&socket, &member(&value, "username"), &member(&value, "password")).await.is_ok() }
                .boxed()
        })
    }

    /// Over the unix socket, or over TLS.
    fn rotator(&self, roles: Roles, admin: &AdminFile, by_tls: bool) -> Arc<Postgres> {
        let (address, ca_file) = match by_tls {
            true => (format!("localhost:{}", self.port), Some(self.path().join("ca.pem"))),
            false => (self.socket().display().to_string(), None),
        };
        let server = Server::new(address.parse().unwrap(), ca_file, "postgres".into());
        Arc::new(Postgres { server, roles, admin: admin.admin(), random: Arc::new(SystemRandom) })
    }
}

impl Drop for Pg {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn connect(socket: &Path, user: &str, password: &str) -> Result<tokio_postgres::Client, String> {
    let stream = UnixStream::connect(socket).await.map_err(|why| why.to_string())?;
    let mut config = tokio_postgres::Config::new();
    config.user(user).password(password).dbname("postgres");
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|why| why.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}

/// The server refuses to run as root: Debian's package made it a user.
fn not_root() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:")).expect("run `tests/peers/install`");
    let mut fields = user.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("run `tests/peers/install`");
    let newest = versions.map(|entry| entry.unwrap().path()).max().unwrap();
    newest.join("bin")
}

/// The nth block of SQL of the page.
fn block(nth: usize) -> &'static str {
    PAGE.split("```sql\n").nth(nth + 1).unwrap().split("```").next().unwrap()
}

fn pair() -> Roles {
    Roles::Pair(["app_a", "app_b"].map(|name| name.parse().unwrap()))
}

fn one() -> Roles {
    Roles::One("app_a".parse().unwrap())
}

fn bursar() -> AdminFile {
    AdminFile::new("bursar", "change-me")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_leaves_a_postgres_pair_that_works() {
    let (pg, admin) = (Pg::start().await, bursar());
    survives(pg.rotator(pair(), &admin, true), pg.works()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_leaves_a_postgres_role_that_works() {
    let (pg, admin) = (Pg::start().await, bursar());
    survives(pg.rotator(one(), &admin, false), pg.works()).await;
}

impl Stoppable for Pg {
    fn stop(&mut self) {
        self.stop();
    }

    async fn run(&mut self) {
        self.run().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_that_stops_in_the_middle_keeps_its_pair() {
    let (pg, admin) = (Pg::start().await, bursar());
    let (rotator, works) = (pg.rotator(pair(), &admin, false), pg.works());
    outlives_an_outage(pg, rotator, works).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_postgres_pair_never_fail() {
    let (pg, admin) = (Pg::start().await, bursar());
    let logins = under_load(pg.rotator(pair(), &admin, false), pg.works(), Duration::from_millis(150)).await;
    assert!(logins.failed == 0 && logins.locked_out == 0 && logins.succeeded > 100, "{logins:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_postgres_role_fail_once_a_rotation_at_most() {
    let (pg, admin) = (Pg::start().await, bursar());
    let logins = under_load(pg.rotator(one(), &admin, false), pg.works(), Duration::ZERO).await;
    assert!(logins.most_failed <= 1 && logins.locked_out == 0 && logins.succeeded > 50, "{logins:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_a_postgres_server_is_said_and_passes() {
    let (mut pg, admin) = (Pg::start().await, bursar());
    let mut rotated = Rotated::by(pg.rotator(pair(), &admin, true), true, Duration::ZERO).await;
    let (_, served) = rotated.house.current().await;
    let works = pg.works();
    admin.write("bursar", "wrong");
    refused(&mut rotated, "the server refuses the admin credential `files/admin`", &works, &served).await;
    admin.write("app_a", "x");
    refused(&mut rotated, "it is the login of a role that it would rotate", &works, &served).await;
    admin.remove();
    refused(&mut rotated, "the admin credential `files/admin` is missing", &works, &served).await;
    admin.write("bursar", "change-me");
    pg.sql("ALTER ROLE bursar VALID UNTIL '2001-01-01'").await;
    refused(&mut rotated, "the server refuses the admin credential `files/admin`", &works, &served).await;
    pg.sql("ALTER ROLE bursar VALID UNTIL 'infinity'").await;
    let wrongs = [
        ("GRANT pg_monitor TO app_b", "`app_b` alone is a member of pg_monitor", "REVOKE pg_monitor FROM app_b"),
        ("ALTER ROLE app_a CREATEDB", "`app_a` alone has CREATEDB", "ALTER ROLE app_a NOCREATEDB"),
        ("ALTER ROLE app_a RESET role", "`app_b` alone has the setting role=app", "ALTER ROLE app_a SET role = app"),
        (
            "CREATE TABLE t (id int); ALTER TABLE t OWNER TO app_b",
            "`app_b` alone owns table t",
            "REASSIGN OWNED BY app_b TO app",
        ),
        (
            "GRANT SELECT ON t TO app_a",
            "`app_a` alone has privileges of its own on table t: SELECT",
            "REVOKE ALL ON t FROM app_a",
        ),
        (
            "GRANT UPDATE, SELECT ON t TO app_a, app_b; GRANT INSERT ON t TO app_b WITH GRANT OPTION",
            "`app_b` alone has privileges of its own on table t: INSERT WITH GRANT OPTION, SELECT, UPDATE",
            "REVOKE ALL ON t FROM app_a, app_b",
        ),
        (
            "GRANT UPDATE (id) ON t TO app_a; GRANT SELECT (id) ON t TO app_b",
            "`app_b` alone has privileges of its own on column id of table t: SELECT",
            "REVOKE ALL (id) ON t FROM app_a, app_b",
        ),
        ("CREATE POLICY p ON t TO app_a USING (true)", "`app_a` alone is named by policy p on table t", "DROP TABLE t"),
        ("ALTER ROLE app_b NOLOGIN", "may not log in", "ALTER ROLE app_b LOGIN"),
        ("ALTER ROLE app_b VALID UNTIL '2001-01-01'", "VALID UNTIL", "ALTER ROLE app_b VALID UNTIL 'infinity'"),
        ("ALTER ROLE app_b RENAME TO c", "there is no role \"app_b\"", "ALTER ROLE c RENAME TO app_b"),
    ];
    for (wrong, why, right) in wrongs {
        pg.sql(wrong).await;
        refused(&mut rotated, why, &works, &served).await;
        pg.sql(right).await;
    }
    pg.stop();
    assert!(rotated.try_again().await.is_err());
    pg.run().await;
    rotated.try_again().await.unwrap();
    let (_, after) = rotated.house.current().await;
    assert!(works(after).await && !works(served).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_hears_no_password_and_touches_no_other_role() {
    let (pg, admin) = (Pg::start().await, bursar());
    pg.sql("CREATE ROLE other LOGIN PASSWORD 'others-password'").await;
    let rotated = Rotated::by(pg.rotator(pair(), &admin, true), true, Duration::ZERO).await;
    for _ in 0..3 {
        rotated.rotate().await.unwrap();
        let (_, value) = rotated.house.current().await;
        let log = pg.log();
        assert!(log.contains("ALTER ROLE") && !log.contains(&member(&value, "password")));
    }
    assert!(pg.logs_in("other", "others-password").await);
    // What one made, the other may change.
    let (_, value) = rotated.house.current().await;
    pg.sql("GRANT CREATE ON SCHEMA public TO app").await;
    let login = async |value: &[u8]| pg.client(&member(value, "username"), &member(value, "password")).await.unwrap();
    let open = login(&value).await;
    open.batch_execute("CREATE TABLE made (id int)").await.unwrap();
    rotated.rotate().await.unwrap();
    let (_, next) = rotated.house.current().await;
    login(&next).await.batch_execute("INSERT INTO made VALUES (1); ALTER TABLE made ADD x int").await.unwrap();
    open.batch_execute("INSERT INTO made VALUES (2)").await.expect("an open session stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_login_that_proves_nothing_is_none() {
    let (pg, admin) = (Pg::start().await, bursar());
    let mut rotated = Rotated::by(pg.rotator(pair(), &admin, false), true, Duration::ZERO).await;
    let refusals = [
        ("local all app_a,app_b trust", "lets the role in without its password"),
        ("local all app_a,app_b password", "in clear text, and does not get it"),
        ("local all app_a,app_b reject", "the server refuses the session"),
    ];
    for (line, why) in refusals {
        pg.hba(line).await;
        let error = rotated.try_again().await.unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
        pg.hba("").await;
        rotated.try_again().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_rotates_a_postgres_login_for_its_readers() {
    let (pg, admin) = (Pg::start().await, bursar());
    let entries = format!(
        "[store.files]\nkind = \"files\"\npath = \"{}\"\n[secret.db]\nstore = \"local\"\n\
         [secret.db-user]\nstore = \"local\"\npath = \"db\"\nfield = \"username\"\n\
         [secret.db-password]\nstore = \"local\"\npath = \"db\"\nfield = \"password\"\n\
         [secret.db.rotation]\ngrace = \"1h\"\n[secret.db.rotation.postgres]\naddress = \"{}\"\ndatabase = \"postgres\"\n\
         admin = {{ store = \"files\", name = \"admin\" }}\nusers = [\"app_a\", \"app_b\"]\n",
        admin.folder().display(),
        pg.socket().display(),
    );
    let rule = "@id(\"db\")\npermit (principal == Workload::\"checkout\", action == Action::\"secret\", resource);\n";
    let agent = Agent::start_with(&entries, &[("policies/db.cedar", rule)]);
    let first = secret(&agent, "db-user").await;
    assert_eq!(first, "app_a");
    let rotated = agent.operate(&["rotate", "db", "--reason", "drill"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    let [user, password] = [secret(&agent, "db-user").await, secret(&agent, "db-password").await];
    assert_eq!(user, "app_b");
    assert!(pg.logs_in(&user, &password).await && !agent.log().contains(&password));
}

/// What the workload `checkout` is given: as soon as there is something.
async fn secret(agent: &Agent, name: &str) -> String {
    for _ in 0..600 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--header", "Bursar: 1", "--unix-socket"]).arg(agent.socket_of("checkout"));
        let answer = curl.arg(format!("http://localhost/secret/{name}")).output().unwrap().stdout;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        if let Some(value) = answer["value"].as_str() {
            return value.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no `{name}`: {}", agent.log())
}
