use bursar::access::{Access, Grounds, Permit};

fn forged(access: Access, grounds: Grounds) -> Permit {
    Permit::grant(access, grounds)
}

fn main() {
    let _ = forged;
}
