//! (E) A program, started for one act: its own process group, nothing in its environment, and an end to its time.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::talk::MOST_REPLY_BYTES;
use crate::rotation::Trouble;
use crate::secret::wipe;
use crate::way::walk;

/// Where a program finds others: the environment of the agent is not passed on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts `program`, gives it `request`, and gives back what it wrote to standard output.
///
/// When its time is over, or nobody waits any more, it is killed with its process group.
///
/// # Errors
/// [`Trouble::Setup`], where it was not started; else [`Trouble::Unavailable`], and what it was to do may have been done.
pub async fn run(program: &Path, request: Vec<u8>, time: Duration) -> Result<Vec<u8>, Trouble> {
    let real = itself(program).map_err(Trouble::Setup)?;
    let mut running = Running::start(program, &real)?;
    let talked = timeout(time, running.talk(request)).await;
    // A crash here leaves the group to itself: it gets no more than it was told, and its reply is lost.
    let (reply, status, errors) = talked.map_err(|_| {
        Trouble::Unavailable(format!("the program was not done within {} s and was killed", time.as_secs()))
    })??;
    if status.success() && reply.len() <= MOST_REPLY_BYTES {
        return Ok(reply);
    }
    let ended = if status.success() { "wrote more than 1 MiB".into() } else { format!("ended with {status}") };
    Err(Trouble::Unavailable(format!(
        "the program {ended}, and wrote {errors} bytes to standard error, which are not shown"
    )))
}

/// The file that `program` leads to, if nobody but root and ourselves can change it, or where it leads.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn itself(program: &Path) -> Result<PathBuf, String> {
    let shown = program.display();
    let way = walk(program).map_err(|why| format!("the program `{shown}` cannot be used: {why}"))?;
    let us = rustix::process::geteuid().as_raw();
    for place in &way.passed {
        // In a folder with the sticky bit nobody replaces what is another's.
        if place.is_shared() && !place.is_sticky() || ![0, us].contains(&place.owner) {
            let path = place.path.display();
            return Err(format!(
                "others can change `{path}`, and with it the program `{shown}`: `chown -h root {path} && chmod go-w {path}`"
            ));
        }
    }
    match way.passed.last() {
        Some(end) if end.kind == FileType::RegularFile && end.mode & 0o111 != 0 => Ok(end.path.clone()),
        Some(_) | None => Err(format!("the program `{shown}` is no file that can be executed: `chmod +x` it")),
    }
}

/// A program that runs.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    /// Starts `real`, which `program` leads to: a link that is changed by now leads nobody elsewhere.
    fn start(program: &Path, real: &Path) -> Result<Self, Trouble> {
        let child = Command::new(real)
            .arg0(program)
            .env_clear()
            .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Trouble::Setup(format!("the program `{}` cannot be started: {error}", program.display()))
            })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self { child, group })
    }

    /// Its reply, how it ended, and how many bytes it wrote to standard error.
    async fn talk(&mut self, mut request: Vec<u8>) -> Result<(Vec<u8>, ExitStatus, u64), Trouble> {
        let lost = |error: std::io::Error| Trouble::Unavailable(format!("the program cannot be talked to: {error}"));
        let (stdin, stdout, stderr) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let tell = async {
            if let Some(mut stdin) = stdin {
                // A program that does not listen may answer all the same.
                drop(stdin.write_all(&request).await);
            }
        };
        let hear = async {
            let mut reply = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(MOST_REPLY_BYTES as u64 + 1).read_to_end(&mut reply).await?;
            }
            Ok(reply)
        };
        let count = async {
            let mut none = tokio::io::sink();
            match stderr {
                Some(mut stderr) => tokio::io::copy(&mut stderr, &mut none).await,
                None => Ok(0),
            }
        };
        let group = self.group;
        let end = async {
            let ended = until_it_ends(group).await;
            // What it left behind holds our pipes open. The group's number is its own until the program is waited for.
            kill(group);
            ended
        };
        let ((), reply, errors, ended) = tokio::join!(tell, hear, count, end);
        wipe(&mut request);
        ended.map_err(lost)?;
        let status = self.child.wait().await.map_err(lost)?;
        self.group = None;
        Ok((reply.map_err(lost)?, status, errors.unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(self.group);
    }
}

/// Until the program has ended; it is not waited for yet.
async fn until_it_ends(program: Option<Pid>) -> std::io::Result<()> {
    let Some(program) = program else { return Ok(()) };
    let ends = move || waitid(WaitId::Pid(program), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    // Where nobody waits any more the group is killed, so that this thread comes to its end too.
    spawn_blocking(ends).await.map_err(std::io::Error::other)??;
    Ok(())
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    /// One at a time: a process that another test is just forking would hold a program open that is still written.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn program(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_program_hears_the_request_and_nothing_else() {
        let _alone = ALONE.lock().await;
        let (_folder, path) = program("cat; echo; env | cut -d= -f1 | sort | tr '\\n' ' '; echo $#; pwd");
        let said = String::from_utf8(run(&path, b"ask".to_vec(), LONG).await.unwrap()).unwrap();
        assert!(said.starts_with("ask\n") && said.ends_with("0\n/\n"), "{said}");
        let environment: Vec<_> = said.lines().nth(1).unwrap().split(' ').filter(|name| !name.is_empty()).collect();
        assert!(
            environment.iter().all(|name| ["LANG", "PATH", "PWD", "_", "0", "OLDPWD", "SHLVL"].contains(name)),
            "{said}"
        );
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_killed_with_it() {
        let _alone = ALONE.lock().await;
        let (folder, path) = program("sleep 600 & echo $! > ${0}.pid; echo done");
        // The pipe that it holds open is not waited for: that would end with an error.
        assert_eq!(run(&path, Vec::new(), LONG).await.unwrap(), b"done\n");
        let pid = fs::read_to_string(folder.path().join("program.pid")).unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z ") {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed() {
        let _alone = ALONE.lock().await;
        let (_folder, path) = program("sleep 600");
        let late = run(&path, Vec::new(), Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(&late, Trouble::Unavailable(what) if what.contains("killed")), "{late}");
    }

    #[tokio::test]
    async fn what_it_writes_to_standard_error_is_counted_and_not_shown() {
        let _alone = ALONE.lock().await;
        let (_folder, path) = program("echo canary >&2; exit 3");
        let failed = run(&path, Vec::new(), LONG).await.unwrap_err();
        let text = failed.to_string();
        assert!(text.contains("exit status: 3") && text.contains("7 bytes") && !text.contains("canary"), "{text}");
        let (_folder, path) = program("head -c 2000000 /dev/zero");
        assert!(run(&path, Vec::new(), LONG).await.is_err());
    }

    #[tokio::test]
    async fn a_program_that_others_can_change_is_not_started() {
        let _alone = ALONE.lock().await;
        let (folder, path) = program("echo no");
        for (open, mode) in [(path.as_path(), 0o722), (folder.path(), 0o770)] {
            let before = fs::metadata(open).unwrap().permissions();
            fs::set_permissions(open, fs::Permissions::from_mode(mode)).unwrap();
            let refused = run(&path, Vec::new(), LONG).await.unwrap_err();
            assert!(matches!(&refused, Trouble::Setup(what) if what.contains("others can change")), "{refused}");
            fs::set_permissions(open, before).unwrap();
        }
        let (elsewhere, link) = (tempfile::tempdir().unwrap(), folder.path().join("link"));
        symlink(elsewhere.path().join("way"), &link).unwrap();
        symlink(&path, elsewhere.path().join("way")).unwrap();
        assert_eq!(run(&link, Vec::new(), LONG).await.unwrap(), b"no\n");
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = run(&link, Vec::new(), LONG).await.unwrap_err();
        let named = elsewhere.path().display().to_string();
        assert!(matches!(&refused, Trouble::Setup(what) if what.contains(&named)), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(run(&path, Vec::new(), LONG).await, Err(Trouble::Setup(what)) if what.contains("chmod +x")));
        assert!(matches!(run(Path::new("/none"), Vec::new(), LONG).await, Err(Trouble::Setup(_))));
    }
}
