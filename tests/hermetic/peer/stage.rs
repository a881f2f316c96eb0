//! The stage: a door to knock at, and processes that play a part there.
//!
//! An actor is this test program started again with a part to play; it tells the test where it stands, and
//! waits for it, on a *cue*: a second connection, which ends when the actor does or becomes another program.
#![expect(unsafe_code, reason = "what happens between fork and exec is unsafe by name")]
#![expect(clippy::disallowed_methods, reason = "an actor is told its part by its environment")]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Blocking;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::access::Role;
use bursar::peer::cgroup::ContainerRoots;
use bursar::peer::{Connector, Peer, Registry, Sources, Stream, Unidentified, prepare};
use bursar::time::SystemClock;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred,
    recvmsg, sendmsg,
};
use rustix::process::{Signal, geteuid, getgid, getppid, getuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

/// What an actor plays.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Connects, says hello, and hands on what it hears.
    Visitor,
    /// Connects twice, and says hello twice.
    VisitorTwice,
    /// Connects, and becomes `sleep` when told to.
    Becomes,
    /// Connects, leaves the connection to a child, and becomes `sleep`.
    ParentThatBecomes,
    /// Writes hello to the connection that its parent left it.
    Writer,
    /// Does so in its parent's name.
    Forger,
    /// Connects, and gives the connection away.
    PassesItsConnection,
    /// Is asked, and says what it makes of who asks.
    Agent,
    /// As [`Part::ParentThatBecomes`], with a child that writes in its parent's name.
    ParentOfAForger,
}

// ── before the curtain: what a test uses

/// A socket to knock at, and the one for cues.
pub(super) struct Door {
    folder: tempfile::TempDir,
    knocks: UnixListener,
    cues: UnixListener,
    sources: Arc<Sources>,
}

impl Door {
    /// Opens it.
    pub(super) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let knocks = UnixListener::bind(folder.path().join("door.sock")).unwrap();
        let cues = UnixListener::bind(folder.path().join("cue.sock")).unwrap();
        prepare(&knocks).unwrap();
        Self { folder, knocks, cues, sources: sources() }
    }

    /// Where to knock.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("door.sock")
    }

    /// The next connection, as bursar takes it.
    pub(super) async fn accept(&self) -> Result<(Arc<Peer>, Stream), Unidentified> {
        self.take(self.accept_bare().await)
    }

    /// The next connection, as it is.
    pub(super) async fn accept_bare(&self) -> UnixStream {
        within(self.knocks.accept()).await.unwrap().0
    }

    /// What bursar makes of a connection.
    pub(super) fn take(&self, socket: UnixStream) -> Result<(Arc<Peer>, Stream), Unidentified> {
        Peer::of(socket, None, Arc::clone(&self.sources))
    }

    /// The next cue.
    pub(super) async fn cue(&self) -> UnixStream {
        within(self.cues.accept()).await.unwrap().0
    }

    /// Waits until `child` stands where it should.
    pub(super) async fn greet(&self, child: Child) -> Actor {
        let mut actor = Actor { child, cue: None, folder: self.folder.path().to_owned() };
        actor.cue = Some(self.cue().await);
        actor
    }
}

fn sources() -> Arc<Sources> {
    Arc::new(Sources::new(Arc::new(SystemClock), ContainerRoots::default()))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an actor missed its cue")
}

/// A process that plays a part. It is killed when it is dropped.
pub(super) struct Actor {
    child: Child,
    cue: Option<UnixStream>,
    folder: PathBuf,
}

impl Actor {
    /// Starts an actor, and waits until it stands where it should.
    pub(super) async fn enter(door: &Door, part: Part) -> Self {
        door.greet(actor(door.folder.path(), part, &own_program()).spawn().unwrap()).await
    }

    /// In a mount namespace where this program stands at the path of `sleep`.
    pub(super) fn behind_a_bind_mount(door: &Door, part: Part) -> io::Result<Child> {
        let (covered, cover) = (c_path(&sleeper()), c_path(&own_program()));
        let mut actor = actor(door.folder.path(), part, &sleeper());
        let mount = move || {
            unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            let none = std::ptr::null();
            // SAFETY: the paths are C strings that live; the other pointers may be null.
            check(unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) })?;
            // SAFETY: as above.
            check(unsafe { libc::mount(cover.as_ptr(), covered.as_ptr(), none, libc::MS_BIND, none.cast()) })
        };
        // SAFETY: only system calls on values made before the fork.
        unsafe { actor.pre_exec(mount) }.spawn()
    }

    /// In user and pid namespaces of its own, in which it is root and the first process.
    pub(super) fn in_namespaces(door: &Door, part: Part) -> io::Result<Child> {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let maps = [format!("0 {uid} 1"), format!("0 {gid} 1")];
        let mut actor = actor(door.folder.path(), part, &own_program());
        let enter = move || {
            unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID)?;
            let [uids, gids] = &maps;
            for (file, text) in [("setgroups", "deny"), ("uid_map", uids), ("gid_map", gids)] {
                fs::write(Path::new("/proc/self").join(file), text)?;
            }
            go_on_in_a_child()
        };
        // SAFETY: system calls, and small allocations that glibc allows in a child of a threaded process.
        unsafe { actor.pre_exec(enter) }.spawn()
    }

    /// In a user namespace that knows nobody.
    pub(super) fn in_an_unmapped_user_namespace(door: &Door, part: Part) -> io::Result<Child> {
        let mut actor = actor(door.folder.path(), part, &own_program());
        // SAFETY: one system call.
        unsafe { actor.pre_exec(|| unshare(libc::CLONE_NEWUSER)) }.spawn()
    }

    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Ends it, and frees its pid.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to go on.
    pub(super) async fn go(&mut self) {
        self.cue.as_mut().unwrap().write_all(b"go").await.unwrap();
    }

    /// Everything that it says on its cue.
    pub(super) async fn heard(&mut self) -> String {
        let mut said = String::new();
        within(self.cue.as_mut().unwrap().read_to_string(&mut said)).await.unwrap();
        said
    }

    /// Waits until it has ended, or executes another program.
    pub(super) async fn ended_or_became(&mut self) {
        assert_eq!(self.heard().await, "");
    }

    /// The connection that it passes.
    pub(super) async fn taken_connection(&mut self) -> Blocking {
        let cue = self.cue.as_ref().unwrap();
        let taken = within(cue.async_io(Interest::READABLE, || take_descriptor(cue.as_fd()))).await;
        taken.unwrap().into()
    }

    /// Connects to an actor that plays the agent.
    pub(super) async fn connect(&self) -> Blocking {
        let mut connection = Blocking::connect(self.folder.join("agent.sock")).unwrap();
        connection.write_all(b"hello").unwrap();
        connection
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The uid that the tests run as.
pub(super) fn uid() -> u32 {
    geteuid().as_raw()
}

/// This test program.
pub(super) fn own_program() -> PathBuf {
    fs::canonicalize(std::env::current_exe().unwrap()).unwrap()
}

/// A program that is harmless and on every host: the legitimate one that attackers pretend to be.
pub(super) fn sleeper() -> PathBuf {
    fs::canonicalize("/bin/sleep").unwrap()
}

/// Says aloud that a test was left out, unless root runs it.
pub(super) fn needs_root(test: &str) -> bool {
    let left_out = uid() != 0;
    if left_out {
        say(&format!("needs root: {test} was left out"));
    }
    left_out
}

/// Starts an actor in namespaces, or says aloud that this host lets nobody do that.
pub(super) fn with_user_namespaces(test: &str, start: impl FnOnce() -> io::Result<Child>) -> Option<Child> {
    match start() {
        Ok(child) => Some(child),
        Err(error) if uid() == 0 => panic!("root could not make namespaces: {error}"),
        Err(error) => {
            say(&format!("needs root, or user namespaces: {test} was left out: {error}"));
            None
        }
    }
}

/// Past the test harness, which keeps what a passing test prints.
pub(super) fn say(line: &str) {
    let mut past = io::stderr();
    writeln!(past, "{line}").unwrap();
}

/// `sleep` under a pid that was another process's.
pub(super) fn sleeper_with_pid(pid: i32) -> Actor {
    for _ in 0..1000 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let child = Command::new(sleeper()).arg("60").spawn().unwrap();
        let mut actor = Actor { child, cue: None, folder: PathBuf::new() };
        if actor.pid() == pid {
            return actor;
        }
        actor.kill();
    }
    panic!("others took pid {pid} a thousand times");
}

/// A cgroup of the unified tree.
pub(super) struct Cgroup {
    folder: PathBuf,
    top: bool,
}

impl Cgroup {
    /// Makes one at the top. It is removed with all below when it is dropped.
    pub(super) fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = words.into_iter().find(|words| words.get(2) == Some(&"cgroup2")).expect("a unified cgroup tree");
        let folder = Path::new(root[1]).join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder, top: true }
    }

    /// Makes one below.
    pub(super) fn below(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder, top: false }
    }

    /// Moves a process into it.
    pub(super) fn put(&self, pid: i32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.top {
            remove(&self.folder);
        }
    }
}

fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

// ── on the stage: what an actor does

fn actor(folder: &Path, part: Part, program: &Path) -> Command {
    let test = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new(program);
    command.args([&format!("{test}::play"), "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env("BURSAR_PART", format!("{part:?}"))
        .env("BURSAR_STAGE", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[test]
fn play() {
    let Ok(part) = std::env::var("BURSAR_PART") else { return };
    let folder = PathBuf::from(std::env::var("BURSAR_STAGE").unwrap());
    match part.as_str() {
        "Visitor" => visit(&folder),
        "VisitorTwice" => {
            let _connections = [knock(&folder), knock(&folder)];
            wait_for(&mut cue(&folder));
        }
        "Becomes" => {
            let (_connection, mut cue) = (open(&folder), cue(&folder));
            wait_for(&mut cue);
            become_sleeper();
        }
        "ParentThatBecomes" => leave_to_a_child(&folder, Part::Writer),
        "ParentOfAForger" => leave_to_a_child(&folder, Part::Forger),
        "Writer" => {
            wait_for(&mut cue(&folder));
            rustix::io::write(io::stdin(), b"hello").unwrap();
        }
        "Forger" => {
            wait_for(&mut cue(&folder));
            forge();
        }
        "PassesItsConnection" => pass(&folder),
        "Agent" => be_asked(&folder),
        other => panic!("{other} is no part"),
    }
}

fn open(folder: &Path) -> Blocking {
    Blocking::connect(folder.join("door.sock")).unwrap()
}

fn knock(folder: &Path) -> Blocking {
    let mut connection = open(folder);
    connection.write_all(b"hello").unwrap();
    connection
}

fn cue(folder: &Path) -> Blocking {
    Blocking::connect(folder.join("cue.sock")).unwrap()
}

fn wait_for(cue: &mut Blocking) {
    let _ = cue.read(&mut [0; 2]).unwrap();
}

fn visit(folder: &Path) {
    let mut connection = knock(folder);
    let mut cue = cue(folder);
    let mut answer = String::new();
    // A test that has heard enough resets the connection.
    let _ = connection.read_to_string(&mut answer);
    cue.write_all(answer.as_bytes()).unwrap();
}

/// The cue ends at exec; whatever else is open stays open.
fn become_sleeper() -> ! {
    panic!("{}", Command::new(sleeper()).arg("60").exec());
}

#[expect(clippy::zombie_processes, reason = "the program that this one becomes does not wait")]
fn leave_to_a_child(folder: &Path, child: Part) {
    let connection = open(folder);
    let _cue = cue(folder);
    let shared = OwnedFd::from(connection.try_clone().unwrap());
    let mut command = actor(folder, child, &own_program());
    // SAFETY: one system call.
    unsafe { command.stdin(shared).pre_exec(die_with_parent) }.spawn().unwrap();
    become_sleeper();
}

/// Writes to the parent's connection in the parent's name.
fn forge() {
    let name = UCred { pid: getppid().expect("a parent in this namespace"), uid: getuid(), gid: getgid() };
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmCredentials(name)));
    sendmsg(io::stdin(), &[IoSlice::new(b"hello")], &mut control, SendFlags::empty()).unwrap();
}

fn pass(folder: &Path) {
    let connection = open(folder);
    let mut cue = cue(folder);
    send_with_descriptor(cue.as_fd(), connection.as_fd());
    wait_for(&mut cue);
}

/// Says hello on `to`, and passes `what` with it.
pub(super) fn send_with_descriptor(to: BorrowedFd<'_>, what: BorrowedFd<'_>) {
    let descriptors = [what];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[IoSlice::new(b"hello")], &mut control, SendFlags::empty()).unwrap();
}

fn take_descriptor(from: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut [0; 8])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn be_asked(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async {
        let listener = UnixListener::bind(folder.join("agent.sock")).unwrap();
        prepare(&listener).unwrap();
        let cue = cue(folder);
        let (socket, _) = listener.accept().await.unwrap();
        (cue, what_it_makes_of(socket).await)
    });
    let (mut cue, said) = said;
    cue.write_all(said.as_bytes()).unwrap();
}

async fn what_it_makes_of(socket: UnixStream) -> String {
    let connector = Connector::of(socket.as_fd()).unwrap();
    let uid = if connector.uid == getuid().as_raw() { "the same uid" } else { "another uid" };
    let pid = if connector.pid == 0 { "pid 0" } else { "pid known" };
    let (peer, mut stream) = Peer::of(socket, None, sources()).unwrap();
    let number = peer.uid().min(bursar::peer::OVERFLOW_ID - 1);
    let program = own_program();
    let by_uid = format!("[workload.by-uid]\nuid = {number}");
    let by_exe = format!("[workload.by-exe]\nuid = {number}\nexe = '{}'", program.display());
    let heard = stream.read(&mut [0; 64]).await.map_err(|error| error.to_string());
    let (by_uid, by_exe) = (found(&peer, &by_uid).await, found(&peer, &by_exe).await);
    match heard {
        Ok(_) => format!("naive: {uid}; {pid}; {by_uid}; {by_exe}"),
        Err(error) => error,
    }
}

async fn found(peer: &Peer, text: &str) -> String {
    let registry = Registry::read(Path::new("workloads.toml"), text, None).unwrap();
    let found = peer.attest(&registry, Role::Workload).await;
    found.map_or_else(|nobody| nobody.kind().to_owned(), |workload| workload.name.to_string())
}

// ── between fork and exec

fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(namespaces) })
}

/// A new pid namespace holds only what is born in it. This process waits for its child, which goes on to exec.
fn go_on_in_a_child() -> io::Result<()> {
    // SAFETY: this process has one thread, and was itself forked to exec.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => die_with_parent(),
        // SAFETY: system calls; nothing of this process is used again, nor may it hold a descriptor open.
        _ => unsafe {
            libc::close_range(3, libc::c_uint::MAX, 0);
            libc::wait(std::ptr::null_mut());
            libc::_exit(0)
        },
    }
}

fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}
