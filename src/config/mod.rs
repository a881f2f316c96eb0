//! What was said (file) → what is meant (Settings).

pub mod address;
pub mod check;
pub mod host;
pub mod load;
pub mod meant;
mod readers;
pub mod reading;
pub mod reload;
pub mod said;
pub mod words;
mod writable;

pub use check::{Report, check};
pub use load::load;
pub use meant::Settings;
pub use readers::kept_out;
pub use reading::{Read, read};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    #[test]
    fn the_schema_is_covered() {
        assert_eq!(document::uncovered::<said::Said>(), Ok(()));
    }
}
