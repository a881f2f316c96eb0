//! Who asks, against real processes that lie. Each attack first shows how a naive look at the peer is fooled.

mod stage;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bursar::access::Role;
use bursar::peer::{Connector, Peer, Registry, Stream, Unfit, Unidentified, prepare};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use stage::{Actor, Door, Part, needs_root, own_program, sleeper, uid, with_user_namespaces};

fn registry(text: &str) -> Registry {
    Registry::read(Path::new("workloads.toml"), text, None).map_err(|faults| faults.to_string()).unwrap()
}

/// The workload `app`: this uid, executing `program`.
fn app(program: &Path) -> Registry {
    registry(&format!("[workload.app]\nuid = {}\nexe = '{}'", uid(), program.display()))
}

async fn who(peer: &Peer, registry: &Registry) -> Result<String, Unidentified> {
    peer.attest(registry, Role::Workload).await.map(|workload| workload.name.to_string())
}

/// What the naive look sees: the path that `/proc` shows for a pid.
fn shown(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

/// Reads a greeting, or says what is wrong with who sent it.
async fn heard(stream: &mut Stream) -> Result<String, Unidentified> {
    let mut bytes = [0; 64];
    match stream.read(&mut bytes).await {
        Ok(length) => Ok(String::from_utf8_lossy(&bytes[..length]).into_owned()),
        Err(error) => Err(error.get_ref().and_then(|inner| inner.downcast_ref()).cloned().expect("whose fault")),
    }
}

// ── the honest peer

#[tokio::test]
async fn an_honest_process_is_its_workload() {
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::Visitor).await;
    let (peer, mut stream) = door.accept().await.unwrap();
    assert_eq!(heard(&mut stream).await, Ok("hello".into()));
    assert_eq!(who(&peer, &app(&own_program())).await, Ok("app".into()));
    assert_eq!(peer.fault(), None);
    stream.write_all(b"answer").await.unwrap();
    drop(stream);
    assert_eq!(actor.heard().await, "answer");
}

#[tokio::test]
async fn the_digest_of_the_program_is_compared() {
    let door = Door::open();
    let _actor = Actor::enter(&door, Part::Visitor).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let of = |digest: &str| registry(&format!("[workload.app]\nuid = {}\nexe_sha256 = '{digest}'", uid()));
    let digest = bursar::crypto::Digest::of(&fs::read(own_program()).unwrap()).to_string();
    assert_eq!(who(&peer, &of(&digest)).await, Ok("app".into()));
    assert_eq!(who(&peer, &of(&"0".repeat(64))).await, Err(Unidentified::NoMatch));
}

#[tokio::test]
async fn a_new_registry_voids_what_was_remembered() {
    let door = Door::open();
    let _actor = Actor::enter(&door, Part::Visitor).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let (old, new) =
        (registry(&format!("[workload.old]\nuid = {}", uid())), registry("[workload.new]\nuid = 4000000000"));
    assert_eq!(who(&peer, &old).await, Ok("old".into()));
    assert_eq!(who(&peer, &old).await, Ok("old".into()));
    assert_eq!(who(&peer, &new).await, Err(Unidentified::NoMatch));
}

#[tokio::test]
async fn names_are_resolved_when_a_peer_asks() {
    let door = Door::open();
    let _actor = Actor::enter(&door, Part::Visitor).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let Ok(Some(account)) = nix::unistd::User::from_uid(nix::unistd::Uid::current()) else {
        return stage::say("needs an account for its uid: names_are_resolved_when_a_peer_asks was left out");
    };
    let registry =
        registry(&format!("[workload.app]\nuser = '{}'\n[workload.b]\nuser = 'no-such-account'", account.name));
    assert_eq!(who(&peer, &registry).await, Ok("app".into()));
}

#[tokio::test]
async fn bytes_that_came_before_accept_have_a_sender() {
    let door = Door::open();
    let mut early = UnixStream::connect(door.path()).unwrap();
    early.write_all(b"early").unwrap();
    let (_peer, mut stream) = door.accept().await.unwrap();
    assert_eq!(heard(&mut stream).await, Ok("early".into()));
    drop(early);
    assert_eq!(heard(&mut stream).await, Ok(String::new()), "the end of the stream needs no sender");
}

#[tokio::test]
async fn a_socket_without_a_file_is_refused() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("bursar-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    assert!(matches!(prepare(&listener), Err(Unfit::Abstract)));
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(matches!(prepare(&one), Err(Unfit::Kind)));
}

// ── the attacks

#[tokio::test]
async fn a_child_cannot_write_while_its_parent_becomes_the_legitimate_program() {
    let door = Door::open();
    let mut parent = Actor::enter(&door, Part::ParentThatBecomes).await;
    let mut child = door.cue().await;
    let (peer, mut stream) = door.accept().await.unwrap();
    parent.ended_or_became().await;

    assert_eq!(shown(parent.pid()), sleeper(), "naive: the connector executes the legitimate program");
    assert_eq!(who(&peer, &app(&sleeper())).await, Ok("app".into()), "all facts of the connector say so");

    child.write_all(b"go").await.unwrap();
    let mismatch = heard(&mut stream).await.unwrap_err();
    assert!(
        matches!(mismatch, Unidentified::SenderMismatch { connector, sender } if connector == parent.pid() && sender != connector)
    );
    assert_eq!(who(&peer, &app(&sleeper())).await, Err(mismatch), "nothing more is released on this connection");
    assert!(stream.write_all(b"secret").await.is_err());
}

#[tokio::test]
async fn a_process_that_becomes_another_program_is_no_longer_its_workload() {
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::Becomes).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let legitimate = app(&own_program());
    assert_eq!(who(&peer, &legitimate).await, Ok("app".into()), "naive: what was true at connect is kept");
    actor.go().await;
    actor.ended_or_became().await;
    assert_eq!(who(&peer, &legitimate).await, Err(Unidentified::NoMatch));
}

#[tokio::test]
async fn a_process_does_not_become_legitimate_on_an_open_connection() {
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::Becomes).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let legitimate = app(&sleeper());
    assert_eq!(who(&peer, &legitimate).await, Err(Unidentified::NoMatch));
    actor.go().await;
    actor.ended_or_became().await;
    assert_eq!(shown(actor.pid()), sleeper(), "naive: at this request it executes the legitimate program");
    assert_eq!(who(&peer, &legitimate).await, Err(Unidentified::NoMatch));
}

#[tokio::test]
async fn a_reused_pid_is_not_the_peer() {
    if needs_root("a_reused_pid_is_not_the_peer") {
        return;
    }
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::VisitorTwice).await;
    let (peer, mut stream) = door.accept().await.unwrap();
    let second = door.accept_bare().await;
    let pid = actor.pid();
    actor.kill();
    let legitimate = stage::sleeper_with_pid(pid);

    assert_eq!(shown(pid), sleeper(), "naive: the connector's pid executes the legitimate program");
    assert_eq!(heard(&mut stream).await, Ok("hello".into()), "and the bytes are from that very pid");
    assert_eq!(who(&peer, &app(&sleeper())).await, Err(Unidentified::Gone));
    assert_eq!(Connector::of(second.as_fd()).unwrap().pid, pid, "naive: this one too");
    assert_eq!(door.take(second).unwrap_err(), Unidentified::Gone);
    drop(legitimate);
}

#[tokio::test]
async fn a_peer_that_is_gone_gets_nothing() {
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::VisitorTwice).await;
    let (peer, mut stream) = door.accept().await.unwrap();
    let second = door.accept_bare().await;
    actor.kill();
    assert_eq!(Connector::of(second.as_fd()).unwrap().uid, uid(), "naive: the credentials are still there");
    assert_eq!(heard(&mut stream).await, Ok("hello".into()), "and so are its bytes");
    let by_uid = registry(&format!("[workload.app]\nuid = {}", uid()));
    assert_eq!(who(&peer, &by_uid).await, Err(Unidentified::Gone));
    assert_eq!(door.take(second).unwrap_err(), Unidentified::Gone);
}

#[tokio::test]
async fn a_passed_connection_does_not_carry_the_identity_of_who_opened_it() {
    let door = Door::open();
    let mut actor = Actor::enter(&door, Part::PassesItsConnection).await;
    let (peer, mut stream) = door.accept().await.unwrap();
    let mut taken = actor.taken_connection().await;
    taken.write_all(b"hello").unwrap();
    assert_eq!(who(&peer, &app(&own_program())).await, Ok("app".into()), "naive: the connector is legitimate");
    let mismatch = Unidentified::SenderMismatch { connector: actor.pid(), sender: std::process::id().cast_signed() };
    assert_eq!(heard(&mut stream).await, Err(mismatch));
}

#[tokio::test]
async fn passed_descriptors_never_arrive() {
    let door = Door::open();
    let client = UnixStream::connect(door.path()).unwrap();
    let (peer, mut stream) = door.accept().await.unwrap();
    let (passed, mut other_end) = UnixStream::pair().unwrap();
    stage::send_with_descriptor(client.as_fd(), passed.as_fd());
    drop(passed);

    assert_eq!(heard(&mut stream).await, Err(Unidentified::PassedDescriptor));
    assert_eq!(peer.fault(), Some(&Unidentified::PassedDescriptor));
    assert_eq!(other_end.write_all(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe, "nobody holds it");
}

#[tokio::test]
async fn a_forged_cgroup_name_is_not_a_unit() {
    if needs_root("a_forged_cgroup_name_is_not_a_unit") {
        return;
    }
    let door = Door::open();
    let actor = Actor::enter(&door, Part::Visitor).await;
    let (peer, _stream) = door.accept().await.unwrap();
    let checkout = registry("[workload.checkout]\nunit = 'checkout.service'");
    let slice = stage::Cgroup::new(&format!("bursartest{}.slice", std::process::id()));

    let forged = slice.below("user@1000.service").below("system.slice").below("checkout.service");
    forged.put(actor.pid());
    let shown = fs::read_to_string(format!("/proc/{}/cgroup", actor.pid())).unwrap();
    assert!(shown.trim_end().ends_with("/system.slice/checkout.service"), "naive: the end of the path names the unit");
    assert_eq!(who(&peer, &checkout).await, Err(Unidentified::NoMatch));

    let real = slice.below("checkout.service");
    real.put(actor.pid());
    assert_eq!(who(&peer, &checkout).await, Ok("checkout".into()), "the unit is read at each request");
    forged.put(actor.pid());
    assert_eq!(who(&peer, &checkout).await, Err(Unidentified::NoMatch));
    drop(actor);
}

#[tokio::test]
async fn a_bind_mounted_program_is_not_the_one_it_covers() {
    let door = Door::open();
    let Some(actor) = with_user_namespaces("a_bind_mounted_program_is_not_the_one_it_covers", || {
        Actor::behind_a_bind_mount(&door, Part::Visitor)
    }) else {
        return;
    };
    let _actor = door.greet(actor).await;
    let (peer, mut stream) = door.accept().await.unwrap();
    assert_eq!(heard(&mut stream).await, Ok("hello".into()));
    assert_eq!(shown(peer.pid()), sleeper(), "naive: the path that is shown is the legitimate one");
    assert_eq!(who(&peer, &app(&sleeper())).await, Err(Unidentified::NoMatch));
}

#[tokio::test]
async fn root_of_a_pid_namespace_cannot_speak_as_the_legitimate_program() {
    let door = Door::open();
    let Some(outer) = with_user_namespaces("root_of_a_pid_namespace_cannot_speak_as_the_legitimate_program", || {
        Actor::in_namespaces(&door, Part::ParentOfAForger)
    }) else {
        return;
    };
    let mut parent = door.greet(outer).await;
    let mut forger = door.cue().await;
    let (peer, mut stream) = door.accept().await.unwrap();
    parent.ended_or_became().await;
    forger.write_all(b"go").await.unwrap();
    assert_eq!(
        heard(&mut stream).await,
        Ok("hello".into()),
        "naive: the kernel itself names the connector as the sender"
    );
    assert_eq!(shown(peer.pid()), sleeper(), "and the connector executes the legitimate program");
    assert_eq!(who(&peer, &app(&sleeper())).await, Err(Unidentified::NoMatch));
    assert_eq!(who(&peer, &registry(&format!("[workload.any]\nuid = {}", uid()))).await, Ok("any".into()));
}

#[tokio::test]
async fn a_peer_of_a_foreign_user_namespace_has_no_uid() {
    let door = Door::open();
    let Some(agent) = with_user_namespaces("a_peer_of_a_foreign_user_namespace_has_no_uid", || {
        Actor::in_an_unmapped_user_namespace(&door, Part::Agent)
    }) else {
        return;
    };
    let mut agent = door.greet(agent).await;
    let _client = agent.connect().await;
    assert_eq!(agent.heard().await, "naive: the same uid; pid known; no_match; no_match");
}

#[tokio::test]
async fn a_peer_of_a_foreign_pid_namespace_is_known_by_its_uid_alone() {
    let door = Door::open();
    let Some(agent) = with_user_namespaces("a_peer_of_a_foreign_pid_namespace_is_known_by_its_uid_alone", || {
        Actor::in_namespaces(&door, Part::Agent)
    }) else {
        return;
    };
    let mut agent = door.greet(agent).await;
    let _client = agent.connect().await;
    assert_eq!(agent.heard().await, "naive: the same uid; pid 0; by-uid; no_match");
}
