use bursar::account::Lease;

fn peeked(lease: Lease) {
    let _ = lease.value;
}

fn main() {
    let _ = peeked;
}
