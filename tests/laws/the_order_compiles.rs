//! The order as it is meant: what the other cases leave out stands here, so that they fail for their own reason.
use bursar::access::Permit;
use bursar::account::Lease;
use bursar::audit::Receipt;
use bursar::broker::{Refused, Released, release};
use bursar::time::Moment;
use bursar::token::{Provider, Unobtained};
use std::sync::Arc;

async fn obtained(provider: &Arc<Provider>, permit: Permit) -> Result<Lease, Unobtained> {
    provider.obtain(permit).await
}

fn released(lease: Lease, receipt: Receipt, now: Moment) -> Result<Released, Refused> {
    release(lease, receipt, now)
}

fn main() {
    let _ = (obtained, released);
}
