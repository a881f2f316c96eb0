//! `[secret.NAME.rotation.aws-iam-access-key]`.

use crate::config::meant::{EndpointUrl, IamKeys, Rotator, SecretRef};
use crate::config::reading::Reader;
use crate::config::said;
use crate::config::words::Period;
use crate::name::Name;
use crate::rotation::access_key::{SETTLES_WITHIN, Settings};

impl Reader<'_> {
    pub(super) fn access_key(
        &mut self,
        key: &str,
        said: said::AccessKey,
        at: &SecretRef,
        stores: &[Name],
    ) -> Option<Rotator> {
        let (user, region) = (said.user, said.region);
        if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
            let help = "write the name alone, without path and ARN: letters, digits, `+=,.@_-`";
            self.fault(&format!("{key}.user"), format!("`{key}.user` is not the name of a user"), Some(help.into()));
        }
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            let help = "write it as in `eu-central-1`";
            self.fault(&format!("{key}.region"), format!("`{key}.region` is not a region"), Some(help.into()));
        }
        let endpoint = match said.endpoint.as_deref().map(|text| text.trim_end_matches('/')) {
            Some(text) => Some((self.address(&format!("{key}.endpoint"), text, str::parse::<EndpointUrl>)?, text)),
            None => None,
        };
        let is_plain = endpoint.as_ref().is_some_and(|(url, _)| url.is_plain());
        let settings = Settings {
            user: user.into(),
            region: region.into(),
            endpoint: endpoint.map(|(_, text)| text.into()),
            settles_within: said.settles_within.map_or(SETTLES_WITHIN, |Period(time)| time),
        };
        let admin = self.admin(key, said.admin, at, stores);
        let ca_file = said.ca_file.map(|file| self.path(&format!("{key}.ca_file"), &file));
        Some(Rotator::AccessKey(Box::new(IamKeys { settings, admin, exclusive: said.exclusive, ca_file, is_plain })))
    }
}
