//! The rotator `random`: a random value, for which there is no far side. Readers that check it fetch it here too.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Created, Ended, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::crypto::Random;
use crate::secret::Secret;

/// Makes random text.
pub struct RandomText {
    /// Which characters: 2 to 64 of them.
    alphabet: &'static [u8],
    /// How many: 1 to 4,096.
    length: usize,
    random: Arc<dyn Random>,
}

/// Which characters a random text is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alphabet {
    /// `A-Z a-z 0-9`: 5.95 bits each.
    #[default]
    Alphanumeric,
    /// `0-9 a-f`: 4 bits each.
    Hex,
    /// `A-Z a-z 0-9 - _`: 6 bits each.
    Base64url,
}

impl Alphabet {
    const fn characters(self) -> &'static [u8] {
        match self {
            Self::Alphanumeric => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => b"0123456789abcdef",
            Self::Base64url => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        }
    }
}

impl RandomText {
    /// One that makes `length` characters of `alphabet`.
    #[must_use]
    pub fn new(alphabet: Alphabet, length: usize, random: Arc<dyn Random>) -> Self {
        Self { alphabet: alphabet.characters(), length, random }
    }

    /// A new text.
    ///
    /// # Errors
    /// [`Trouble::Setup`] when the source of randomness fails.
    pub fn make(&self) -> Result<Secret, Trouble> {
        text(self.alphabet, self.length, &*self.random)
    }
}

/// `length` characters of `alphabet`, each as likely as the others.
fn text(alphabet: &[u8], length: usize, random: &dyn Random) -> Result<Secret, Trouble> {
    // A byte below the largest multiple is as likely to stand for one character as for another; the others are dropped.
    let fair = 256 - 256 % alphabet.len();
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(length));
    let mut bytes = zeroize::Zeroizing::new([0; 64]);
    while text.len() < length {
        random.fill(&mut *bytes).map_err(|why| Trouble::Setup(why.to_string()))?;
        let drawn = bytes.iter().filter(|byte| usize::from(**byte) < fair);
        let drawn = drawn.filter_map(|byte| alphabet.get(usize::from(*byte) % alphabet.len()));
        let room = length - text.len();
        text.extend(drawn.take(room));
    }
    Ok(Secret::copy_of(&text))
}

impl Rotator for RandomText {
    fn kind(&self) -> &'static str {
        "random"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn create<'a>(&'a self, _: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async { Ok(Created { value: self.make()?, far_id: None }) }.boxed()
    }

    fn set<'a>(&'a self, _: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async { Ok(()) }.boxed()
    }

    fn test<'a>(&'a self, _: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async { Ok(true) }.boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn a_text_is_as_long_as_said_and_of_its_alphabet() {
        for (alphabet, length) in [(Alphabet::Alphanumeric, 1), (Alphabet::Hex, 64), (Alphabet::Base64url, 4_096)] {
            let text = RandomText::new(alphabet, length, Arc::new(SystemRandom)).make().unwrap();
            let all = text.expose().iter().all(|byte| alphabet.characters().contains(byte));
            assert!(all && text.len() == length);
        }
    }

    #[test]
    fn every_character_is_drawn() {
        let text = RandomText::new(Alphabet::Alphanumeric, 4_096, Arc::new(SystemRandom)).make().unwrap();
        let characters = Alphabet::Alphanumeric.characters();
        assert!(characters.iter().all(|one| text.expose().contains(one)), "1 in 10^27 that one is missing");
    }
}
