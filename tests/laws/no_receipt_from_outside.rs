//! E0451: a receipt's fields are private
use bursar::audit::{DecisionId, Receipt};

fn forged(decision: DecisionId) -> Receipt {
    Receipt { nonce: None, decision }
}

fn main() {
    let _ = forged;
}
