use bursar::secret::Secret;

fn copied(secret: &Secret) -> Secret {
    Secret::clone(secret)
}

fn main() {
    let _ = copied;
}
