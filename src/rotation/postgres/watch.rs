//! What a PostgreSQL server says, looked at before the library reads it: only SCRAM proves anything to either side, and
//! nothing is endless. The protocol: PostgreSQL's documentation, "Message Formats".

/// The longest message.
const MOST_MESSAGE: usize = 64 << 10;
/// The longest message about authentication.
const MOST_AUTHENTICATION: usize = 2 << 10;
/// The most that is read in one session.
const MOST_SESSION: usize = 1 << 20;
/// The most rounds of hashing that a server may have us do: a second's work.
const MOST_ITERATIONS: u32 = 1_000_000;

/// Why a server is not talked to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It let us in whoever we were, so that a login proves nothing.
    #[error(
        "the server lets the role in without its password: give it a line with `scram-sha-256` in `pg_hba.conf`, before \
         those with `trust`, `peer` or `cert`"
    )]
    Unasked,
    /// It asked for the password itself.
    #[error(
        "the server asks for the password in clear text, and does not get it: give the role a line with `scram-sha-256` \
         in `pg_hba.conf`"
    )]
    ClearText,
    /// It asked for the MD5 digest, as it does where that is what it keeps of the password: it is none that we set.
    #[error("the server asks for MD5: let the role have a password that is stored as SCRAM-SHA-256")]
    Md5,
    /// It asked for something that we cannot do.
    #[error("the server asks for a login that is not SCRAM-SHA-256: give the role a line with it in `pg_hba.conf`")]
    Other,
    /// It wants more hashing than a login is worth.
    #[error("the server asks for more than a million rounds of SCRAM")]
    Laborious,
    /// It said more than we want to hear.
    #[error("the server's answer is longer than any that it should give")]
    TooLong,
    /// It speaks another protocol.
    #[error("what the server says is not PostgreSQL's protocol")]
    Nonsense,
}

/// What was seen of one session.
#[derive(Debug, Default)]
pub struct Watch {
    /// The message that is not whole yet: its head, and where it is about authentication, its body.
    message: Vec<u8>,
    /// How much of another message is still to come.
    rest: usize,
    seen: usize,
    /// Whether each side has proved to the other that it knows the password.
    proved: bool,
}

impl Watch {
    /// Looks at the next bytes of the server.
    ///
    /// # Errors
    /// [`Unfit`]; nothing of `bytes` may be believed then.
    pub fn see(&mut self, mut bytes: &[u8]) -> Result<(), Unfit> {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.seen > MOST_SESSION {
            return Err(Unfit::TooLong);
        }
        while let Some((first, after)) = bytes.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
            } else {
                self.message.push(*first);
                bytes = after;
                self.look()?;
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Unfit> {
        let Some(([tag, length @ ..], body)) = self.message.split_first_chunk::<5>() else { return Ok(()) };
        let is_authentication = *tag == b'R';
        let most = if is_authentication { MOST_AUTHENTICATION } else { MOST_MESSAGE };
        // The length counts itself.
        let length = (u32::from_be_bytes(*length) as usize).checked_sub(4).ok_or(Unfit::Nonsense)?;
        if length > most {
            return Err(Unfit::TooLong);
        }
        if !is_authentication {
            self.rest = length;
        } else if body.len() < length {
            return Ok(());
        } else {
            self.proved = judge(body, self.proved)?;
        }
        self.message.clear();
        Ok(())
    }
}

/// Whether each side has proved itself after this message about authentication.
fn judge(body: &[u8], proved: bool) -> Result<bool, Unfit> {
    let (code, data) = body.split_first_chunk().ok_or(Unfit::Nonsense)?;
    match u32::from_be_bytes(*code) {
        0 if proved => Ok(true),
        0 => Err(Unfit::Unasked),
        3 => Err(Unfit::ClearText),
        5 => Err(Unfit::Md5),
        10 => Ok(false),
        11 if iterations(data).is_none_or(|iterations| iterations > MOST_ITERATIONS) => Err(Unfit::Laborious),
        11 => Ok(false),
        // What it holds is verified by the library, before it believes any success.
        12 => Ok(true),
        _ => Err(Unfit::Other),
    }
}

/// The iterations of a server's first message (RFC 5802 §5.1).
fn iterations(data: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(data).ok()?;
    text.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn authentication(code: u32, data: &str) -> Vec<u8> {
        message(b'R', &[&code.to_be_bytes()[..], data.as_bytes()].concat())
    }

    /// Whole, and a byte at a time.
    fn seen(said: &[u8]) -> Result<(), Unfit> {
        let mut slowly = Watch::default();
        let slow = said.iter().try_for_each(|byte| slowly.see(&[*byte]));
        assert_eq!(Watch::default().see(said), slow);
        slow
    }

    #[test]
    fn scram_passes() {
        let said = [
            message(b'N', b"SNOTICE\0\0"),
            authentication(10, "SCRAM-SHA-256\0\0"),
            authentication(11, "r=abc,s=c2FsdA==,i=4096"),
            authentication(12, "v=abc"),
            authentication(0, ""),
            message(b'Z', b"I"),
        ];
        assert_eq!(seen(&said.concat()), Ok(()));
    }

    #[test]
    fn nothing_but_scram_passes() {
        let cases = [
            (0, "", Unfit::Unasked),
            (3, "", Unfit::ClearText),
            (5, "salt", Unfit::Md5),
            (7, "", Unfit::Other),
            (11, "r=abc,s=c2FsdA==,i=4294967295", Unfit::Laborious),
            (11, "r=abc", Unfit::Laborious),
        ];
        for (code, data, why) in cases {
            assert_eq!(seen(&authentication(code, data)), Err(why));
            // A notice before it hides nothing.
            assert_eq!(seen(&[message(b'N', b"x"), authentication(code, data)].concat()), Err(why));
        }
        let without_proof = [authentication(10, "SCRAM-SHA-256\0\0"), authentication(0, "")].concat();
        assert_eq!(seen(&without_proof), Err(Unfit::Unasked));
    }

    #[test]
    fn nothing_is_endless() {
        assert_eq!(seen(b"D\xff\xff\xff\xff"), Err(Unfit::TooLong));
        assert_eq!(seen(b"R\0\0\xff\xff"), Err(Unfit::TooLong));
        assert_eq!(seen(b"HTTP/1.1 400 Bad Request"), Err(Unfit::TooLong));
        assert_eq!(seen(b"Z\0\0\0\x03"), Err(Unfit::Nonsense));
        let row = message(b'D', &[0; 60_000]);
        let mut watch = Watch::default();
        assert_eq!((0..100).try_for_each(|_| watch.see(&row)), Err(Unfit::TooLong));
    }
}
