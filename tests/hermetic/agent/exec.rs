//! `bursar exec`: what a program has when it starts, what it hears, how it ends, and what is left of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncBufReadExt;
use tokio::process::{Child, Command};

use super::rig::{Plan, Rig, SECRET_VALUE};
use super::wire::{eventually, within};

/// `bursar exec` as `checkout`, its files in a folder in memory that is the test's.
struct Exec {
    command: Command,
    /// Where private folders are made.
    runtime: PathBuf,
}

fn exec(rig: &Rig, options: &[&str], script: &str) -> Exec {
    let mut command = rig.command();
    let runtime = PathBuf::from("/dev/shm").join(rig.folder.path().file_name().unwrap());
    fs::create_dir_all(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    command.arg("--socket").arg(rig.socket("checkout")).arg("exec").args(options).args(["--", "/bin/sh", "-c", script]);
    command
        .env("RUNTIME_DIRECTORY", &runtime)
        .env("OUT", rig.path("out"))
        .env("PLACED", rig.path("placed"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Exec { command, runtime }
}

impl Exec {
    fn start(&mut self) -> Child {
        self.command.spawn().unwrap()
    }

    async fn run(&mut self) -> Output {
        within(self.start().wait_with_output()).await.unwrap()
    }

    fn left(&self) -> usize {
        fs::read_dir(&self.runtime).unwrap().count()
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What the program wrote into `out`, once it ends with `end`.
async fn wrote(rig: &Rig, end: &str) -> String {
    let read = || fs::read_to_string(rig.path("out")).unwrap_or_default();
    eventually(end, || async { Some(read()).filter(|text| text.ends_with(end)) }).await
}

#[tokio::test]
async fn a_program_has_its_values_as_variables_and_files_and_nothing_is_left() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    fs::write(rig.path("app.j2"), "key={{ secret('api-key') }}\ntoken={{ token('stripe') }}\n").unwrap();
    let template = format!("{}=app.conf", rig.path("app.j2").display());
    let absolute = format!("{}=secret:api-key", rig.path("placed").display());
    let options = [
        "--env",
        "KEY=secret:api-key",
        "--env",
        "TOKEN=token:stripe:charges:read",
        "--env",
        "CONF=file:app.conf",
        "--file",
        "key=secret:api-key",
        "--file",
        &absolute,
        "--template",
        &template,
    ];
    let script = "printf '%s|%s|%s|' \"$KEY\" \"$TOKEN\" \"$(cat \"$BURSAR_FILES/key\")\"; cat \"$CONF\"; \
                  stat -c '%a %n' \"$BURSAR_FILES\" \"$CONF\" \"$PLACED\"; tr '\\0' ' ' < /proc/$PPID/cmdline";
    let mut exec = exec(&rig, &options, script);
    let output = exec.run().await;
    let (out, err) = said(&output);
    assert!(output.status.success(), "{err}");
    let parts: Vec<_> = out.splitn(4, '|').collect();
    assert_eq!((parts[0], parts[2]), (SECRET_VALUE, SECRET_VALUE));
    let (conf, rest) = parts[3].split_once("\n700 ").unwrap();
    assert_eq!(conf, format!("key={SECRET_VALUE}\ntoken={}", parts[1]));
    assert!(rest.contains("400 ") && rest.contains("app.conf"), "{rest}");
    let arguments = rest.rsplit_once("placed\n").unwrap().1;
    assert!(arguments.contains("exec") && !arguments.contains(SECRET_VALUE) && !arguments.contains(parts[1]));
    assert_eq!(exec.left(), 0);
    assert!(!rig.path("placed").exists());
    let released = rig.records_of("release");
    assert!(released.iter().all(|line| line.text("who") == Some("checkout")));
    assert_eq!(released.len(), 2 + 1, "one for each value: the secret, and the token by two questions");
}

#[tokio::test]
async fn the_exit_code_is_the_program_s() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9), ("kill -TERM $$", 128 + 15)] {
        let mut exec = exec(&rig, &["--file", "key=secret:api-key"], script);
        let output = exec.run().await;
        assert_eq!(output.status.code(), Some(code), "{script}: {:?}", said(&output));
        assert_eq!(exec.left(), 0);
    }
    let folder = rig.folder.path().to_str().unwrap();
    for (program, code) in [("/does/not/exist", 127), (folder, 126)] {
        let mut command = rig.command();
        command.arg("--socket").arg(rig.socket("checkout")).args(["exec", "--env", "A=secret:api-key", "--", program]);
        let output = within(command.stderr(Stdio::piped()).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{:?}", said(&output));
    }
}

#[tokio::test]
async fn what_is_refused_or_cannot_be_had_is_said_before_the_program_starts() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    fs::write(rig.path("bad.j2"), "{{ secret_json('api-key').user }}").unwrap();
    let bad = format!("{}=bad", rig.path("bad.j2").display());
    for (options, code, word) in [
        (["--env", "A=secret:none"], 3, "access_denied"),
        (["--env", "A=token:crm"], 3, "access_denied"),
        (["--file", "a=secret:unput"], 1, "not_found"),
        (["--template", bad.as_str()], 1, "the secret `api-key` is not JSON"),
        (["--env", "A=file:nothing"], 2, "no `--file` or `--template`"),
        (["--env", "A=secret"], 2, "secret:ENTRY"),
    ] {
        let mut exec = exec(&rig, &options, "touch $OUT");
        let output = exec.run().await;
        let (_, err) = said(&output);
        assert!(output.status.code() == Some(code) && err.contains(word), "{options:?}: {} {err}", output.status);
        assert_eq!(exec.left(), 0);
    }
    // What stood there before it was refused is not its to remove.
    fs::write(rig.path("placed"), "theirs").unwrap();
    fs::set_permissions(rig.path("placed"), fs::Permissions::from_mode(0o400)).unwrap();
    let placed = format!("{}=secret:none", rig.path("placed").display());
    assert_eq!(exec(&rig, &["--file", &placed], "touch $OUT").run().await.status.code(), Some(3));
    assert_eq!(fs::read(rig.path("placed")).unwrap(), b"theirs");
    assert!(rig.stop().await.success());
    let output = exec(&rig, &["--env", "A=secret:api-key"], "touch $OUT").run().await;
    assert_eq!(output.status.code(), Some(4), "{:?}", said(&output));
    assert!(!rig.path("out").exists());
    let waits = exec(&rig, &["--wait", "25s", "--env", "A=secret:api-key"], "printf %s \"$A\"").start();
    rig.start().await;
    let output = within(waits.wait_with_output()).await.unwrap();
    assert_eq!(said(&output).0, SECRET_VALUE, "{:?}", said(&output));
}

#[tokio::test]
async fn signals_are_passed_on() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let script = "trap 'echo hup >> $OUT' HUP; trap 'echo usr1 >> $OUT' USR1; trap 'echo term >> $OUT; exit 3' TERM; \
                  echo ready >> $OUT; while kill -0 $PPID; do sleep 0.05; done";
    let mut exec = exec(&rig, &["--file", "key=secret:api-key"], script);
    let child = exec.start();
    wrote(&rig, "ready\n").await;
    for (one, word) in [(Signal::HUP, "hup\n"), (Signal::USR1, "usr1\n"), (Signal::TERM, "term\n")] {
        signal(&child, one);
        wrote(&rig, word).await;
    }
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), exec.left()), (Some(3), 0));
}

/// Tokens that are refreshed every few seconds.
async fn changing() -> Rig {
    Plan { lifetime: Duration::from_secs(4), ..Plan::default() }.raise().await
}

#[tokio::test]
async fn a_program_is_restarted_on_change_with_the_new_value() {
    let rig = changing().await;
    let script = "trap 'exit 9' TERM; echo \"$TOKEN\" >> $OUT; while kill -0 $PPID; do sleep 0.05; done";
    let mut exec = exec(&rig, &["--on-change", "restart", "--env", "TOKEN=token:stripe"], script);
    let child = exec.start();
    let tokens = || fs::read_to_string(rig.path("out")).unwrap_or_default();
    eventually("it was started anew", || async { (tokens().lines().count() >= 2).then_some(()) }).await;
    let mut seen: Vec<_> = tokens().lines().map(str::to_owned).collect();
    seen.dedup();
    assert!(seen.len() >= 2 && seen.iter().all(|token| token.len() > 20), "{seen:?}");
    signal(&child, Signal::TERM);
    assert_eq!(within(child.wait_with_output()).await.unwrap().status.code(), Some(9));
}

#[tokio::test]
async fn a_program_is_restarted_as_soon_as_a_secret_is_another() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let script = "trap 'exit 9' TERM; printf '%s|%s\\n' \"$KEY\" \"$(cat \"$BURSAR_FILES/key\")\" >> $OUT; \
                  while kill -0 $PPID; do sleep 0.05; done";
    let options = ["--on-change", "restart", "--env", "KEY=secret:api-key", "--file", "key=secret:api-key"];
    let mut exec = exec(&rig, &options, script);
    let child = exec.start();
    wrote(&rig, &format!("{SECRET_VALUE}|{SECRET_VALUE}\n")).await;
    // Of a value that is taken for five minutes one hears in the patience of a test by waiting for it alone.
    for value in ["second", "third"] {
        assert_eq!(rig.operate("PUT", "/secrets/api-key", value).await.status, 200);
        wrote(&rig, &format!("{value}|{value}\n")).await;
    }
    let text = fs::read_to_string(rig.path("out")).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with("second")).count(), 1, "once for each change: {text}");
    signal(&child, Signal::TERM);
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), exec.left()), (Some(9), 0));
}

#[tokio::test]
async fn a_file_that_could_not_be_written_is_written_when_it_can_be() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let (folder, placed) = (rig.path("folder"), rig.path("folder/key"));
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&folder).unwrap();
    mode(0o700);
    let file = format!("{}=secret:api-key", placed.display());
    let script = format!(
        "trap 'cat {} >> $OUT; echo >> $OUT' HUP; echo ready > $OUT; while kill -0 $PPID; do sleep 0.05; done",
        placed.display()
    );
    let mut exec = exec(&rig, &["--on-change", "signal:HUP", "--file", &file], &script);
    let mut child = exec.start();
    wrote(&rig, "ready\n").await;
    mode(0o777);
    assert_eq!(rig.operate("PUT", "/secrets/api-key", "second").await.status, 200);
    let mut said = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let said = within(said.next_line()).await.unwrap().unwrap();
    assert!(said.contains("not only its owner may write"), "{said}");
    assert_eq!(fs::read_to_string(&placed).unwrap(), SECRET_VALUE, "the old one stands");
    mode(0o700);
    wrote(&rig, "ready\nsecond\n").await;
    signal(&child, Signal::KILL);
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_and_started_anew() {
    let rig = changing().await;
    let script = "trap '' TERM; echo \"$TOKEN\" >> $OUT; while kill -0 $PPID; do sleep 0.05; done";
    let options = ["--on-change", "restart", "--stop-timeout", "200ms", "--env", "TOKEN=token:stripe"];
    let mut exec = exec(&rig, &options, script);
    let child = exec.start();
    let tokens = || fs::read_to_string(rig.path("out")).unwrap_or_default();
    eventually("it was started anew", || async { (tokens().lines().count() >= 2).then_some(()) }).await;
    drop(child);
}

#[tokio::test]
async fn a_program_is_told_by_a_signal_that_its_file_is_new() {
    let rig = changing().await;
    let script = "trap 'cat \"$BURSAR_FILES/token\" >> $OUT; echo >> $OUT' USR2; cat \"$BURSAR_FILES/token\" > $OUT; \
                  echo >> $OUT; while kill -0 $PPID; do sleep 0.05; done";
    let mut exec = exec(&rig, &["--on-change", "signal:USR2", "--file", "token=token:stripe"], script);
    let child = exec.start();
    let tokens = || fs::read_to_string(rig.path("out")).unwrap_or_default();
    eventually("it was told", || async { (tokens().lines().count() >= 2).then_some(()) }).await;
    let text = tokens();
    let seen: Vec<_> = text.lines().collect();
    assert_ne!(seen[0], seen[1]);
    signal(&child, Signal::KILL);
    drop(child);
}
