//! Addresses in the configuration: which URL a client secret may be sent to.

use url::{Host, Url};

/// What is wrong with an address, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUsable {
    /// What is wrong, after the value: "is not a URL".
    pub what: &'static str,
    /// What to do next.
    pub help: &'static str,
}

const MOST_BYTES: usize = 2048;

/// An endpoint: `https`, or plain `http` to this machine; without user name, password and fragment (RFC 6749 §3.2).
///
/// # Errors
/// [`NotUsable`], without the text.
pub fn endpoint(text: &str) -> Result<Url, NotUsable> {
    let url = whole(text)?;
    if url.fragment().is_some() {
        return Err(NotUsable { what: "has a fragment", help: "write it up to the `#` (RFC 6749 §3.2)" });
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| is_loopback(&host)) => Ok(url),
        "http" => Err(NotUsable {
            what: "is plain http, which would show the client secret to the network",
            help: "use `https`; plain http goes to 127.0.0.0/8, `[::1]` and `localhost` only",
        }),
        _ => Err(NotUsable { what: "is not an `https` URL", help: "use `https`" }),
    }
}

/// An issuer: an endpoint without query (RFC 8414 §2).
///
/// # Errors
/// [`NotUsable`], without the text.
pub fn issuer(text: &str) -> Result<Url, NotUsable> {
    let url = endpoint(text)?;
    if url.query().is_some() {
        let help = "write it as the provider's metadata does, up to the `?` (RFC 8414 §2)";
        return Err(NotUsable { what: "has a query, which an issuer must not have", help });
    }
    Ok(url)
}

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

/// Whether the host can be nothing but this machine (RFC 6761 §6.3).
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for good in ["https://idp.example/t", "http://127.0.0.1:1/t", "http://[::1]/t", "http://localhost:8/t?a=b"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        let bad = ["http://idp.example/t", "http://10.0.0.1/", "http://localhost.example/", "http://0.0.0.0/"];
        for bad in bad.into_iter().chain(["https://me:pw@idp.example/", "https://idp.example/#x", "ftp://a/", "a", ""])
        {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_issuer_has_no_query() {
        assert!(issuer("https://idp.example/realm").is_ok());
        assert!(issuer("https://idp.example/?tenant=a").is_err());
    }

    #[test]
    fn a_resource_is_absolute_and_has_no_fragment() {
        assert!(resource("https://api.example.com/v1?x=y").is_ok() && resource("urn:example:api").is_ok());
        assert!(resource("api.example.com").is_err() && resource("https://a/#b").is_err());
    }
}
