//! The words of `bursar exec`: what goes where, and what is done when it changes.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::access::{Audiences, NotAScope, Scopes};
use crate::broker::Want;
use crate::deliver::Signal;

/// What a variable of the environment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A value.
    Value(Want),
    /// The path of the file that `--file` or `--template` calls so.
    File(PathBuf),
}

impl Source {
    /// The value, if it is one.
    pub(super) const fn want(&self) -> Option<&Want> {
        match self {
            Self::Value(want) => Some(want),
            Self::File(_) => None,
        }
    }

    /// The file, if it is one's path.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Value(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// `NAME=SOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvWord {
    pub(super) name: String,
    pub(super) source: Source,
}

/// `FILE=SOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileWord {
    pub(super) path: PathBuf,
    pub(super) want: Want,
}

/// `TEMPLATE=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateWord {
    pub(super) template: PathBuf,
    pub(super) path: PathBuf,
}

/// What is done when a value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnChange {
    /// Files are renewed, and the program is not told.
    Ignore,
    /// The program is ended and started anew.
    Restart,
    /// Files are renewed, and the program gets a signal.
    Signal(Signal),
}

/// A word that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAWord {
    #[error("write `NAME=SOURCE`")]
    NoSource,
    #[error("`{0}` is no name of a variable: letters, digits and `_`, no digit first")]
    NotAVariable(String),
    #[error("write `secret:ENTRY` or `token:PROVIDER` or `token:PROVIDER:SCOPE,…`")]
    NotAValue,
    #[error("`{0}` is no name of an entry")]
    NotAnEntry(String),
    #[error("{0}")]
    Scope(NotAScope),
    #[error("`{0}` is neither an absolute path nor a plain name for a file in the private folder")]
    NotAPath(String),
    #[error("write `restart`, `ignore` or `signal:NAME`, NAME being one of HUP, INT, QUIT, TERM, USR1, USR2")]
    NotAnAct,
}

fn want(text: &str) -> Result<Want, NotAWord> {
    let name = |text: &str| text.parse().map_err(|_| NotAWord::NotAnEntry(text.chars().take(80).collect()));
    match text.split_once(':') {
        Some(("secret", entry)) => Ok(Want::Secret(name(entry)?)),
        Some(("token", rest)) => {
            let (provider, scopes) = rest.split_once(':').unwrap_or((rest, ""));
            let scopes: Result<Scopes, _> = scopes.split(',').filter(|one| !one.is_empty()).map(str::parse).collect();
            let scopes = scopes.map_err(NotAWord::Scope)?;
            Ok(Want::Token { provider: name(provider)?, scopes, audience: Audiences::default() })
        }
        Some(_) | None => Err(NotAWord::NotAValue),
    }
}

fn path(text: &str) -> Result<PathBuf, NotAWord> {
    let is_plain = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
    if is_plain || (text.starts_with('/') && !text.ends_with('/')) {
        return Ok(text.into());
    }
    Err(NotAWord::NotAPath(text.chars().take(160).collect()))
}

impl FromStr for EnvWord {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let (name, source) = text.split_once('=').ok_or(NotAWord::NoSource)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if !is_name {
            return Err(NotAWord::NotAVariable(name.chars().take(80).collect()));
        }
        let source = match source.strip_prefix("file:") {
            Some(file) => Source::File(path(file)?),
            None => Source::Value(want(source)?),
        };
        Ok(Self { name: name.to_owned(), source })
    }
}

impl FromStr for FileWord {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let (file, source) = text.split_once('=').ok_or(NotAWord::NoSource)?;
        Ok(Self { path: path(file)?, want: want(source)? })
    }
}

impl FromStr for TemplateWord {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let (template, file) = text.split_once('=').ok_or(NotAWord::NoSource)?;
        Ok(Self { template: template.into(), path: path(file)? })
    }
}

impl FromStr for OnChange {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let signal = |name: &str| Signal::ALL.iter().find(|(word, _)| *word == name).map(|(_, signal)| *signal);
        match text.split_once(':') {
            None if text == "restart" => Ok(Self::Restart),
            None if text == "ignore" => Ok(Self::Ignore),
            Some(("signal", name)) => signal(name).map(Self::Signal).ok_or(NotAWord::NotAnAct),
            Some(_) | None => Err(NotAWord::NotAnAct),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let secret = Want::Secret("db".parse().unwrap());
        let scopes = Scopes::parse("charges:read charges:write").unwrap();
        let token = Want::Token { provider: "stripe".parse().unwrap(), scopes, audience: Audiences::default() };
        let env: EnvWord = "TOKEN=token:stripe:charges:read,charges:write".parse().unwrap();
        assert_eq!((env.name.as_str(), env.source), ("TOKEN", Source::Value(token)));
        let env: EnvWord = "PGPASSFILE=file:pgpass".parse().unwrap();
        assert_eq!(env.source, Source::File("pgpass".into()));
        let file: FileWord = "/run/app/db=secret:db".parse().unwrap();
        assert_eq!(file, FileWord { path: "/run/app/db".into(), want: secret });
        assert_eq!("signal:HUP".parse(), Ok(OnChange::Signal(Signal::Hup)));
    }

    #[test]
    fn other_words_are_refused_and_say_what_to_write() {
        for bad in [
            "",
            "A",
            "A=",
            "A=x",
            "A=secret:",
            "A=secret:A",
            "1A=secret:a",
            "A B=secret:a",
            "A=token:p:\"",
            "A=file:a/b",
        ] {
            assert!(bad.parse::<EnvWord>().is_err(), "{bad}");
        }
        for bad in ["a/b=secret:a", "..=secret:a", "/a/=secret:a", "=secret:a", "a=file:b"] {
            assert!(bad.parse::<FileWord>().is_err(), "{bad}");
        }
        for bad in ["", "stop", "signal:KILL", "signal:", "restart:"] {
            assert_eq!(bad.parse::<OnChange>(), Err(NotAWord::NotAnAct), "{bad}");
        }
    }
}
