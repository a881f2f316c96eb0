//! `[secret.NAME.rotation.http]`.

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, Method};

use super::alphabet;
use crate::config::meant::{EndpointUrl, HttpCalls, Rotator, SecretRef};
use crate::config::reading::Reader;
use crate::config::said;
use crate::config::words::Period;
use crate::document;
use crate::name::Name;
use crate::rotation::Overlap;
use crate::rotation::http::call::{Body, Call};
use crate::rotation::http::list::{Next, Shape};
use crate::rotation::http::template::{BASE, NotATemplate, Pointer, Slot, Template, Tree, Values, What, Written};
use crate::rotation::http::{Definition, List, Make, Serve};

const JUPYTERHUB: &str = include_str!("../../presets/jupyterhub.toml");
const OPENBAO_APPROLE: &str = include_str!("../../presets/openbao-approle.toml");

/// What a call may speak of, in its URL and beside it.
struct Speaks {
    url: &'static [What],
    beside: &'static [What],
}

const CREATE: Speaks = Speaks { url: &[What::Label], beside: &[What::Label, What::Admin] };
const SET: Speaks = Speaks { url: &[What::Id], beside: &[What::Id, What::Value, What::Admin] };
const LIST: Speaks = Speaks { url: &[What::Page], beside: &[What::Admin] };
const TEST: Speaks = Speaks { url: &[What::Id], beside: &[What::Id, What::Value, What::Admin] };
const REVOKE: Speaks = TEST;

impl Reader<'_> {
    /// What makes the calls that are said, or those of the preset.
    pub(super) fn http(&mut self, key: &str, said: said::Http, at: &SecretRef, stores: &[Name]) -> Option<Rotator> {
        let said = self.with_preset(key, said)?;
        let values = self.values(key, &said);
        let overlap = if said.overlap == said::HttpOverlap::One { Overlap::One } else { Overlap::Two };
        self.calls_fit(key, &said, overlap);
        let make = self.make(key, &said, &values);
        let list = self.list(key, &said, &values);
        let test = self.call(key, "test", said.test.as_ref(), &TEST, &[401, 403], &values);
        let revoke = self.call(key, "revoke", said.revoke.as_ref(), &REVOKE, &[404, 410], &values);
        let (alphabet, length) = alphabet(said.random.unwrap_or_default());
        let definition = Definition {
            overlap,
            settles_within: said.settles_within.map_or(Duration::ZERO, |Period(time)| time),
            make: make?,
            list,
            test: test?,
            revoke,
        };
        self.ids_fit(key, &definition, said.exclusive);
        let admin = said.admin.map(|admin| self.admin(key, admin, at, stores));
        if definition.calls().any(|call| call.speaks_of(What::Admin)) != admin.is_some() {
            let what = format!("`{key}` speaks of `{{admin}}` and has no `admin`, or the other way round");
            self.fault(&format!("{key}.admin"), what, Some("name the credential with which the calls are made".into()));
        }
        let ca_file = said.ca_file.map(|file| self.path(&format!("{key}.ca_file"), &file));
        let is_plain = definition.calls().any(|call| call.url.beginning().starts_with("http:"));
        let exclusive = said.exclusive;
        Some(Rotator::Http(Box::new(HttpCalls { definition, admin, exclusive, ca_file, is_plain, alphabet, length })))
    }

    /// The calls of the preset, with what is said of the place where they go.
    fn with_preset(&mut self, key: &str, said: said::Http) -> Option<said::Http> {
        let text = match said.preset {
            None => return Some(said),
            Some(said::Preset::Jupyterhub) => JUPYTERHUB,
            Some(said::Preset::OpenbaoApprole) => OPENBAO_APPROLE,
        };
        let calls = [&said.create, &said.set, &said.list, &said.test, &said.revoke];
        let shapes = said.made.is_some() || said.found.is_some() || said.overlap != said::HttpOverlap::default();
        if shapes || calls.into_iter().any(Option::is_some) {
            let what = format!("`{key}` has a `preset` and a definition of its own");
            self.fault(&format!("{key}.preset"), what, Some("keep one of them".into()));
        }
        let preset = document::read::<said::Http>(Path::new("preset"), text);
        let Ok(mut whole) = preset else {
            self.fault(
                &format!("{key}.preset"),
                "the preset cannot be read".into(),
                Some("this is a defect of bursar".into()),
            );
            return None;
        };
        whole.values.extend(said.values);
        Some(said::Http {
            base: said.base,
            admin: said.admin,
            exclusive: said.exclusive,
            ca_file: said.ca_file,
            settles_within: said.settles_within.or(whole.settles_within),
            random: said.random.or(whole.random),
            ..whole
        })
    }

    /// What the operator's own placeholders stand for.
    fn values(&mut self, key: &str, said: &said::Http) -> Values {
        let mut values: Values = said.values.clone();
        let taken = What::ALL.map(What::as_str);
        for name in said.values.keys() {
            let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) && !name.is_empty();
            if !plain || name == BASE || taken.contains(&name.as_str()) {
                let what = format!("`{key}.values` has `{name}`, which cannot be the name of a placeholder of yours");
                let help = format!("use `a-z 0-9 _`, and none of `{BASE}`, `{}`", taken.join("`, `"));
                self.fault(&format!("{key}.values"), what, Some(help));
            }
        }
        if let Some(base) = &said.base {
            let base = base.trim_end_matches('/');
            if self.address(&format!("{key}.base"), base, str::parse::<EndpointUrl>).is_some() {
                values.insert(BASE.into(), base.into());
            }
        }
        values
    }

    /// Which calls and shapes there have to be together.
    fn calls_fit(&mut self, key: &str, said: &said::Http, overlap: Overlap) {
        let mut wrong = |part: &str, what: &str, help: &str| {
            self.fault(&format!("{key}.{part}"), format!("`{key}` {what}"), Some(help.into()));
        };
        match (&said.create, &said.set) {
            (None, None) => {
                wrong("create", "lacks `create` or `set`", "`create` where the service invents the value, else `set`")
            }
            (Some(_), Some(_)) => {
                wrong("set", "has both `create` and `set`", "keep the one that is true of the service")
            }
            (Some(_), None) => {
                if said.made.is_none() {
                    wrong("made", "lacks `made`", "say where the value stands in the answer to `create`");
                }
                if said.random.is_some() {
                    wrong("random", "has `random`, which has no effect with `create`", "take it out");
                }
                if said.list.is_some() != said.found.is_some() {
                    wrong(
                        "found",
                        "has only one of `list` and `found`",
                        "`found` says where the list stands in the answer",
                    );
                }
            }
            (None, Some(_)) => {
                for (part, is_said) in
                    [("made", said.made.is_some()), ("list", said.list.is_some()), ("found", said.found.is_some())]
                {
                    if is_said {
                        wrong(part, &format!("has `{part}`, which has no effect with `set`"), "take it out");
                    }
                }
            }
        }
        if said.test.is_none() {
            wrong("test", "lacks `test`", "give a call that succeeds with a valid credential only");
        }
        match (overlap, &said.revoke) {
            (Overlap::Two, None) => wrong("revoke", "lacks `revoke`", "give it, or set `overlap = \"one\"`"),
            (Overlap::One, Some(_)) => {
                wrong("revoke", "has `revoke`, which has no effect with `overlap = \"one\"`", "take it out")
            }
            (Overlap::Two, Some(_)) | (Overlap::One, None) => {}
        }
    }

    fn make(&mut self, key: &str, said: &said::Http, values: &Values) -> Option<Make> {
        if said.set.is_some() {
            return self.call(key, "set", said.set.as_ref(), &SET, &[], values).map(Make::Set);
        }
        let call = self.call(key, "create", said.create.as_ref(), &CREATE, &[], values);
        let made = said.made.clone()?;
        let at = format!("{key}.made");
        let id = made.id.and_then(|id| self.pointer(&format!("{at}.id"), &id));
        let value = match (made.value, made.value_json) {
            (Some(text), None) => {
                let template = Template::parse(&text, values, Written::Plain);
                self.template(&format!("{at}.value"), template).map(Serve::Text)
            }
            (None, Some(text)) => {
                self.template(&format!("{at}.value_json"), Tree::parse(&text, values)).map(Serve::Json)
            }
            (None, None) | (Some(_), Some(_)) => {
                let what = format!("`{at}` needs one of `value` and `value_json`");
                self.fault(&at, what, Some("such as `value = \"{reply/token}\"`".into()));
                None
            }
        }?;
        let slots: Vec<_> = match &value {
            Serve::Text(text) => text.slots().collect(),
            Serve::Json(tree) => tree.slots(),
        };
        let mut replies = slots.iter().filter(|slot| slot.what == What::Reply).peekable();
        if replies.peek().is_some() && replies.all(|slot| Some(&slot.part) == id.as_ref()) {
            let what =
                format!("`{at}.id` is all that is secret of the value: an id stands in notes, records and the log");
            self.fault(&format!("{at}.id"), what, Some("name what the service calls the credential".into()));
        }
        let speaks: &[What] =
            if id.is_some() { &[What::Reply, What::Id, What::Label] } else { &[What::Reply, What::Label] };
        self.only(&at, slots, speaks);
        Some(Make::Create { call: call?, id, value })
    }

    fn list(&mut self, key: &str, said: &said::Http, values: &Values) -> Option<List> {
        let call = self.call(key, "list", said.list.as_ref(), &LIST, &[], values)?;
        let said = said.found.as_ref()?;
        let mut pointer = |part: &str, text: &str| self.pointer(&format!("{key}.found.{part}"), text);
        let (items, id) = (pointer("items", &said.items), pointer("id", &said.id));
        let label = pointer("label", &said.label);
        let next = said.next.as_deref().map(|next| pointer("next", next));
        let next = match (next, call.speaks_of(What::Page)) {
            (None, false) => Next::Whole,
            (None, true) => Next::Pages(said.first_page),
            (Some(next), false) => Next::Link(next?),
            (Some(_), true) => {
                let what = format!("`{key}.found.next` has no effect where `list` has `{{page}}`");
                self.fault(&format!("{key}.found.next"), what, Some("keep one of them".into()));
                return None;
            }
        };
        Some(List { call, shape: Shape { items: items?, id: id?, label: label? }, next })
    }

    /// Whether what ends or finds a credential knows its id.
    fn ids_fit(&mut self, key: &str, definition: &Definition, exclusive: bool) {
        let mut wrong =
            |part: &str, what: String, help: &str| self.fault(&format!("{key}.{part}"), what, Some(help.into()));
        let Make::Create { call: create, id, .. } = &definition.make else { return };
        let by_id = |call: &Call| call.speaks_of(What::Id);
        let needs_id =
            definition.list.is_some() || by_id(&definition.test) || definition.revoke.as_ref().is_some_and(by_id);
        if id.is_none() && needs_id {
            wrong(
                "made.id",
                format!("`{key}` lacks `made.id`, which `list`, `test` or `revoke` need"),
                "say where it stands",
            );
        }
        if definition.list.is_none() {
            return;
        }
        if !exclusive && !create.speaks_of(What::Label) {
            let what = format!("`{key}.create` leaves no `{{label}}`: what a lost reply left would not be known again");
            wrong(
                "create",
                what,
                "put it into a name or note of the credential, or set `exclusive = true` if that is so",
            );
        }
        if definition.revoke.as_ref().is_some_and(|revoke| !by_id(revoke) || revoke.speaks_of(What::Value)) {
            let what = format!("`{key}.revoke` cannot end what a lost reply left: only its `{{id}}` is known");
            wrong("revoke", what, "use `{id}`, and not `{value}`");
        }
    }

    fn call(
        &mut self,
        key: &str,
        name: &str,
        said: Option<&said::HttpCall>,
        speaks: &Speaks,
        absent: &[u16],
        values: &Values,
    ) -> Option<Call> {
        let (said, key) = (said?, format!("{key}.{name}"));
        let url = self.template(&format!("{key}.url"), Template::parse(&said.url, values, Written::Encoded));
        if let Some(url) = &url {
            self.only(&format!("{key}.url"), url.slots().collect(), speaks.url);
            self.server_stands(&format!("{key}.url"), url);
        }
        let plain = |text: &String| Template::parse(text, values, Written::Plain);
        let mut headers = Vec::new();
        for (name, text) in &said.headers {
            let at = format!("{key}.headers");
            let template = self.template(&at, plain(text));
            let Ok(name) = name.parse::<HeaderName>() else {
                self.fault(&at, format!("`{name}` is not the name of a header"), None);
                continue;
            };
            headers.extend(template.map(|template| (name, template)));
        }
        let basic = said.basic.as_ref().and_then(|text| self.template(&format!("{key}.basic"), plain(text)));
        let body = self.body(&key, said, values)?;
        if said.absent.is_some() && absent.is_empty() {
            self.fault(&format!("{key}.absent"), format!("`{key}.absent` has no effect"), Some("take it out".into()));
        }
        let absent = said.absent.clone().unwrap_or_else(|| absent.to_vec());
        let call =
            Call { method: method(said.method), url: url?, headers, basic, body, expect: said.expect.clone(), absent };
        self.only(&key, call.slots_beside_the_url(), speaks.beside);
        Some(call)
    }

    fn body(&mut self, key: &str, said: &said::HttpCall, values: &Values) -> Option<Body> {
        match (&said.json, &said.form) {
            (None, None) => Some(Body::None),
            (Some(json), None) => self.template(&format!("{key}.json"), Tree::parse(json, values)).map(Body::Json),
            (None, Some(form)) => {
                let fields = form.iter().map(|(name, text)| {
                    let template = self.template(&format!("{key}.form"), Template::parse(text, values, Written::Plain));
                    Some((name.clone(), template?))
                });
                fields.collect::<Option<_>>().map(Body::Form)
            }
            (Some(_), Some(_)) => {
                self.fault(
                    &format!("{key}.form"),
                    format!("`{key}` has both `json` and `form`"),
                    Some("keep one of them".into()),
                );
                None
            }
        }
    }

    fn template<T>(&mut self, key: &str, parsed: Result<T, NotATemplate>) -> Option<T> {
        parsed.map_err(|NotATemplate(why)| self.fault(key, format!("`{key}` {why}"), None)).ok()
    }

    fn pointer(&mut self, key: &str, text: &str) -> Option<Pointer> {
        text.parse().map_err(|why| self.fault(key, format!("`{key}` {why}"), None)).ok()
    }

    /// A fault for each placeholder that has no meaning there, or would show a secret.
    fn only(&mut self, key: &str, slots: Vec<&Slot>, known: &[What]) {
        for slot in slots.into_iter().filter(|slot| !known.contains(&slot.what)) {
            let known: Vec<_> = known.iter().map(|what| format!("`{{{}}}`", what.as_str())).collect();
            let help = format!("known there: {}", known.join(", "));
            self.fault(key, format!("`{slot}` cannot stand in `{key}`"), Some(help));
        }
    }

    /// The server stands before the first placeholder, so that nothing that is filled in can change it.
    fn server_stands(&mut self, key: &str, url: &Template) {
        let beginning = url.beginning();
        let whole = url.slots().next().is_none() || beginning.splitn(4, '/').count() == 4;
        if whole {
            self.address(key, beginning, str::parse::<EndpointUrl>);
        } else {
            let what = format!("`{key}` has a placeholder before the server's name ends");
            self.fault(key, what, Some("set `base`, and begin with `{base}/`".into()));
        }
    }
}

const fn method(said: said::HttpMethod) -> Method {
    match said {
        said::HttpMethod::Get => Method::GET,
        said::HttpMethod::Post => Method::POST,
        said::HttpMethod::Put => Method::PUT,
        said::HttpMethod::Patch => Method::PATCH,
        said::HttpMethod::Delete => Method::DELETE,
    }
}
