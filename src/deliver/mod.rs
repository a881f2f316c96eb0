//! Programs that cannot ask: a file with their secrets and tokens is put where they read it, and they are told when it
//! changes. Here is what a delivery is; what becomes of a template (`template`), of the file (`file`), how its reader is
//! told (`notify`), and who sees to all of it (`engine`). A program that runs under bursar is in `child`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Order, Want};
use crate::secret::Secret;

pub mod child;
pub mod engine;
pub mod file;
pub mod notify;
pub mod private;
pub mod template;

pub use engine::{Deliverer, keep_delivered};
pub use file::Target;
pub use notify::Signal;
pub use template::{MOST_TEMPLATE_BYTES, NotRendered};

/// The longest file that is delivered, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// The longest path of a delivered file, in bytes: a record shows it whole.
pub const MOST_PATH_BYTES: usize = 160;

/// A file that is kept as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// For whom, and where: what the broker judges and records.
    pub order: Order,
    /// The file.
    pub target: Target,
    /// What stands in it.
    pub content: Content,
    /// How its reader is told.
    pub then: Option<Then>,
    /// Whether the file is taken away when policy does not allow it any more.
    pub remove_if_denied: bool,
}

/// What stands in a delivered file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One value, and nothing else.
    One(Want),
    /// The text of a template.
    Template(Arc<str>),
}

impl Content {
    /// The values that it wants, as far as that is known before there are any.
    ///
    /// # Errors
    /// [`NotRendered`]: a template is no template.
    pub fn wants(&self) -> Result<Vec<Want>, NotRendered> {
        match self {
            Self::One(want) => Ok(vec![want.clone()]),
            Self::Template(text) => template::wants(text),
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`NotRendered`]; a value that is not in `values` and is wanted after all is named.
    pub fn render(&self, values: &BTreeMap<Want, &Secret>) -> Result<Secret, NotRendered> {
        match self {
            Self::One(want) => template::copy(want, values),
            Self::Template(text) => template::render(text, values),
        }
    }
}

/// How the reader of a file is told that it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// A signal.
    Signal {
        /// Which.
        signal: Signal,
        /// The file in which the reader's pid stands.
        pid_file: PathBuf,
    },
    /// A command. Its arguments and its environment hold no secret.
    Command {
        /// The program, and its arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}
