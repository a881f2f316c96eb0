//! E0061: a release wants the receipt of the record
use bursar::account::Lease;
use bursar::broker::release;
use bursar::time::Moment;

fn unrecorded(lease: Lease, now: Moment) {
    let _ = release(lease, now);
}

fn main() {
    let _ = unrecorded;
}
