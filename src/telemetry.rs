//! Log lines for operators: `tracing` on standard error, as text or JSON.
