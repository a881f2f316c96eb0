use bursar::audit::{DecisionId, Receipt};

fn forged(decision: DecisionId) -> Receipt {
    Receipt { nonce: None, decision }
}

fn main() {
    let _ = forged;
}
