//! Server-sent events (WHATWG HTML §9.2): news as they come, a comment now and then, and nothing that piles up.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;

use crate::broker::{Listener, News, Subject};

/// How often somebody who has nothing to hear is sent a comment: less than half of the time in which a connection has to
/// get on, so that only one whose peer does not read is cut.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The first words: from here on nothing is missed.
const OPENING: &str = ": what happened before is not told: ask for what you hold\n\n";

/// Marks a response that goes on for as long as its peer reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting;

/// What `listener` hears, as it comes. The connection ends with it.
pub(super) fn of(listener: Listener) -> Response {
    let frames = unfold((listener, true), |(mut listener, opening)| async move {
        let text = match opening {
            true => OPENING.to_owned(),
            // Dropping the listener's wait loses nothing.
            false => match tokio::time::timeout(KEEP_ALIVE, listener.next()).await {
                Ok(news) => news?.iter().map(written).collect(),
                Err(_) => ":\n\n".to_owned(),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (listener, false)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    response.extensions_mut().insert(Lasting);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// One event. No name holds a character that JSON escapes.
fn written(News { what, of }: &News) -> String {
    let data = match of {
        Subject::Secret(name) => format!("{{\"secret\":\"{name}\"}}"),
        Subject::Provider(name) => format!("{{\"provider\":\"{name}\"}}"),
        Subject::Agent => "{}".to_owned(),
    };
    format!("event: {}\ndata: {data}\n\n", what.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::What;

    #[test]
    fn an_event_has_a_name_and_one_line_of_data() {
        let text = |what, of| written(&News { what, of });
        assert_eq!(
            text(What::Rotated, Subject::Secret("api-key".parse().unwrap())),
            "event: rotated\ndata: {\"secret\":\"api-key\"}\n\n"
        );
        assert_eq!(
            text(What::Revoked, Subject::Provider("crm".parse().unwrap())),
            "event: revoked\ndata: {\"provider\":\"crm\"}\n\n"
        );
        assert_eq!(text(What::Reloaded, Subject::Agent), "event: reloaded\ndata: {}\n\n");
    }
}
