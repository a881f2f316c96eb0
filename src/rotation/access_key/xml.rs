//! XML as IAM and STS answer it: elements and text, within bounds. Pure.
//!
//! No document type, no entities but XML's own five and characters by number; attributes and name spaces are passed over.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// How deep elements may stand in one another.
const MOST_DEPTH: usize = 16;
/// How many elements there may be.
const MOST_ELEMENTS: usize = 4_096;

/// An element. No `Debug`: its text may be a secret.
#[derive(Default)]
pub struct Element {
    name: String,
    text: String,
    inside: Vec<Self>,
}

impl Element {
    /// Reads a document: its one element.
    ///
    /// # Errors
    /// [`NotXml`]; nothing of `text` is in it.
    pub fn read(text: &str) -> Result<Self, NotXml> {
        let mut reader = Reader::from_str(text);
        // The first is the document itself.
        let (mut open, mut count) = (vec![Self::default()], 0);
        loop {
            match reader.read_event().map_err(|_| NotXml)? {
                Event::Start(start) => {
                    count += 1;
                    open.push(Self::named(start.local_name().as_ref())?);
                }
                Event::Empty(empty) => {
                    count += 1;
                    let element = Self::named(empty.local_name().as_ref())?;
                    open.last_mut().ok_or(NotXml)?.inside.push(element);
                }
                Event::End(_) => {
                    let element = open.pop().ok_or(NotXml)?;
                    open.last_mut().ok_or(NotXml)?.inside.push(element);
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(|_| NotXml)?;
                    open.last_mut().ok_or(NotXml)?.text.push_str(&text);
                }
                Event::GeneralRef(entity) => open.last_mut().ok_or(NotXml)?.text.push(character(&entity)?),
                Event::Decl(_) | Event::Comment(_) => {}
                Event::CData(_) | Event::PI(_) | Event::DocType(_) => return Err(NotXml),
                Event::Eof => break,
            }
            if open.len() > MOST_DEPTH || count > MOST_ELEMENTS {
                return Err(NotXml);
            }
        }
        match (open.pop(), open.is_empty()) {
            (Some(mut document), true) if document.inside.len() == 1 => document.inside.pop().ok_or(NotXml),
            _ => Err(NotXml),
        }
    }

    fn named(name: &[u8]) -> Result<Self, NotXml> {
        let name = std::str::from_utf8(name).map_err(|_| NotXml)?.to_owned();
        Ok(Self { name, ..Self::default() })
    }

    /// Its name, without its name space.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, without what stands in the elements inside.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// The elements inside that have this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.inside.iter().filter(move |element| element.name == name)
    }

    /// The first element down this path.
    #[must_use]
    pub fn find(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.inside.iter().find(|inside| inside.name == *name))
    }
}

fn character(entity: &BytesRef<'_>) -> Result<char, NotXml> {
    if let Some(character) = entity.resolve_char_ref().map_err(|_| NotXml)? {
        return Ok(character);
    }
    match &**entity {
        b"amp" => Ok('&'),
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"quot" => Ok('"'),
        b"apos" => Ok('\''),
        _ => Err(NotXml),
    }
}

/// A text is no XML that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not XML")]
pub struct NotXml;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_text_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<a xmlns=\"urn:x\"><b> 1&amp;&#x41; </b><c/><b>2</b><d><e>3</e></d></a>\n";
        let root = Element::read(text).unwrap();
        assert_eq!(root.name(), "a");
        assert_eq!(root.all("b").map(Element::text).collect::<Vec<_>>(), ["1&A", "2"]);
        assert_eq!(root.find(&["d", "e"]).map(Element::text), Some("3"));
        assert!(root.find(&["c"]).is_some() && root.find(&["d", "x"]).is_none());
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(17), "</a>".repeat(17));
        let many = format!("<a>{}</a>", "<b/>".repeat(MOST_ELEMENTS));
        for text in ["", "x", "<a>", "<a></b>", "<a/><b/>", "</a>", "<a>&x;</a>", "<a>&#x110000;</a>", &deep, &many] {
            assert!(Element::read(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
        assert!(Element::read("<!DOCTYPE a [<!ENTITY x \"y\">]><a/>").is_err());
    }
}
