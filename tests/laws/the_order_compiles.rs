//! compiles: the order as it is meant, so that the other cases fail for what they leave out
use bursar::access::Permit;
use bursar::account::Lease;
use bursar::audit::Receipt;
use bursar::broker::{Refused, Released, release};
use bursar::time::Moment;
use bursar::token::{Provider, Unobtained};
use std::sync::Arc;

async fn obtained(provider: &Arc<Provider>, permit: Permit) -> Result<Lease, Unobtained> {
    provider.obtain(permit, std::time::Duration::ZERO).await
}

fn released(lease: Lease, receipt: Receipt, now: Moment) -> Result<Released, Refused> {
    release(lease, receipt, now)
}

fn main() {
    let _ = (obtained, released);
}
