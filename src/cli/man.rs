//! (E) `bursar man`: the manual pages.

use std::path::{Path, PathBuf};

use super::{Exit, Globals, Outcome, Trouble, command, show};

/// Print the manual page, or write one page per verb
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write `bursar.1` and a page per verb into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self, _globals: &Globals) -> Outcome {
        match &self.out {
            Some(folder) => write(folder)?,
            None => show::bytes(&page()?)?,
        }
        Ok(Exit::Done)
    }
}

fn page() -> Result<Vec<u8>, Trouble> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command()).render(&mut page);
    rendered.map_err(|error| Trouble::failed(format!("the page cannot be made: {error}")))?;
    Ok(page)
}

fn write(folder: &Path) -> Result<(), Trouble> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command(), folder));
    written.map_err(|error| Trouble::failed(format!("`{}` cannot be written: {error}", folder.display())))
}
