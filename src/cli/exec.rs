//! (E) `bursar exec -- CMD`: run a program with its secrets and tokens, as an application itself.

mod values;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Signal, getegid, geteuid, set_dumpable_behavior};

use super::offline::runtime;
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::broker::Want;
use crate::config::words::Period;
use crate::crypto::SystemRandom;
use crate::deliver::child::{Child, NotStarted, Signals, Variable, code_of};
use crate::deliver::private::PrivateFolder;
use crate::deliver::{Content, MOST_TEMPLATE_BYTES, NotRendered, Target};
use crate::document::bytes_of;
use crate::secret::Secret;
use crate::time::{Clock, Deadline, SystemClock};

use values::{Got, Next, Values, ask, watch};
use words::{EnvWord, FileWord, OnChange, Source, TemplateWord};

/// How a program learns where its files are.
const FOLDER: &str = "BURSAR_FILES";
/// The wait between two attempts to reach an agent that is not there yet.
const BETWEEN: Duration = Duration::from_millis(500);
/// The wait until files are written again that could not be.
const PUT_AGAIN: Duration = Duration::from_secs(2);
/// How many values one program may have.
const MOST_VALUES: usize = 256;

/// Run a program with secrets and tokens as environment variables or files
///
/// The agent is asked as by any application: policy decides, by what the kernel says of this process, and each value has
/// its record. SOURCE is `secret:ENTRY`, `token:PROVIDER` or `token:PROVIDER:SCOPE,…`. No value stands in an argument.
///
/// The environment of a process can be read in /proc by every process of the same user, and is inherited by what it
/// starts: prefer files. Files lie in a folder in memory that is this process's alone, and go when the program ends; its
/// path is in `BURSAR_FILES`.
///
/// Signals are passed on. The exit code is the program's, 128 and the number of the signal that ended it, 127 if there is
/// no such program, 126 if it cannot be run; 3 if policy refuses and 4 if the agent does not answer, before it was started.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// A variable of the environment: `NAME=SOURCE`, or `NAME=file:FILE` for the path of a file; may be repeated
    #[arg(long = "env", value_name = "NAME=SOURCE")]
    env: Vec<EnvWord>,
    /// A file: `FILE=SOURCE`, FILE being a plain name in the private folder or an absolute path; may be repeated
    #[arg(long = "file", value_name = "FILE=SOURCE")]
    files: Vec<FileWord>,
    /// A file from a template: `TEMPLATE=FILE`; may be repeated
    #[arg(long = "template", value_name = "TEMPLATE=FILE")]
    templates: Vec<TemplateWord>,
    /// What is done when a value changes: `ignore` (files are renewed), `signal:NAME` (and it is told), `restart`
    #[arg(long, value_name = "ACT", default_value = "ignore")]
    on_change: OnChange,
    /// For how long to wait for an agent that does not answer yet
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Period,
    /// How long the program has to end before it is killed, where it is restarted
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    stop_timeout: Period,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A file of the program.
struct Filled {
    target: Target,
    content: Content,
    /// Whether it is there: what stood at its path before is not ours to remove.
    is_put: bool,
}

/// A program with its values.
struct Run<'a> {
    exec: &'a Exec,
    globals: &'a Globals,
    files: Vec<Filled>,
    values: Values,
    /// When each value is to be asked for anew.
    next: BTreeMap<Want, Next>,
    folder: Option<PrivateFolder>,
    /// Whether a value changed of which not every file could be written yet.
    is_behind: bool,
}

/// What happened while the program ran.
enum Event {
    Ended(std::io::Result<ExitStatus>),
    Heard(Signal),
    Changed(Want, Secret),
    Again,
}

impl Exec {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        // Values pass through this process. What it starts is dumpable again, and not otherwise restricted.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        runtime()?.block_on(async {
            let mut run = Run::new(self, globals)?;
            run.fetch().await?;
            // From before the first file on: who ends this process would leave it there.
            let signals = Signals::hear();
            let signals = signals.map_err(|error| Trouble::failed(format!("signals cannot be heard: {error}")))?;
            run.put()?;
            run.through(signals).await
        })
    }

    fn needs_folder(&self) -> bool {
        let paths = self.files.iter().map(|file| &file.path).chain(self.templates.iter().map(|one| &one.path));
        paths.into_iter().any(|path| path.is_relative())
    }
}

impl<'a> Run<'a> {
    fn new(exec: &'a Exec, globals: &'a Globals) -> Result<Self, Trouble> {
        let folder = exec.needs_folder().then(|| PrivateFolder::make(&SystemRandom)).transpose();
        let folder = folder.map_err(|why| Trouble::failed(why.to_string()))?;
        let (files, values, next, is_behind) = Default::default();
        let mut run = Self { exec, globals, files, values, next, folder, is_behind };
        for FileWord { path, want } in &exec.files {
            run.files.push(Filled { target: run.target(path), content: Content::One(want.clone()), is_put: false });
        }
        for TemplateWord { template, path } in &exec.templates {
            run.files.push(Filled { target: run.target(path), content: template_of(template)?, is_put: false });
        }
        for EnvWord { name, source } in &exec.env {
            if let Source::File(file) = source
                && !run.files.iter().any(|one| one.target.path == run.place(file))
            {
                let what =
                    format!("`{name}` names the file `{}`, and no `--file` or `--template` does", file.display());
                return Err(Trouble::new(Exit::Usage, what));
            }
        }
        Ok(run)
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.folder.as_ref().map_or_else(|| path.to_owned(), |folder| folder.path().join(path))
    }

    fn target(&self, path: &Path) -> Target {
        Target { path: self.place(path), mode: 0o400, uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Asks for everything that the program is to have.
    async fn fetch(&mut self) -> Result<(), Trouble> {
        let until = SystemClock.now().deadline(self.exec.wait.0);
        let mut wants: Vec<Want> = self.exec.env.iter().filter_map(|word| word.source.want().cloned()).collect();
        for file in &self.files {
            wants.extend(file.content.wants().map_err(|why| Trouble::failed(why.to_string()))?);
        }
        for want in wants {
            self.get(want, until).await?;
        }
        // A template may say only then what else it wants.
        while let Some(want) = self.missing()? {
            self.get(want, until).await?;
        }
        Ok(())
    }

    fn missing(&self) -> Result<Option<Want>, Trouble> {
        for file in &self.files {
            match file.content.render(&self.known()) {
                Ok(_) => {}
                Err(NotRendered::Wants(want)) => return Ok(Some(*want)),
                Err(why @ NotRendered::Template { .. }) => return Err(Trouble::failed(why.to_string())),
            }
        }
        Ok(None)
    }

    async fn get(&mut self, want: Want, until: Deadline) -> Result<(), Trouble> {
        if self.values.contains_key(&want) {
            return Ok(());
        }
        if self.values.len() >= MOST_VALUES {
            return Err(Trouble::failed(format!("more than {MOST_VALUES} values are wanted")));
        }
        loop {
            match ask(self.globals, &want).await {
                Ok(Got { value, next }) => {
                    self.next.insert(want.clone(), next);
                    self.values.insert(want, value);
                    return Ok(());
                }
                Err(trouble) if trouble.exit() == Exit::Unavailable && until.left(SystemClock.now()) >= BETWEEN => {
                    tokio::time::sleep(BETWEEN).await;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    fn known(&self) -> BTreeMap<Want, &Secret> {
        self.values.iter().map(|(want, value)| (want.clone(), value)).collect()
    }

    /// Writes the files.
    fn put(&mut self) -> Result<(), Trouble> {
        let known = self.values.iter().map(|(want, value)| (want.clone(), value)).collect();
        for Filled { target, content, is_put } in &mut self.files {
            let text = content.render(&known).map_err(|why| Trouble::failed(why.to_string()))?;
            target.put(&text).map_err(|why| Trouble::failed(why.to_string()))?;
            *is_put = true;
        }
        Ok(())
    }

    fn start(&self) -> Result<Child, NotStarted> {
        let places: Vec<_> = self.exec.env.iter().map(|word| word.source.file().map(|file| self.place(file))).collect();
        let mut variables = Vec::new();
        for (EnvWord { name, source }, place) in self.exec.env.iter().zip(&places) {
            let value = source.want().and_then(|want| self.values.get(want)).map(Variable::Value);
            let path = place.as_ref().map(|path| Variable::Path(path.as_os_str()));
            variables.extend(value.or(path).map(|variable| (name.clone(), variable)));
        }
        if let Some(folder) = &self.folder {
            variables.push((FOLDER.to_owned(), Variable::Path(folder.path().as_os_str())));
        }
        Child::start(&self.exec.command, &variables)
    }

    /// Runs the program to its end.
    async fn through(&mut self, mut signals: Signals) -> Outcome {
        let wants = self.next.iter().map(|(want, next)| (want.clone(), next.clone())).collect();
        let mut changes = watch(self.globals, wants);
        let mut child = match self.start() {
            Ok(child) => child,
            Err(why) => return Ok(self.not_started(&why)),
        };
        loop {
            let event = tokio::select! {
                biased;
                ended = child.ended() => Event::Ended(ended),
                signal = signals.next() => Event::Heard(signal),
                Some((want, value)) = changes.recv() => Event::Changed(want, value),
                () = tokio::time::sleep(PUT_AGAIN), if self.is_behind => Event::Again,
            };
            let is_new = match event {
                Event::Ended(ended) => return Ok(Exit::Of(code_of(ended.map_err(lost)?))),
                Event::Heard(signal) => {
                    if Signals::is_to_pass_on(signal) {
                        child.signal(signal)
                    } else {
                        child.bury_orphans()
                    }
                    false
                }
                Event::Changed(want, value) => self.is_another(want, value),
                Event::Again => true,
            };
            if is_new
                && self.renewed()
                && let Some(exit) = self.act(&mut child, &mut signals).await?
            {
                return Ok(exit);
            }
        }
    }

    /// Takes a value over that was asked for anew; whether it is another.
    fn is_another(&mut self, want: Want, value: Secret) -> bool {
        let is_known = self.values.get(&want).is_some_and(|old| old.matches(value.expose()));
        if !is_known {
            self.values.insert(want, value);
        }
        !is_known
    }

    /// Writes the files anew; whether all of them are. Else the old ones stand, which is said once, and it is tried again.
    fn renewed(&mut self) -> bool {
        let was_behind = std::mem::take(&mut self.is_behind);
        if let Err(trouble) = self.put() {
            self.is_behind = true;
            if !was_behind {
                show::trouble(
                    self.globals,
                    &trouble.help("the program keeps the files that it has; it is tried again"),
                );
            }
        }
        !self.is_behind
    }

    /// Does what is to be done on a change; the exit, where the program came to its end for good.
    async fn act(&self, child: &mut Child, signals: &mut Signals) -> Result<Option<Exit>, Trouble> {
        match self.exec.on_change {
            OnChange::Ignore => Ok(None),
            OnChange::Signal(signal) => {
                child.signal(signal.number());
                Ok(None)
            }
            OnChange::Restart => self.restart(child, signals).await,
        }
    }

    /// Ends the program and starts it anew; the exit, where a signal says that it is to end for good.
    async fn restart(&self, child: &mut Child, signals: &mut Signals) -> Result<Option<Exit>, Trouble> {
        let mut last = None;
        let ended = {
            let stopped = child.stop(self.exec.stop_timeout.0);
            tokio::pin!(stopped);
            loop {
                tokio::select! {
                    ended = &mut stopped => break ended.map_err(lost)?,
                    signal = signals.next() => last = [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal).then_some(signal).or(last),
                }
            }
        };
        if last.is_some() {
            // Somebody wants it to end, and it has.
            return Ok(Some(Exit::Of(code_of(ended))));
        }
        match self.start() {
            Ok(started) => *child = started,
            Err(why) => return Ok(Some(self.not_started(&why))),
        }
        Ok(None)
    }

    fn not_started(&self, why: &NotStarted) -> Exit {
        show::trouble(self.globals, &Trouble::failed(why.to_string()));
        Exit::Of(why.code())
    }
}

impl Drop for Run<'_> {
    /// Files outside the private folder go too.
    fn drop(&mut self) {
        for Filled { target, .. } in self.files.iter().filter(|file| file.is_put) {
            let _ = target.remove();
        }
    }
}

fn lost(error: std::io::Error) -> Trouble {
    Trouble::failed(format!("the program's end cannot be learnt: {error}"))
}

fn template_of(file: &Path) -> Result<Content, Trouble> {
    let unreadable = |why: String| Trouble::failed(format!("the template `{}`: {why}", file.display()));
    let bytes = bytes_of(file, MOST_TEMPLATE_BYTES).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() > MOST_TEMPLATE_BYTES {
        return Err(unreadable(format!("it is longer than {MOST_TEMPLATE_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is no text".to_owned()))?;
    Ok(Content::Template(text.into()))
}
