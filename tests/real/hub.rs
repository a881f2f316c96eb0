//! JupyterHub as it is: a service that issues API keys over HTTP.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bursar::wire::tls::Roots;
use tempfile::TempDir;

use crate::peers::{http, installed};

/// The token with which the rotator acts.
pub(crate) const ADMIN: &str = "rotator-admin-token-0123456789";
const SETUP: &str = "setup-admin-token-0123456789ab";

/// A hub of its own, with the user `svc`.
pub(crate) struct Hub {
    child: Child,
    folder: TempDir,
    /// Where its API begins.
    pub(crate) base: String,
    client: reqwest::Client,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(installed("py/bin/python"))
            .args(["-m", "jupyterhub", "-f"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/jupyterhub_config.py"))
            .env("HUB_PORT", port.to_string())
            .env("HUB_BIND", "http://127.0.0.1:1")
            .env("HUB_DIR", folder.path())
            .env("HUB_ADMIN", ADMIN)
            .env("HUB_SETUP", SETUP)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let base = format!("http://127.0.0.1:{port}/hub/api");
        let hub = Self { child, folder, base, client: http(&Roots::System) };
        hub.until_it_answers().await;
        assert_eq!(hub.ask("POST", "users/svc", SETUP).await, 201);
        hub
    }

    async fn until_it_answers(&self) {
        for _ in 0..1_000 {
            if self.client.get(format!("{}/", self.base)).send().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("the hub did not start: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    async fn ask(&self, method: &str, path: &str, token: &str) -> u16 {
        let request = self.client.request(method.parse().unwrap(), format!("{}/{path}", self.base));
        request.header("authorization", format!("token {token}")).send().await.unwrap().status().as_u16()
    }

    /// Whether it knows this token.
    pub(crate) async fn accepts(&self, token: &str) -> bool {
        self.ask("GET", "user", token).await == 200
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
