//! E0624: only the house may call the constructor, and house.rs says where
use bursar::access::{Access, Grounds, Permit};

fn forged(access: Access, grounds: Grounds) -> Permit {
    Permit::grant(access, grounds)
}

fn main() {
    let _ = forged;
}
