//! E0277: a secret has no text
use bursar::secret::Secret;

fn printed(secret: Secret) -> String {
    format!("{}", secret)
}

fn main() {
    let _ = printed;
}
