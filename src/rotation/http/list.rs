//! What a far side lists: read page by page, within bounds. Pure.

use http::Uri;
use serde_json::Value;
use url::Url;

use super::template::Pointer;
use crate::rotation::{FarId, Found, Label, Trouble};

/// How many pages are read.
pub const MOST_PAGES: u32 = 20;
/// How many credentials are read.
pub const MOST_FOUND: usize = 2_000;

/// Where the credentials stand in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The array of them.
    pub items: Pointer,
    /// The id of one.
    pub id: Pointer,
    /// The text that holds the label of one.
    pub label: Pointer,
}

/// How a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It does not: the answer is the whole.
    Whole,
    /// By the address that stands there, until none does.
    Link(Pointer),
    /// By the number of the page, from this one, until a page is empty.
    Pages(u32),
}

impl Shape {
    /// The credentials of one page.
    ///
    /// # Errors
    /// [`Trouble::Nonsense`], where the answer is no such list.
    pub fn read(&self, page: &Value) -> Result<Vec<Found>, Trouble> {
        let items = self.items.find(page).and_then(Value::as_array);
        let items = items.ok_or_else(|| Trouble::Nonsense(format!("its list has no array at `{}`", self.items)))?;
        items.iter().map(|item| self.one(item)).collect()
    }

    fn one(&self, item: &Value) -> Result<Found, Trouble> {
        let id = self.id.text(item);
        let id = id.ok_or_else(|| Trouble::Nonsense(format!("an entry of its list has no id at `{}`", self.id)))?;
        let far_id: FarId = id.parse()?;
        let label = self.label.text(item).as_deref().and_then(Label::in_text);
        Ok(Found { far_id, label })
    }
}

impl Next {
    /// The address of the page after `page`, which was read from `url`, if there is one.
    ///
    /// # Errors
    /// [`Trouble::Nonsense`], where it is at another server: what is sent there holds a credential.
    pub fn after(&self, page: &Value, url: &str) -> Result<Option<Uri>, Trouble> {
        let Self::Link(pointer) = self else { return Ok(None) };
        let Some(link) = pointer.text(page) else { return Ok(None) };
        let nonsense = |what: &str| Trouble::Nonsense(format!("its list goes on {what}"));
        let here = Url::parse(url).map_err(|_| nonsense("from nowhere"))?;
        let there = here.join(&link).map_err(|_| nonsense("at no usable address"))?;
        if there.origin() != here.origin() {
            return Err(nonsense("at another server, which is not asked"));
        }
        if there == here {
            return Err(nonsense("where it was"));
        }
        // What is said of a connection names its server as the address does, and that could repeat what was sent.
        if !there.username().is_empty() || there.password().is_some() {
            return Err(nonsense("at no usable address"));
        }
        there.as_str().parse().map(Some).map_err(|_| nonsense("at no usable address"))
    }
}

/// A list is longer than is read.
#[must_use]
pub fn too_long() -> Trouble {
    Trouble::Nonsense(format!(
        "its list has more than {MOST_PAGES} pages or {MOST_FOUND} entries: have fewer there, or narrow the `url` of `list`"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Attempt;

    fn shape() -> Shape {
        Shape { items: "/keys".parse().unwrap(), id: "/id".parse().unwrap(), label: "/note".parse().unwrap() }
    }

    #[test]
    fn a_list_gives_ids_and_labels() {
        let label = Label::new(&Attempt::from_bytes([3; 16]));
        let page = json!({ "keys": [{ "id": 7, "note": format!("made: {label}") }, { "id": "x" }] });
        let found = shape().read(&page).unwrap();
        assert_eq!(found[0], Found { far_id: "7".parse().unwrap(), label: Some(label) });
        assert_eq!(found[1], Found { far_id: "x".parse().unwrap(), label: None });
    }

    #[test]
    fn what_is_no_such_list_is_nonsense() {
        for page in
            [json!({}), json!({ "keys": {} }), json!({ "keys": [{}] }), json!({ "keys": [{ "id": "é" }] }), json!(1)]
        {
            assert!(matches!(shape().read(&page), Err(Trouble::Nonsense(_))), "{page}");
        }
    }

    #[test]
    fn a_list_goes_on_at_the_same_server_only() {
        let next = Next::Link("/next".parse().unwrap());
        let after = |link: &str| next.after(&json!({ "next": link }), "https://a.test/v1/keys?size=2");
        assert_eq!(after("/v1/keys?page=2").unwrap().unwrap(), "https://a.test/v1/keys?page=2");
        assert_eq!(next.after(&json!({ "next": null }), "https://a.test/"), Ok(None));
        for link in [
            "https://b.test/v1/keys",
            "http://a.test/v1/keys",
            "//b.test/",
            "https://a.test/v1/keys?size=2",
            "https://x@a.test/",
            "https://:x@a.test/",
        ] {
            assert!(matches!(after(link), Err(Trouble::Nonsense(_))), "{link}");
        }
    }
}
