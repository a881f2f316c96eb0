//! (E) Where a JSON Web Key Set is published: in a file, and at an address of this host.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as Listener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::durable;
use crate::rotation::Trouble;

/// The path of the set.
const PATH: &str = "/jwks.json";
/// How many connections there are at once; the next waits.
const MOST_CONNECTIONS: usize = 16;
/// How long one may take from its beginning to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes; hyper wants 8 KiB at least.
const LONGEST_HEAD: usize = 8 * 1024;
/// Who may read the file: it holds nothing private.
const MODE: u32 = 0o644;

/// Where a set is published.
#[derive(Default)]
pub struct Published {
    /// A file that a web server passes on.
    pub file: Option<PathBuf>,
    /// A page of this process.
    pub page: Option<Arc<Page>>,
}

impl Published {
    /// Replaces what is published. A crash in the middle leaves the file as it was, or as it is to be.
    ///
    /// # Errors
    /// [`Trouble::Setup`], when the file cannot be written.
    pub async fn publish(&self, set: &str) -> Result<(), Trouble> {
        if let Some(file) = self.file.clone() {
            let text = set.to_owned();
            let written = spawn_blocking(move || replace(&file, &text)).await;
            written.map_err(|_| Trouble::Setup("writing the key set ended early".into()))??;
        }
        if let Some(page) = &self.page {
            page.text.send_replace(Some(set.into()));
        }
        Ok(())
    }
}

fn replace(file: &Path, text: &str) -> Result<(), Trouble> {
    if std::fs::read(file).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(());
    }
    let not = |why: io::Error| Trouble::Setup(format!("`{}` cannot be written: {why}", file.display()));
    durable::replace(file, text.as_bytes(), MODE).map_err(not)
}

/// `GET /jwks.json` at an address of this host, until it is dropped.
pub struct Page {
    address: SocketAddr,
    text: watch::Sender<Option<Arc<str>>>,
    serving: JoinHandle<()>,
}

impl Page {
    /// Listens at `address`. Until something is published, the answer is 503.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = Listener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let (text, shown) = watch::channel(None);
        Ok(Self { address, text, serving: tokio::spawn(serve(listener, shown)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shown: watch::Receiver<Option<Arc<str>>>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shown = shown.clone();
                tokio::spawn(async move {
                    drop(tokio::time::timeout(TIMEOUT, converse(stream, shown)).await);
                    drop(place);
                });
            }
            // Out of descriptors, say: not at once again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: TcpStream, shown: watch::Receiver<Option<Arc<str>>>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, shown.borrow().clone());
        async { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(TIMEOUT).keep_alive(false).max_buf_size(LONGEST_HEAD);
    drop(server.serve_connection(TokioIo::new(stream), answer).await);
}

fn answer(request: &Request<Incoming>, set: Option<Arc<str>>) -> Response<Body> {
    let status = match (request.method(), request.uri().path(), set) {
        (&Method::GET, PATH, Some(set)) => {
            let response = Response::builder().header(header::CONTENT_TYPE, "application/jwk-set+json");
            let response = response.header(header::CACHE_CONTROL, "max-age=60");
            return response.body(Body::from(set.to_string())).unwrap_or_default();
        }
        (&Method::GET, PATH, None) => StatusCode::SERVICE_UNAVAILABLE,
        (_, PATH, _) => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
        (response.status().as_u16(), String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_set_is_shown_from_its_publication_on_and_an_empty_one_never() {
        crate::crypto::install();
        let page = Arc::new(Page::listen("127.0.0.1:0".parse().unwrap()).unwrap());
        let published = Published { file: None, page: Some(Arc::clone(&page)) };
        assert_eq!(get(page.address(), PATH).await.0, 503);
        published.publish("{}").await.unwrap();
        assert_eq!(get(page.address(), PATH).await, (200, "{}".into()));
        assert_eq!(get(page.address(), "/").await.0, 404);
    }

    #[tokio::test]
    async fn the_file_is_replaced_whole_and_everybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let published = Published { file: Some(file.clone()), page: None };
        for set in ["one", "two"] {
            published.publish(set).await.unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), set);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        }
        let nowhere = Published { file: Some(folder.path().join("none/jwks.json")), page: None };
        assert!(nowhere.publish("one").await.unwrap_err().to_string().contains("cannot be written"));
    }
}
