//! E0451: a permit's fields are private
use bursar::access::{Access, Grounds, Permit};

fn forged(access: Access, grounds: Grounds) -> Permit {
    Permit { access, grounds }
}

fn main() {
    let _ = forged;
}
