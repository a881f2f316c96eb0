//! (E) Log lines for operators: `tracing` on standard error, as text or JSON. What is counted is in `metrics`, traces are
//! in `trace`, and `otlp` sends them.

pub mod metrics;
pub mod otlp;
pub mod trace;

use std::fmt;
use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::systemd;
use crate::time::{Clock, SystemClock};

/// How much is written to the operators' log. None of them shows a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What failed.
    Error,
    /// What will fail if nothing is done.
    Warn,
    /// What changed.
    #[default]
    Info,
    /// What was decided.
    Debug,
    /// Every step.
    Trace,
}

/// How the operators' log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; for the journal where standard error is one.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Level {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// The log that was started, so that a reload can change its level.
#[derive(Clone, Debug)]
pub struct Log(reload::Handle<LevelFilter, Registry>);

impl Log {
    /// Writes as much as `level` says from here on.
    pub fn set_level(&self, level: Level) {
        if let Err(error) = self.0.reload(level.filter()) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Starts the log of this process. None where it was started before: the first one stays.
pub fn start(level: Level, format: Format) -> Option<Log> {
    let (filter, handle) = reload::Layer::new(level.filter());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Json => log.with(lines.json().flatten_event(true).with_target(false).with_timer(Now)).try_init(),
        Format::Text => log.with(lines.event_format(Style::of_stderr())).try_init(),
    };
    started.ok().map(|()| Log(handle))
}

/// The wall clock, as records write it.
struct Now;

impl FormatTime for Now {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{}", SystemClock.now().wall.rfc3339().as_str())
    }
}

/// How a line of text begins.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// With its priority, as sd-daemon(3) says; the journal adds the time.
    Journal,
    /// With time and level.
    Plain,
    /// With time and level, in colour.
    Terminal,
}

impl Style {
    fn of_stderr() -> Self {
        if systemd::stderr_is_journal() {
            Self::Journal
        } else if std::io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Plain
        }
    }

    fn begin(self, line: &mut Writer<'_>, level: tracing::Level) -> fmt::Result {
        match self {
            Self::Journal => return write!(line, "<{}>", priority(level)),
            Self::Plain => {}
            Self::Terminal => line.write_str(colour(level))?,
        }
        Now.format_time(line)?;
        write!(line, " {level:>5} ")?;
        if matches!(self, Self::Terminal) { line.write_str("\x1b[0m") } else { Ok(()) }
    }
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        self.begin(&mut line, *event.metadata().level())?;
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        // What a server answered may stand in a field: it must not begin a line of its own, or move a cursor.
        for part in fields.chars() {
            if part.is_control() { write!(line, "{}", part.escape_default())? } else { line.write_char(part)? }
        }
        writeln!(line)
    }
}

fn colour(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "\x1b[31m",
        tracing::Level::WARN => "\x1b[33m",
        tracing::Level::INFO | tracing::Level::DEBUG | tracing::Level::TRACE => "\x1b[2m",
    }
}

/// The priority of syslog(3) that a level means.
fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        tracing::Level::DEBUG | tracing::Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(level: Level, act: impl FnOnce(&Log)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (filter, handle) = reload::Layer::new(level.filter());
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let log = tracing_subscriber::registry().with(filter).with(layer.event_format(Style::Journal));
        tracing::subscriber::with_default(log, || act(&Log(handle)));
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_journal_reads_the_priority_in_front() {
        let lines = lines_of(Level::Info, |_| {
            tracing::warn!(provider = "stripe", "slow");
            tracing::debug!("not shown");
        });
        assert_eq!(lines, "<4>slow provider=\"stripe\"\n");
    }

    #[test]
    fn one_event_is_one_line() {
        let lines = lines_of(Level::Info, |_| tracing::info!(answer = %"a\n<0>forged\u{1b}[2J", "got"));
        assert_eq!(lines, "<6>got answer=a\\n<0>forged\\u{1b}[2J\n");
    }

    #[test]
    fn a_reload_changes_the_level() {
        let lines = lines_of(Level::Error, |log| {
            tracing::info!("before");
            log.set_level(Level::Debug);
            tracing::debug!("after");
        });
        assert_eq!(lines, "<7>after\n");
    }
}
