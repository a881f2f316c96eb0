//! The protocol of Redis (RESP, version 2): a command as it is written, and a reply as it is read, bounded.

/// The longest reply, in bytes.
pub const MOST_REPLY: usize = 64 << 10;
/// The most entries of one list.
const MOST_ENTRIES: usize = 1_024;
/// How deep lists may lie in lists.
const MOST_DEPTH: usize = 4;

/// What a server replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`, or a value.
    Text(Vec<u8>),
    /// An error: its first word says of what kind, the rest is for people. A hostile one may repeat what it was told.
    Error(Vec<u8>),
    /// A number.
    Number(i64),
    /// Nothing is there.
    Nothing,
    /// Several.
    List(Vec<Self>),
}

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the server says is not a reply of Redis, or is longer than any that it should give")]
pub struct NotAReply;

/// A command of these words, whatever bytes they hold.
#[must_use]
pub fn command(words: &[&[u8]]) -> zeroize::Zeroizing<Vec<u8>> {
    let length = words.iter().map(|word| word.len() + 32).sum::<usize>() + 32;
    // Whole from the start: growing would leave parts behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(length));
    bytes.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The reply at the beginning of `bytes`, and how long it is; none: it is not whole yet.
///
/// # Errors
/// [`NotAReply`], as soon as no more bytes can make one of it.
pub fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NotAReply> {
    let mut rest = bytes;
    match one(&mut rest, MOST_DEPTH) {
        Ok(reply) => Ok(Some((reply, bytes.len() - rest.len()))),
        Err(Stop::NotWhole) if bytes.len() < MOST_REPLY => Ok(None),
        Err(Stop::NotWhole | Stop::NotAReply) => Err(NotAReply),
    }
}

enum Stop {
    NotWhole,
    NotAReply,
}

fn one(rest: &mut &[u8], depth: usize) -> Result<Reply, Stop> {
    let (kind, head) = line(rest)?;
    Ok(match kind {
        b'+' => Reply::Text(head.to_vec()),
        b'-' => Reply::Error(head.to_vec()),
        b':' => Reply::Number(number(head)?),
        b'$' => match length(head, MOST_REPLY)? {
            Some(length) => Reply::Text(exactly(rest, length)?.to_vec()),
            None => Reply::Nothing,
        },
        b'*' => match length(head, MOST_ENTRIES)? {
            Some(count) => {
                let depth = depth.checked_sub(1).ok_or(Stop::NotAReply)?;
                Reply::List((0..count).map(|_| one(rest, depth)).collect::<Result<_, _>>()?)
            }
            None => Reply::Nothing,
        },
        _ => return Err(Stop::NotAReply),
    })
}

/// The kind of a reply, and the rest of its first line.
fn line<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Stop> {
    let (kind, after) = rest.split_first().ok_or(Stop::NotWhole)?;
    let Some(end) = after.iter().position(|byte| *byte == b'\n') else {
        let is_kind = b"+-:$*".contains(kind);
        return Err(if is_kind { Stop::NotWhole } else { Stop::NotAReply });
    };
    let (head, after) = after.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    Ok((*kind, head.strip_suffix(b"\r").ok_or(Stop::NotAReply)?))
}

fn number(text: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Stop::NotAReply)
}

/// A length of at most `most`; none: there is nothing.
fn length(text: &[u8], most: usize) -> Result<Option<usize>, Stop> {
    match number(text)? {
        -1 => Ok(None),
        length => usize::try_from(length).ok().filter(|length| *length <= most).map(Some).ok_or(Stop::NotAReply),
    }
}

/// So many bytes, and the end of their line.
fn exactly<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Stop> {
    let (value, after) = rest.split_at_checked(length).ok_or(Stop::NotWhole)?;
    let (end, after) = after.split_at_checked(2).ok_or(Stop::NotWhole)?;
    *rest = after;
    if end == b"\r\n" { Ok(value) } else { Err(Stop::NotAReply) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_once_it_is_whole() {
        let text = |text: &str| Reply::Text(text.into());
        let list = Reply::List(vec![text("flags"), Reply::List(vec![text("on"), Reply::Nothing]), Reply::Number(-7)]);
        let cases = [
            ("+OK\r\n", text("OK")),
            ("-NOPERM no\r\n", Reply::Error(b"NOPERM no".to_vec())),
            ("$-1\r\n", Reply::Nothing),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            ("*3\r\n$5\r\nflags\r\n*2\r\n$2\r\non\r\n*-1\r\n:-7\r\n", list),
        ];
        for (said, meant) in cases {
            let more = format!("{said}+OK\r\n");
            assert_eq!(reply(more.as_bytes()), Ok(Some((meant, said.len()))));
            for cut in 0..said.len() {
                assert_eq!(reply(&said.as_bytes()[..cut]), Ok(None), "{}", &said[..cut]);
            }
        }
    }

    #[test]
    fn what_is_endless_is_no_reply() {
        let deep = "*1\r\n".repeat(100);
        for said in
            ["HTTP/1.1 400\r\n", "H", "$99999999\r\n", "$-2\r\n", "*9999\r\n", ":x\r\n", "+a\n", "$1\r\nabc", &deep]
        {
            assert_eq!(reply(said.as_bytes()), Err(NotAReply), "{said}");
        }
        assert_eq!(reply(&vec![b'+'; MOST_REPLY]), Err(NotAReply));
    }

    #[test]
    fn a_command_holds_any_bytes() {
        assert_eq!(&**command(&[b"AUTH", b"a\r\nb", b""]), b"*3\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }
}
