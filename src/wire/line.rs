//! (E) A line to a server that speaks no HTTP, such as a database: TCP or a unix socket, and TLS wherever it leaves this host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{OwnRoots, Roots, Tls};
use super::{LOCALHOST, NoAnswer};
use crate::document::bytes_of;

/// The most time for name resolution and connection, and again for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest `ca_file`, in bytes.
const LARGEST_ROOTS: usize = 1 << 20;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `HOST:PORT`, an IPv6 address in brackets.
    Tcp {
        /// A DNS name or an IP address.
        host: ServerName<'static>,
        /// The port.
        port: u16,
    },
    /// A unix socket, or the directory of one, where the server's protocol names the socket in it: an absolute path.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether it is this host alone that it can be reached from, so that nobody is between.
    #[must_use]
    pub fn is_this_host(&self) -> bool {
        match self {
            Self::Tcp { host: ServerName::IpAddress(ip), .. } => IpAddr::from(*ip).is_loopback(),
            Self::Tcp { host, .. } => is_localhost(host),
            Self::Unix(_) => true,
        }
    }

    /// The host's name or address as readers are told it; the path of a unix socket.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Tcp { host, .. } => host.to_str().into_owned(),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

/// An address is not one where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither `HOST:PORT` nor the absolute path of a unix socket")]
pub struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        if text.len() > 1_024 || text.chars().any(char::is_control) {
            return Err(NotAnEndpoint);
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAnEndpoint)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An IPv6 address without brackets leaves open where it ends.
        let host = bare.or_else(|| (!host.contains(':')).then_some(host)).ok_or(NotAnEndpoint)?;
        let host = ServerName::try_from(host.to_owned()).map_err(|_| NotAnEndpoint)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(NotAnEndpoint)?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: ServerName::IpAddress(ip), port } => SocketAddr::new((*ip).into(), *port).fmt(f),
            Self::Tcp { host, port } => write!(f, "{}:{port}", host.to_str()),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The way to one server. It is encrypted unless the server is on this host, and there too where `ca_file` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The authorities that vouch for it, read anew for each connection; none: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Line {
    /// Whether what is sent is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        let is_tcp = matches!(self.endpoint, Endpoint::Tcp { .. });
        is_tcp && (self.ca_file.is_some() || !self.endpoint.is_this_host())
    }

    /// A connection, not encrypted yet.
    ///
    /// # Errors
    /// [`NoAnswer`], when none is made within 5 s.
    pub async fn connect(&self) -> Result<Box<dyn Duplex>, NoAnswer> {
        let endpoint = &self.endpoint;
        let connecting = async {
            Ok(match endpoint {
                Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?) as Box<dyn Duplex>,
                Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
            })
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|why: std::io::Error| NoAnswer(format!("`{endpoint}`: {why}"))),
            Err(_) => Err(NoAnswer(format!("`{endpoint}` took longer than 5 s to connect"))),
        }
    }

    /// A connection as it is to be used: encrypted where it has to be, from its first byte.
    ///
    /// # Errors
    /// As [`Self::connect`] and [`Self::encrypt`].
    pub async fn open(&self) -> Result<Box<dyn Duplex>, NoAnswer> {
        let plain = self.connect().await?;
        if self.is_encrypted() { self.encrypt(plain).await } else { Ok(plain) }
    }

    /// TLS over `plain`, with a server that the authorities vouch for.
    ///
    /// # Errors
    /// [`NoAnswer`]: the handshake failed or took more than 5 s, the certificate is not the server's, `ca_file` cannot be
    /// used.
    pub async fn encrypt(&self, plain: Box<dyn Duplex>) -> Result<Box<dyn Duplex>, NoAnswer> {
        let Endpoint::Tcp { host, .. } = &self.endpoint else {
            return Err(NoAnswer("a unix socket is not encrypted".into()));
        };
        let roots = match self.ca_file.clone() {
            Some(path) => tokio::task::spawn_blocking(move || own_roots(&path)).await.map_err(ended)??,
            None => Roots::System,
        };
        let config = Tls::default().config(&roots).map_err(|why| NoAnswer(why.to_string()))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(host.clone(), plain);
        match timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(Ok(encrypted)) => Ok(Box::new(encrypted)),
            Ok(Err(why)) => Err(NoAnswer(format!("TLS with `{}`: {why}", self.endpoint))),
            Err(_) => Err(NoAnswer(format!("TLS with `{}` took longer than 5 s", self.endpoint))),
        }
    }
}

fn ended(_: tokio::task::JoinError) -> NoAnswer {
    NoAnswer("reading `ca_file` ended early".into())
}

fn own_roots(path: &Path) -> Result<Roots, NoAnswer> {
    let said = |why: &dyn fmt::Display| NoAnswer(format!("`ca_file` `{}`: {why}", path.display()));
    let pem = bytes_of(path, LARGEST_ROOTS).map_err(|why| said(&why))?;
    Ok(Roots::Own(OwnRoots::from_pem(&pem).map_err(|why| said(&why))?))
}

async fn tcp(host: &ServerName<'_>, port: u16) -> std::io::Result<TcpStream> {
    let stream = if let ServerName::IpAddress(ip) = host {
        TcpStream::connect((IpAddr::from(*ip), port)).await?
    } else if is_localhost(host) {
        // Loopback, whatever a name server says (RFC 6761 §6.3).
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        TcpStream::connect(&both.map(|ip| SocketAddr::new(ip, port))[..]).await?
    } else {
        TcpStream::connect((&*host.to_str(), port)).await?
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_localhost(host: &ServerName<'_>) -> bool {
    host.to_str().eq_ignore_ascii_case(LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_as_it_is_shown() {
        for text in ["db.example.com:5432", "127.0.0.1:1", "[::1]:5432", "/run/postgresql"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        let shapeless = ["", "db", "db:", "db:0", "db:65536", "::1:5432", "[::1]", "run/x", "a b:1", ":5432", "/a\nb"];
        for text in shapeless {
            assert_eq!(text.parse::<Endpoint>(), Err(NotAnEndpoint), "{text}");
        }
    }

    #[test]
    fn what_leaves_this_host_is_encrypted() {
        let line = |address: &str, ca_file: Option<&str>| {
            Line { endpoint: address.parse().unwrap(), ca_file: ca_file.map(Into::into) }.is_encrypted()
        };
        assert!(line("db.example.com:5432", None) && line("192.0.2.1:5432", None));
        assert!(line("localhost:5432", Some("/ca.pem")) && !line("localhost:5432", None));
        assert!(!line("127.0.0.1:5432", None) && !line("[::1]:5432", None) && !line("/run/postgresql", None));
    }
}
