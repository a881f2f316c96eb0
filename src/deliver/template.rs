//! Templates: a whole configuration file with several secrets and tokens in it. Pure: the values come in, the text goes
//! out. What is undefined is an error, nothing is escaped, and work and length are bounded.
//!
//! No text of an error holds a value: of what the engine says while there are values, only its kind and the line are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Kwargs, Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::MOST_BYTES;
use crate::access::{Audiences, Scopes};
use crate::broker::Want;
use crate::name::Name;
use crate::secret::Secret;

/// The longest template, in bytes.
pub const MOST_TEMPLATE_BYTES: usize = 256 * 1024;
/// How many instructions of the engine one template may take.
const FUEL: u64 = 1_000_000;
/// How many values one template may want.
pub const MOST_WANTS: usize = 64;

/// A template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRendered {
    /// The template's.
    #[error("the template is wrong{}: {what}", at(*.line))]
    Template {
        /// Where, if that is known: from 1.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// It wants a value that it was not given.
    #[error("the template wants another value")]
    Wants(Box<Want>),
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(" in line {line}")).unwrap_or_default()
}

/// The values that the template in `text` wants, as far as it says so without having any.
///
/// # Errors
/// [`NotRendered::Template`].
pub fn wants(text: &str) -> Result<Vec<Want>, NotRendered> {
    let pool = Arc::new(Pool { values: None, state: Mutex::default() });
    let rendered = run(text, &pool);
    let State { wanted, fault } = std::mem::take(&mut *pool.lock());
    match rendered {
        Ok(_) => Ok(wanted),
        Err(error) if fault.is_some() || wanted.is_empty() || error.kind() == ErrorKind::SyntaxError => {
            Err(of(&error, fault))
        }
        // It does something with a value that it cannot do without one.
        Err(_) => Ok(wanted),
    }
}

/// The text of the template with its values.
///
/// # Errors
/// [`NotRendered`].
pub(super) fn render(text: &str, values: &BTreeMap<Want, &Secret>) -> Result<Secret, NotRendered> {
    let mut known = BTreeMap::new();
    for (want, value) in values {
        known.insert((*want).clone(), text_of(value)?.to_owned());
    }
    let pool = Arc::new(Pool { values: Some(known), state: Mutex::default() });
    run(text, &pool).map_err(|error| {
        let State { wanted, fault } = std::mem::take(&mut *pool.lock());
        match wanted.into_iter().next() {
            Some(want) => NotRendered::Wants(Box::new(want)),
            None => of(&error, fault),
        }
    })
}

/// The value of `want` alone.
pub(super) fn copy(want: &Want, values: &BTreeMap<Want, &Secret>) -> Result<Secret, NotRendered> {
    let value = values.get(want).ok_or_else(|| NotRendered::Wants(Box::new(want.clone())))?;
    Ok(Secret::copy_of(value.expose()))
}

fn text_of(value: &Secret) -> Result<&str, NotRendered> {
    let not_text = |_| NotRendered::Template { line: None, what: "one of its values is no text".into() };
    std::str::from_utf8(value.expose()).map_err(not_text)
}

fn run(text: &str, pool: &Arc<Pool>) -> Result<Secret, Error> {
    let environment = environment(pool);
    let template = environment.template_from_str(text)?;
    let mut out = Bounded(Vec::new());
    template.render_captured_to(Value::from_iter(std::iter::empty::<(String, Value)>()), &mut out)?;
    Ok(Secret::new(out.0))
}

fn environment(pool: &Arc<Pool>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_keep_trailing_newline(true);
    environment.set_fuel(Some(FUEL));
    let of = Arc::clone(pool);
    environment.add_function("secret", move |name: String| of.value(of.secret(&name)?).map(Value::from));
    let of = Arc::clone(pool);
    environment.add_function("secret_json", move |name: String| of.members(&name));
    let of = Arc::clone(pool);
    environment.add_function("token", move |provider: String, words: Kwargs| {
        of.value(of.token(&provider, &words)?).map(Value::from)
    });
    environment
}

/// The values of one rendering, and what became of asking for them.
struct Pool {
    /// None: it is only to be seen which are wanted.
    values: Option<BTreeMap<Want, String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: Vec<Want>,
    /// What one of our functions says, in words of ours.
    fault: Option<String>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self, want: Want) -> Result<String, Error> {
        let Some(values) = &self.values else {
            self.wants(want)?;
            return Ok(String::new());
        };
        match values.get(&want) {
            Some(value) => Ok(value.clone()),
            None => {
                self.wants(want)?;
                Err(ErrorKind::InvalidOperation.into())
            }
        }
    }

    fn wants(&self, want: Want) -> Result<(), Error> {
        let mut state = self.lock();
        if state.wanted.contains(&want) {
            return Ok(());
        }
        if state.wanted.len() >= MOST_WANTS {
            drop(state);
            return Err(self.fault(format!("it wants more than {MOST_WANTS} values")));
        }
        state.wanted.push(want);
        Ok(())
    }

    fn members(&self, name: &str) -> Result<Value, Error> {
        let text = self.value(self.secret(name)?)?;
        if self.values.is_none() {
            return Ok(Value::from_object(Unknown));
        }
        let parsed: serde_json::Value =
            serde_json::from_str(&text).map_err(|_| self.fault(format!("the secret `{name}` is not JSON")))?;
        Ok(Value::from_serialize(parsed))
    }

    fn secret(&self, name: &str) -> Result<Want, Error> {
        self.name(name).map(Want::Secret)
    }

    fn token(&self, provider: &str, words: &Kwargs) -> Result<Want, Error> {
        let list = |key: &str| match words.get::<Option<Vec<String>>>(key) {
            Ok(list) => Ok(list.unwrap_or_default()),
            Err(_) => Err(self.fault(format!("`{key}` of `token()` is a list of texts"))),
        };
        let scopes: Result<Scopes, _> = list("scopes")?.iter().map(|word| word.parse()).collect();
        let audience: Result<Audiences, _> = list("audience")?.iter().map(|word| word.parse()).collect();
        words.assert_all_used().map_err(|_| self.fault("`token()` takes `scopes` and `audience`".into()))?;
        Ok(Want::Token {
            provider: self.name(provider)?,
            scopes: scopes.map_err(|why| self.fault(why.to_string()))?,
            audience: audience.map_err(|why| self.fault(why.to_string()))?,
        })
    }

    fn name(&self, text: &str) -> Result<Name, Error> {
        text.parse().map_err(|_| self.fault("it asks for something whose name is none".into()))
    }

    fn fault(&self, what: String) -> Error {
        self.lock().fault.get_or_insert(what);
        ErrorKind::InvalidOperation.into()
    }
}

/// What stands for the members of a secret that is not there yet: all of them.
#[derive(Debug)]
struct Unknown;

impl Object for Unknown {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(Arc::clone(self)))
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Bytes up to [`MOST_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What may be said of `error`: the engine's own detail only where it is about the template's text.
fn of(error: &Error, fault: Option<String>) -> NotRendered {
    let kind = error.kind();
    let of_the_text =
        [ErrorKind::SyntaxError, ErrorKind::UnknownFilter, ErrorKind::UnknownTest, ErrorKind::UnknownFunction]
            .contains(&kind);
    let what = match (fault, error.detail()) {
        (Some(fault), _) => fault,
        (None, Some(detail)) if of_the_text => format!("{kind}: {detail}"),
        (None, _) if kind == ErrorKind::WriteFailure => format!("its text is longer than {MOST_BYTES} bytes"),
        (None, _) => kind.to_string(),
    };
    NotRendered::Template { line: error.line(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> Want {
        Want::Secret(name.parse().unwrap())
    }

    fn rendered(text: &str, values: &[(Want, &str)]) -> Result<String, NotRendered> {
        let values: Vec<_> = values.iter().map(|(want, value)| (want, Secret::copy_of(value.as_bytes()))).collect();
        let values = values.iter().map(|(want, value)| ((*want).clone(), value)).collect();
        render(text, &values).map(|text| String::from_utf8(text.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_template_is_filled_and_nothing_is_escaped() {
        let token = Want::Token {
            provider: "stripe".parse().unwrap(),
            scopes: Scopes::parse("a b").unwrap(),
            audience: Audiences::default(),
        };
        let text = "user={{ secret_json('db').user }}\nkey={{ secret(\"key\") }}\n\
                    bearer {{ token('stripe', scopes=['b', 'a']) }}\n";
        let values = [(secret("db"), r#"{"user":"u<&"}"#), (secret("key"), "a\"<b>&'"), (token.clone(), "t")];
        assert_eq!(wants(text).unwrap(), [secret("db"), secret("key"), token]);
        assert_eq!(rendered(text, &values).unwrap(), "user=u<&\nkey=a\"<b>&'\nbearer t\n");
    }

    #[test]
    fn what_it_wants_only_by_another_value_is_named_when_it_does() {
        let text = "{% if secret('a') == 'x' %}{{ secret('b') }}{% endif %}";
        assert_eq!(wants(text).unwrap(), [secret("a")]);
        let wanted = rendered(text, &[(secret("a"), "x")]).unwrap_err();
        assert_eq!(wanted, NotRendered::Wants(Box::new(secret("b"))));
        assert_eq!(rendered(text, &[(secret("a"), "x"), (secret("b"), "y")]).unwrap(), "y");
        assert_eq!(wants("{{ secret('n')|int + 1 }}").unwrap(), [secret("n")]);
    }

    #[test]
    fn what_is_undefined_or_endless_or_too_long_is_an_error_that_shows_no_value() {
        let canary = "canary-of-the-template";
        let json = format!(r#"{{"user":"{canary}"}}"#);
        for (text, word) in [
            ("\n{{ secret_json('a').none }}", "in line 2: undefined value"),
            ("{{ nothing }}", "undefined value"),
            ("{{ secret('a')|int }}", "invalid operation"),
            ("{{ secret('a')|nofilter }}", "unknown filter"),
            ("{% for i in range(90000) %}{% for j in range(90000) %}{{ i }}{% endfor %}{% endfor %}", "fuel"),
            ("{% for i in range(20000) %}{{ secret('a') }}{% endfor %}{{ 'x' * 2000000 }}", "longer than"),
            ("{{ secret('a') ", "syntax error"),
            ("{{ secret('A B') }}", "whose name is none"),
            ("{{ token('a', scope=['x']) }}", "`token()` takes `scopes` and `audience`"),
            ("{{ token('a', scopes='x') }}", "`scopes` of `token()`"),
            ("{% include 'other' %}", "syntax error"),
        ] {
            let error = rendered(text, &[(secret("a"), &json)]).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains(canary), "{text}: {error}");
        }
        let error = rendered("{{ secret_json('a').b }}", &[(secret("a"), canary)]).unwrap_err().to_string();
        assert!(error.contains("the secret `a` is not JSON") && !error.contains(canary), "{error}");
    }

    #[test]
    fn a_value_that_is_no_text_is_no_part_of_one() {
        let value = Secret::new(vec![0xff, 0xfe]);
        let values = BTreeMap::from([(secret("a"), &value)]);
        assert!(render("{{ secret('a') }}", &values).unwrap_err().to_string().contains("no text"));
        assert_eq!(copy(&secret("a"), &values).unwrap().expose(), [0xff, 0xfe]);
    }
}
