//! Addresses in the configuration that no room has a type for.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

pub use crate::oauth::settings::NotUsable;

const MOST_BYTES: usize = 2048;

/// A page that people open: `https` or `http`, anywhere.
///
/// # Errors
/// [`NotUsable`], without the text.
pub fn page(text: &str) -> Result<Url, NotUsable> {
    let url = whole(text)?;
    let web = matches!(url.scheme(), "https" | "http");
    if web { Ok(url) } else { Err(NotUsable { what: "is not the address of a page", help: "use `https`" }) }
}

/// A resource: an absolute URI without fragment (RFC 8707 §2).
///
/// # Errors
/// [`NotUsable`], without the text.
pub fn resource(text: &str) -> Result<(), NotUsable> {
    match Url::parse(text) {
        Ok(url) if url.fragment().is_none() => Ok(()),
        Ok(_) => Err(NotUsable { what: "has a fragment", help: "write it up to the `#` (RFC 8707 §2)" }),
        Err(_) => Err(NotUsable {
            what: "is not an absolute URI",
            help: "write it as in `https://api.example.com`; a provider's own word goes into `audience`",
        }),
    }
}

/// A collector: `http://ADDRESS:PORT`, perhaps with a path; its address, and the path without its last `/`.
#[must_use]
pub fn collector(text: &str) -> Option<(SocketAddr, String)> {
    let url =
        whole(text).ok().filter(|url| url.scheme() == "http" && url.query().is_none() && url.fragment().is_none())?;
    let ip = match url.host()? {
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
        Host::Domain(_) => return None,
    };
    let address = SocketAddr::new(ip, url.port_or_known_default()?);
    Some((address, url.path().trim_end_matches('/').to_owned()))
}

fn whole(text: &str) -> Result<Url, NotUsable> {
    let Some(url) = Some(text).filter(|text| text.len() <= MOST_BYTES).and_then(|text| Url::parse(text).ok()) else {
        return Err(NotUsable {
            what: "is not a URL",
            help: "write it whole, as in `https://login.example.com/token`",
        });
    };
    if !url.username().is_empty() || url.password().is_some() {
        let help = "take it out: a credential goes into a store, and a reference to it into this file";
        return Err(NotUsable { what: "has a user name or password in it", help });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_on_the_web() {
        assert!(page("http://wiki.example/x#runbook").is_ok());
        assert!(page("javascript:x").is_err() && page("https://me:pw@wiki.example/").is_err());
    }

    #[test]
    fn a_resource_is_absolute_and_has_no_fragment() {
        assert!(resource("https://api.example.com/v1?x=y").is_ok() && resource("urn:example:api").is_ok());
        assert!(resource("api.example.com").is_err() && resource("https://a/#b").is_err());
    }
}
