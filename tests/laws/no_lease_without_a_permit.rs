//! E0308: an access that was not judged is no permit
use bursar::access::Access;
use bursar::token::Provider;
use std::sync::Arc;

async fn unjudged(provider: &Arc<Provider>, access: Access) {
    let _ = provider.obtain(access, std::time::Duration::ZERO).await;
}

fn main() {
    let _ = unjudged;
}
