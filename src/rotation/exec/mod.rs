//! The rotator `exec`: a program of the operator's, started once for each act.

pub mod program;
pub mod talk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::talk::{Asked, Said};
use super::random::RandomText;
use super::{Admin, Created, Ended, Found, Held, Invents, Label, Overlap, Rotator, Trouble};

/// What is configured of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// What it is told with each act. No secrets.
    pub values: BTreeMap<String, String>,
    /// How many values its far side accepts at once.
    pub overlap: Overlap,
    /// Who chooses the value.
    pub invents: Invents,
    /// How long the far side may take to accept one.
    pub settles_within: Duration,
    /// How long one act may take.
    pub timeout: Duration,
}

/// Rotates by a program.
pub struct Program {
    settings: Settings,
    admin: Option<Admin>,
    random: RandomText,
}

impl Program {
    /// One that has not been started yet. `random` makes the values, where we invent.
    #[must_use]
    pub const fn new(settings: Settings, admin: Option<Admin>, random: RandomText) -> Self {
        Self { settings, admin, random }
    }

    /// Starts it for one act.
    async fn ask(&self, asked: Asked<'_>) -> Result<Said, Trouble> {
        let admin = match &self.admin {
            Some(admin) => Some(admin.read().await?),
            None => None,
        };
        let request = talk::request(&asked, admin.as_ref(), &self.settings.values)?;
        let reply = program::run(&self.settings.program, request, self.settings.timeout).await?;
        talk::reply(&asked, &reply)
    }
}

impl Rotator for Program {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn overlap(&self) -> Overlap {
        self.settings.overlap
    }

    fn invents(&self) -> Invents {
        self.settings.invents
    }

    fn settles_within(&self) -> Duration {
        self.settings.settles_within
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        async {
            if self.settings.invents == Invents::Us {
                return Ok(None);
            }
            Ok(self.ask(Asked::List).await?.found)
        }
        .boxed()
    }

    fn create<'a>(&'a self, label: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async move {
            if self.settings.invents == Invents::Us {
                return Ok(Created { value: self.random.make()?, far_id: Some(label.as_str().parse()?) });
            }
            let Said { value, id, .. } = self.ask(Asked::Create(label)).await?;
            let value = value.ok_or_else(|| Trouble::Nonsense("the program's reply has no `value`".into()))?;
            Ok(Created { value, far_id: id })
        }
        .boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move { self.ask(Asked::Set { new, current }).await.map(drop) }.boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async move { Ok(self.ask(Asked::Test(held)).await?.accepted) }.boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move { self.ask(Asked::Revoke { ended, current }).await.map(drop) }.boxed()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("settings", &self.settings).finish_non_exhaustive()
    }
}
