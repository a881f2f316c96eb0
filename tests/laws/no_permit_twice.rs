//! E0382: one permit, one lease
use bursar::access::Permit;
use bursar::token::Provider;
use std::sync::Arc;

async fn twice(provider: &Arc<Provider>, permit: Permit) {
    let _ = provider.obtain(permit).await;
    let _ = provider.obtain(permit).await;
}

fn main() {
    let _ = twice;
}
