//! The rotator `http`: calls to a service that issues credentials, as a definition describes them.

pub mod call;
pub mod list;
pub mod template;

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use serde_json::Value;

use self::call::{Call, Said};
use self::list::{MOST_FOUND, MOST_PAGES, Next, Shape, too_long};
use self::template::{Given, Pointer, Template, Tree, What, Written};
use super::random::RandomText;
use super::{Admin, Created, Ended, FarId, Found, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::secret::Secret;
use crate::wire::tls::NoTls;
use crate::wire::{Answer, Times, Wire};

/// The limits of one call.
const TIMES: Times = Times { connect: Duration::from_secs(3), whole: Duration::from_secs(10), configured: false };
/// The longest answer, in bytes.
const MOST_BODY_BYTES: usize = 1 << 20;

/// What calls make a credential, find it, use it and end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// How many values the far side accepts at once.
    pub overlap: Overlap,
    /// How long it may take to accept one.
    pub settles_within: Duration,
    /// How one is made.
    pub make: Make,
    /// How it tells what it holds, if it does.
    pub list: Option<List>,
    /// How one is used.
    pub test: Call,
    /// How one is ended; none where making one ends the former.
    pub revoke: Option<Call>,
}

impl Definition {
    /// Every call.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let make = match &self.make {
            Make::Create { call, .. } | Make::Set(call) => call,
        };
        let list = self.list.as_ref().map(|list| &list.call);
        [make, &self.test].into_iter().chain(list).chain(&self.revoke)
    }
}

/// How a credential is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// The far side invents it, and says it in its answer.
    Create {
        /// The call.
        call: Call,
        /// Its id in the answer, if it has one.
        id: Option<Pointer>,
        /// The value that is served, of the answer.
        value: Serve,
    },
    /// We invent it, and tell the far side. Its id is its label.
    Set(Call),
}

/// The value that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// A text.
    Text(Template),
    /// JSON.
    Json(Tree),
}

/// How the far side tells what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The call.
    pub call: Call,
    /// Where the credentials stand in its answer.
    pub shape: Shape,
    /// How it goes on.
    pub next: Next,
}

/// Rotates by HTTP calls.
pub struct HttpCalls {
    wire: Wire,
    definition: Definition,
    admin: Option<Admin>,
    random: RandomText,
}

impl HttpCalls {
    /// One that has sent nothing yet. `random` makes the values, where we invent.
    ///
    /// # Errors
    /// [`NoTls::NoClient`].
    pub fn new(
        definition: Definition,
        admin: Option<Admin>,
        tls: ClientConfig,
        random: RandomText,
    ) -> Result<Self, NoTls> {
        Ok(Self { wire: Wire::new(tls, TIMES, MOST_BODY_BYTES)?, definition, admin, random })
    }

    /// Sends the call once.
    async fn call(&self, call: &Call, given: &Given<'_>) -> Result<(Said, Answer), Trouble> {
        let admin = self.admin(call).await?;
        let request = call.request(&Given { admin: admin.as_ref(), ..*given })?;
        self.send(call, request).await
    }

    async fn send(&self, call: &Call, request: http::Request<Vec<u8>>) -> Result<(Said, Answer), Trouble> {
        let answer = self.wire.send(request).await.map_err(|why| Trouble::Unavailable(why.0))?;
        Ok((call.said(answer.status, &answer.headers)?, answer))
    }

    async fn admin(&self, call: &Call) -> Result<Option<Secret>, Trouble> {
        match self.admin.as_ref().filter(|_| call.speaks_of(What::Admin)) {
            Some(admin) => admin.read().await.map(Some),
            None => Ok(None),
        }
    }

    async fn found(&self, list: &List) -> Result<Vec<Found>, Trouble> {
        let admin = self.admin(&list.call).await?;
        let first = if let Next::Pages(first) = list.next { first } else { 0 };
        let mut given = Given { admin: admin.as_ref(), page: first, ..Given::default() };
        let (mut found, mut link) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let mut request = list.call.request(&given)?;
            if let Some(link) = link.take() {
                *request.uri_mut() = link;
            }
            let url = request.uri().to_string();
            let (_, answer) = self.send(&list.call, request).await?;
            let page = json(&answer)?;
            let more = list.shape.read(&page)?;
            let after = list.next.after(&page, &url)?;
            let counts_on = matches!(list.next, Next::Pages(_)) && !more.is_empty();
            found.extend(more);
            if found.len() > MOST_FOUND {
                break;
            }
            match after {
                Some(next) => link = Some(next),
                None if counts_on => given.page += 1,
                None => return Ok(found),
            }
        }
        Err(too_long())
    }

    async fn make(&self, label: &Label) -> Result<Created, Trouble> {
        let Make::Create { call, id, value } = &self.definition.make else {
            return Ok(Created { value: self.random.make()?, far_id: Some(label.as_str().parse()?) });
        };
        let (_, answer) = self.call(call, &Given { label: Some(label), ..Given::default() }).await?;
        // A crash or a fault from here on leaves a credential that nobody knows: it is looked for by its label.
        let reply = json(&answer)?;
        let far_id = id.as_ref().map(|id| far_id(id, &reply)).transpose()?;
        let given = Given { label: Some(label), id: far_id.as_ref(), reply: Some(&reply), ..Given::default() };
        Ok(Created { value: value.of(&given)?, far_id })
    }

    async fn end(&self, call: &Call, ended: &Ended, current: Option<&Held>) -> Result<(), Trouble> {
        let by_id = call.speaks_of(What::Id);
        let far_id = match &ended.far_id {
            Some(far_id) => Some(far_id.clone()),
            None if by_id => match self.only_other(current).await? {
                Some(far_id) => Some(far_id),
                None => return Ok(()),
            },
            None => None,
        };
        let given = Given { id: far_id.as_ref(), value: ended.value.as_deref(), ..Given::default() };
        // What is not there any more is ended.
        self.call(call, &given).await.map(drop)
    }

    /// The one credential at the far side that is not `current` and bears no label of ours: of a version that bursar did not
    /// make, the id is not known.
    async fn only_other(&self, current: Option<&Held>) -> Result<Option<FarId>, Trouble> {
        let list = self.definition.list.as_ref().ok_or_else(unknown)?;
        let current = current.and_then(|held| held.far_id.as_ref());
        let mut others = self.found(list).await?;
        others.retain(|found| found.label.is_none() && Some(&found.far_id) != current);
        let mut others = others.into_iter().map(|found| found.far_id);
        match (others.next(), others.next()) {
            (one, None) => Ok(one),
            (_, Some(_)) => Err(unknown()),
        }
    }
}

fn unknown() -> Trouble {
    Trouble::Setup(
        "the former credential was not made by bursar, and which one it is at the far side is not known: end it there, and \
         set `exclusive = false` until `bursar rotations` shows it retired"
            .into(),
    )
}

impl Serve {
    fn of(&self, given: &Given<'_>) -> Result<Secret, Trouble> {
        let text = match self {
            Self::Text(text) => text.fill(given, Written::Plain)?,
            Self::Json(tree) => tree.fill(given)?.to_string(),
        };
        Ok(Secret::new(text.into_bytes()))
    }
}

/// The JSON of an answer that is whole.
fn json(answer: &Answer) -> Result<Value, Trouble> {
    if !answer.whole {
        return Err(Trouble::Nonsense(format!("its answer is longer than {MOST_BODY_BYTES} bytes")));
    }
    serde_json::from_slice(&answer.body).map_err(|_| Trouble::Nonsense("its answer is not JSON".into()))
}

fn far_id(id: &Pointer, reply: &Value) -> Result<FarId, Trouble> {
    let text = id.text(reply).ok_or_else(|| Trouble::Nonsense(format!("its answer has no id at `{id}`")))?;
    text.parse()
}

impl Rotator for HttpCalls {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn overlap(&self) -> Overlap {
        self.definition.overlap
    }

    fn invents(&self) -> Invents {
        match self.definition.make {
            Make::Create { .. } => Invents::FarSide,
            Make::Set(_) => Invents::Us,
        }
    }

    fn settles_within(&self) -> Duration {
        self.definition.settles_within
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        async {
            match &self.definition.list {
                Some(list) => self.found(list).await.map(Some),
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn create<'a>(&'a self, label: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        self.make(label).boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async {
            match &self.definition.make {
                Make::Set(call) => self.call(call, &of(new)).await.map(drop),
                Make::Create { .. } => Ok(()),
            }
        }
        .boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async { Ok(self.call(&self.definition.test, &of(held)).await?.0 == Said::Yes) }.boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            match &self.definition.revoke {
                Some(call) => self.end(call, ended, current).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}

fn of(held: &Held) -> Given<'_> {
    Given { id: held.far_id.as_ref(), value: Some(&held.value), ..Given::default() }
}

impl fmt::Debug for HttpCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCalls").field("definition", &self.definition).finish_non_exhaustive()
    }
}
