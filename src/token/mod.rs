//! Tokens: freshness (pure), cache, single flight, refresh.
