//! What AWS's refusals mean, in words of ours that say what to do. Pure.
//!
//! Nothing of AWS's own text is repeated but its error code: the text may echo what was sent.

use crate::store::StoreError;

/// What a refusal means for a request that may be answered in these ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such secret, or no such version of it.
    Missing,
    /// There is one already, with another value.
    Exists,
    /// A parameter is not right as things stand: a label is not where the request says.
    Invalid,
    /// The secret is scheduled for deletion, or managed by another service.
    Closed,
    /// Our credentials are not, or no longer, good.
    Stranger(StoreError),
    /// Whatever is asked, it is not done.
    Fault(StoreError),
}

/// What is refused: the API's action, such as `GetSecretValue`, on a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The action.
    pub(super) action: &'a str,
    /// The secret's name at AWS; empty where there is none.
    pub(super) secret: &'a str,
}

/// Reads a refusal: its code and the status.
#[must_use]
pub(super) fn refusal(code: &str, status: u16, asked: Asked<'_>) -> Refusal {
    let code = if is_code(code) { code } else { "an unknown code" };
    let unavailable = |what: String| Refusal::Fault(StoreError::Unavailable(what));
    let setup = |what: String| Refusal::Fault(StoreError::Setup(what));
    let Asked { action, secret } = asked;
    match code {
        "ResourceNotFoundException" => Refusal::Missing,
        "ResourceExistsException" => Refusal::Exists,
        "InvalidParameterException" => Refusal::Invalid,
        "InvalidRequestException" => Refusal::Closed,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => setup(format!(
            "AWS denies `secretsmanager:{action}`{on}: give the role the policy of `docs/stores.md` ({code})",
            on = if secret.is_empty() { String::new() } else { format!(" on `{secret}`") }
        )),
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "SlowDown"
        | "BandwidthLimitExceeded" => {
            unavailable(format!("AWS throttles ({code}): ask less often, or have the quota of the account raised"))
        }
        "LimitExceededException" => unavailable(format!(
            "a quota of AWS is reached at `{secret}` ({code}): a secret has about 100 versions, and those of the last \
             24 hours are kept; wait, or have the quota raised"
        )),
        "DecryptionFailure" | "EncryptionFailure" | "KMSAccessDeniedException" => setup(format!(
            "the KMS key of `{secret}` cannot be used ({code}): is it enabled, does the role have `kms:Decrypt` and \
             `kms:GenerateDataKey` on it?"
        )),
        "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => {
            stranger(code, "have expired: renew them where they come from")
        }
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => {
            stranger(code, "are refused for their time: check this host's clock")
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "AuthFailure"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "NotAuthorized" => stranger(code, "are refused: is the access key active, and the secret key its own?"),
        _ if status < 300 => unavailable("its answer cannot be read: it was cut off or changed on the way".into()),
        _ if status == 403 => Refusal::Stranger(StoreError::Setup(format!(
            "`{action}` is forbidden (status 403, {code}): the AWS credentials of the agent are refused, or lack the \
             policy of `docs/stores.md`"
        ))),
        _ if status == 429 => unavailable(format!("AWS throttles (status 429, {code}): ask less often")),
        _ if status >= 500 => unavailable(format!("AWS answers with status {status} ({code}): try again later")),
        _ => setup(format!("AWS refuses `{action}` (status {status}, {code}): check `region` and `endpoint`")),
    }
}

fn stranger(code: &str, what: &str) -> Refusal {
    Refusal::Stranger(StoreError::Setup(format!("the AWS credentials of the agent {what} ({code})")))
}

/// AWS's codes are words; anything else may be somebody's text.
fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { action: "GetSecretValue", secret: "prod/db" };

    fn said(code: &str, status: u16) -> String {
        format!("{:?}", refusal(code, status, ASKED))
    }

    #[test]
    fn each_code_says_what_to_do() {
        assert_eq!(refusal("ResourceNotFoundException", 404, ASKED), Refusal::Missing);
        assert!(said("AccessDeniedException", 400).contains("`secretsmanager:GetSecretValue` on `prod/db`"));
        assert!(said("ThrottlingException", 400).contains("Unavailable(\"AWS throttles"));
        assert!(said("InternalServiceError", 500).contains("Unavailable"));
        assert!(said("DecryptionFailure", 400).contains("kms:Decrypt"));
        assert!(matches!(refusal("ExpiredTokenException", 400, ASKED), Refusal::Stranger(_)));
        assert!(said("", 200).contains("Unavailable"), "what was done may have been done");
        assert!(said("", 403).contains("docs/stores.md"));
        assert!(said("Whatever", 418).contains("Setup"));
    }

    #[test]
    fn no_refusal_repeats_what_is_not_a_code() {
        for status in [400, 418, 429, 500] {
            assert!(!said("hunter2 is not a secret", status).contains("hunter2"));
            assert!(!said(&"hunter2".repeat(10), status).contains("hunter2"));
        }
    }
}
