//! IAM and STS as moto has them, with signatures and the policy of `docs/rotators/aws-iam-access-key.md` and no more.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use bursar::rotation::access_key::{AccessKey, SETTLES_WITHIN, Settings};
use bursar::rotation::{Ended, Held, Label, Rotator, Trouble};
use bursar::store::Attempt;
use bursar::time::SystemClock;
use bursar::wire::tls::{Roots, Tls};
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::matrix::{self, Subject, Works};
use crate::peers::installed;
use crate::rotators::Desk;
use crate::steady;

const PAGE: &str = include_str!("../../docs/rotators/aws-iam-access-key.md");

struct Iam {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    facts: Value,
}

impl Iam {
    /// One with the user `checkout`, whose keys the user `bursar` may change as the documentation allows it.
    fn start() -> Self {
        let mut child = Command::new(installed("py/bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/iam.py"))
            .env("VERIFY", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line).unwrap();
        let iam = Self { child, talk: Mutex::new((stdin, stdout)), facts };
        iam.boto("create_user", &json!({ "UserName": "checkout" }));
        let policy = PAGE.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        let policy = policy.replace("111122223333", "123456789012");
        iam.boto("put_user_policy", &json!({ "UserName": "bursar", "PolicyName": "p", "PolicyDocument": policy }));
        iam
    }

    /// Has boto3 call `method` of IAM, by an administrator.
    fn boto(&self, method: &str, arguments: &Value) -> Value {
        let (stdin, stdout) = &mut *self.talk.lock().unwrap();
        writeln!(stdin, "{}", json!(["iam", method, arguments])).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn keys(&self) -> Vec<(String, String)> {
        let listed = self.boto("list_access_keys", &json!({ "UserName": "checkout" }));
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        let keys = listed["AccessKeyMetadata"].as_array().unwrap();
        keys.iter().map(|key| (text(key, "AccessKeyId"), text(key, "Status"))).collect()
    }

    fn desk(&self) -> Desk {
        let admin = json!({ "access_key_id": self.facts["key"], "secret_access_key": self.facts["secret"] });
        Desk::with_admin(&admin.to_string())
    }

    fn rotator(&self, user: &str, desk: &Desk) -> Arc<AccessKey> {
        let settings = Settings {
            user: user.into(),
            region: "eu-central-1".into(),
            endpoint: Some(self.facts["endpoint"].as_str().unwrap().into()),
            settles_within: SETTLES_WITHIN,
        };
        let tls = Tls::default().config_for(&Roots::System, true).unwrap();
        Arc::new(AccessKey::new(settings, desk.admin(), tls, Arc::new(SystemClock)).unwrap())
    }

    /// Whether a key works: STS is asked with it.
    fn works(rotator: &Arc<AccessKey>) -> Works {
        let rotator = Arc::clone(rotator);
        Arc::new(move |value| {
            let rotator = Arc::clone(&rotator);
            let value = Arc::new(bursar::secret::Secret::new(value));
            let held = Held { version: "v".parse().unwrap(), far_id: None, value };
            async move { rotator.test(&held).await.unwrap() }.boxed()
        })
    }
}

impl Drop for Iam {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn label() -> Label {
    Label::new(&Attempt::from_bytes([7; 16]))
}

#[tokio::test]
async fn an_access_key_is_made_used_and_ended_with_the_least_policy() {
    let iam = Iam::start();
    let desk = iam.desk();
    let rotator = iam.rotator("checkout", &desk);
    let made = rotator.create(&label(), None).await.unwrap();
    let held = Held { version: "v".parse().unwrap(), far_id: made.far_id.clone(), value: Arc::new(made.value) };
    let ids: Vec<_> = rotator.list().await.unwrap().unwrap().into_iter().map(|found| found.far_id).collect();
    assert_eq!(ids, Vec::from_iter(made.far_id));
    assert!(rotator.test(&held).await.unwrap());
    rotator.create(&label(), None).await.unwrap();
    let third = rotator.create(&label(), None).await.unwrap_err();
    assert!(matches!(&third, Trouble::Refused(what) if what.contains("two access keys already")), "{third}");
    // By its value alone, as for a version that an operator has put there.
    let ended = Ended { far_id: None, value: Some(Arc::clone(&held.value)) };
    for _ in 0..2 {
        rotator.revoke(&ended, None).await.unwrap();
        assert_eq!(iam.keys().len(), 1, "it is gone, and not only inactive");
        assert!(!rotator.test(&held).await.unwrap());
    }
    let denied = iam.rotator("somebody-else", &desk).create(&label(), None).await.unwrap_err();
    assert!(matches!(&denied, Trouble::Refused(what) if what.contains("AccessDenied")), "{denied}");
    desk.write(r#"{"access_key_id":"AKIANOBODY","secret_access_key":"canary"}"#);
    let unknown = rotator.create(&label(), None).await.unwrap_err();
    assert!(matches!(&unknown, Trouble::Refused(what) if !what.contains("canary")), "{unknown}");
}

#[tokio::test]
async fn no_crash_loses_an_access_key() {
    let iam = Iam::start();
    let desk = iam.desk();
    let rotator = iam.rotator("checkout", &desk);
    let works = Iam::works(&rotator);
    matrix::holds(&Subject { rotator, exclusive: true, first: None, works }).await;
    assert_eq!(iam.keys().len(), 1, "what lost replies left is ended");
}

#[tokio::test]
async fn fifty_rotations_of_an_access_key_fail_no_reader() {
    let iam = Iam::start();
    let desk = iam.desk();
    let rotator = iam.rotator("checkout", &desk);
    let works = Iam::works(&rotator);
    steady::no_reader_fails(&Subject { rotator, exclusive: true, first: None, works }).await;
}
