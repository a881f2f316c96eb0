//! What was said (file) → what is meant (Settings).
