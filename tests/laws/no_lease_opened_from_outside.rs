//! E0616: a lease's value is private
use bursar::account::Lease;

fn peeked(lease: Lease) {
    let _ = lease.value;
}

fn main() {
    let _ = peeked;
}
