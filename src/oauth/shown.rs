//! What of a foreign text may be shown: printable, short, and never what it must not repeat.

use zeroize::Zeroizing;

/// The forms of our credential that no message may repeat, whatever a server echoes.
///
/// A text that holds one of them, or eight bytes of one in a row, is not shown at all.
#[derive(Default)]
pub struct Withheld(Vec<Zeroizing<Vec<u8>>>);

/// How much of a form a text may repeat before it counts as a leak.
const RUN_BYTES: usize = 8;
const NOT_SHOWN: &str = "(not shown: it repeats our credential)";

impl Withheld {
    /// Withholds each of `forms`; empty ones are ignored.
    #[must_use]
    pub fn new(forms: impl IntoIterator<Item = Zeroizing<Vec<u8>>>) -> Self {
        Self(forms.into_iter().filter(|form| !form.is_empty()).collect())
    }

    /// Withholds `form` too.
    #[must_use]
    pub fn and(mut self, form: &[u8]) -> Self {
        self.0.extend((!form.is_empty()).then(|| Zeroizing::new(form.to_vec())));
        self
    }

    /// `text` fit to be shown: printable ASCII, at most `most` characters.
    #[must_use]
    pub fn show(&self, text: &str, most: usize) -> String {
        if self.is_in(text.as_bytes()) {
            return NOT_SHOWN.to_owned();
        }
        let mut shown: String = text.trim().chars().take(most).map(printable).collect();
        if text.trim().chars().nth(most).is_some() {
            shown.push_str("...");
        }
        // What was replaced or added may make up a form that was not there.
        if self.is_in(shown.as_bytes()) { NOT_SHOWN.to_owned() } else { shown }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|form| {
            let run = form.len().min(RUN_BYTES);
            form.windows(run).any(|part| text.windows(run).any(|at| at == part))
        })
    }
}

/// Bidirectional marks, line breaks and look-alikes must not fool who reads the log.
fn printable(c: char) -> char {
    match c {
        ' '..='~' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(forms: &[&str]) -> Withheld {
        Withheld::new(forms.iter().map(|form| Zeroizing::new(form.as_bytes().to_vec())))
    }

    #[test]
    fn a_text_with_our_secret_or_a_part_of_it_is_not_shown() {
        let withheld = withheld(&["correct-horse-battery", "abc", ""]);
        for echo in ["your secret `correct-horse-battery` is wrong", "starts with correct-horse", "xabcx"] {
            assert!(withheld.show(echo, 200).starts_with("(not shown"), "{echo}");
        }
        assert_eq!(withheld.show("the horse is wrong", 200), "the horse is wrong");
        let made_up = self::withheld(&["xxxxx..."]).show(&"x".repeat(30), 10);
        assert!(made_up.starts_with("(not shown"), "{made_up}");
    }

    #[test]
    fn what_is_shown_is_printable_and_short() {
        let shown = withheld(&[]).show("\u{202e}evil\r\nline\u{7f}\u{1b}[31m é", 200);
        assert_eq!(shown, "?evil  line??[31m ?");
        assert_eq!(withheld(&[]).show(&"x".repeat(300), 200).len(), 203);
    }
}
