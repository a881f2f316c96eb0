//! Settings → rooms → tasks → drain.
