//! E0382: one permit, one lease
use bursar::access::Permit;
use bursar::token::Provider;
use std::sync::Arc;

async fn twice(provider: &Arc<Provider>, permit: Permit) {
    let _ = provider.obtain(permit, std::time::Duration::ZERO).await;
    let _ = provider.obtain(permit, std::time::Duration::ZERO).await;
}

fn main() {
    let _ = twice;
}
