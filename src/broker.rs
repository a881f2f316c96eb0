//! The one page: attest → judge → obtain → record → release.
