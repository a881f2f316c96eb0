//! Secrets in memory.
