//! A login: a user name and a password, as JSON in a store. The shape of what the rotators of databases serve, and of the
//! credential with which they act.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::random::{Alphabet, RandomText};
use super::{Admin, Trouble};
use crate::crypto::Random;
use crate::secret::Secret;

/// How many characters a password has that we make: 256 bits.
const PASSWORD_LENGTH: usize = 43;

/// A user name and its password.
#[derive(Debug)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

#[derive(Deserialize)]
struct Shape {
    username: String,
    password: String,
}

/// What a reader needs to log in.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dbname: Option<&'a str>,
}

impl Login {
    /// Reads `{"username": …, "password": …}`; other members are passed over.
    ///
    /// # Errors
    /// [`Trouble::Setup`], where it is something else.
    pub fn read(value: &Secret) -> Result<Self, Trouble> {
        // Not the parser's text: it may quote the value.
        let shapeless = || {
            Trouble::Setup("it is not a login: write it as JSON, `{\"username\": \"…\", \"password\": \"…\"}`".into())
        };
        let Shape { username, password } = serde_json::from_slice(value.expose()).map_err(|_| shapeless())?;
        if username.is_empty() || password.is_empty() {
            return Err(shapeless());
        }
        Ok(Self { username, password: Secret::new(password.into_bytes()) })
    }
}

impl Written<'_> {
    pub(super) fn value(&self) -> Result<Secret, Trouble> {
        let json = serde_json::to_vec(self);
        json.map(Secret::new).map_err(|_| Trouble::Setup("the login cannot be written as JSON".into()))
    }
}

/// A new password, and `write` of it.
pub(super) fn with_new_password<T>(
    random: &Arc<dyn Random>,
    write: impl FnOnce(&str) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let password = RandomText::new(Alphabet::Alphanumeric, PASSWORD_LENGTH, Arc::clone(random)).make()?;
    write(std::str::from_utf8(password.expose()).unwrap_or_default())
}

impl Admin {
    /// The login that it is now.
    ///
    /// # Errors
    /// [`Trouble::Setup`], where it is missing, cannot be read or is no login.
    pub async fn login(&self) -> Result<Login, Trouble> {
        Login::read(&self.read().await?).map_err(|why| Trouble::Setup(format!("the admin credential `{self}`: {why}")))
    }

    /// That the server does not take it.
    pub(super) fn refused(&self, why: &str) -> Trouble {
        Trouble::Setup(format!("the server refuses the admin credential `{self}`: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn a_login_reads_as_it_is_written() {
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let written =
            |password: &str| Written { username: "app", password, host: "db", port: 5_432, dbname: None }.value();
        let value = with_new_password(&random, written).unwrap();
        let Login { username, password } = Login::read(&value).unwrap();
        assert_eq!((username.as_str(), password.len()), ("app", PASSWORD_LENGTH));
    }

    #[test]
    fn what_is_no_login_is_not_quoted() {
        for value in ["", "hunter2", "{}", r#"{"username":"app"}"#, r#"{"username":"","password":"hunter2"}"#, "[1]"] {
            let why = Login::read(&Secret::copy_of(value.as_bytes())).unwrap_err().to_string();
            assert!(why.contains("it is not a login") && !why.contains("hunter2"), "{why}");
        }
    }
}
