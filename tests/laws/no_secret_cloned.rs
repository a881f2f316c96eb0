//! E0277: a secret has no copy
use bursar::secret::Secret;

fn copied(secret: &Secret) -> Secret {
    Secret::clone(secret)
}

fn main() {
    let _ = copied;
}
