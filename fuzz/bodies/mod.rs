//! What each fuzz target does with its bytes: one function for each parser of foreign bytes.
//!
//! A body calls the parser and holds what it says against a property: what was read can be shown and read again,
//! a bound is kept, a secret does not come out. A broken property panics, as a broken parser does. `fuzz_targets/`
//! calls these functions from libFuzzer, `tests/hermetic/corpus.rs` from a plain test over the seeds in `corpus/`.

pub mod api;
pub mod audit;
pub mod config;
pub mod database;
pub mod dev;
pub mod input;
pub mod names;
pub mod oauth;
pub mod peer;
pub mod policy;
pub mod rotation;
pub mod store;

/// A target: its name, what it does, and how many mutations of each seed the plain test tries.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub mutations: u32,
}

/// For parsers that take microseconds, some hundred of them, and milliseconds.
const QUICK: u32 = 300;
const SLOW: u32 = 60;
const SLOWEST: u32 = 3;

const fn target(name: &'static str, run: fn(&[u8]), mutations: u32) -> Target {
    Target { name, run, mutations }
}

/// Every target. Each has a file in `fuzz_targets`, an entry in `Cargo.toml`, and seeds in `corpus/<name>`.
pub const TARGETS: [Target; 48] = [
    target("token_form", api::token_form, QUICK),
    target("secret_query", api::secret_query, QUICK),
    target("secret_member", store::secret_member, QUICK),
    target("form_guard", api::form_guard, QUICK),
    target("traceparent", audit::traceparent, QUICK),
    target("audit_line", audit::audit_line, QUICK),
    target("audit_ids", audit::audit_ids, QUICK),
    target("audit_keys", audit::audit_keys, QUICK),
    target("segment_opening", audit::segment_opening, QUICK),
    target("config_document", config::config_document, SLOW),
    target("config_settings", config::config_settings, SLOW),
    target("config_words", config::config_words, QUICK),
    target("times", config::times, QUICK),
    target("names", names::names, QUICK),
    target("scopes", names::scopes, QUICK),
    target("token_answer", oauth::token_answer, QUICK),
    target("retry_after", oauth::retry_after, QUICK),
    target("discovery", oauth::discovery, QUICK),
    target("json_object", oauth::json_object, QUICK),
    target("withheld", oauth::withheld, QUICK),
    target("ca_file", oauth::ca_file, QUICK),
    target("reject_form", api::reject_form, QUICK),
    target("signing_key", oauth::signing_key, SLOW),
    target("certificate", oauth::certificate, QUICK),
    target("federated", oauth::federated, QUICK),
    target("provider_urls", oauth::provider_urls, QUICK),
    target("cgroup", peer::cgroup, QUICK),
    target("container_root", peer::container_root, QUICK),
    target("proc_text", peer::proc_text, QUICK),
    target("workloads", peer::workloads, SLOW),
    target("policy_set", policy::policy_set, SLOWEST),
    target("scenarios", policy::scenarios, SLOW),
    target("rotator_template", rotation::rotator_template, QUICK),
    target("rotator_list", rotation::rotator_list, QUICK),
    target("iam_answer", rotation::iam_answer, QUICK),
    target("exec_reply", rotation::exec_reply, QUICK),
    target("holder_notice", rotation::holder_notice, QUICK),
    target("store_key", store::store_key, QUICK),
    target("line_end", store::line_end, QUICK),
    target("aws_book", store::aws_book, QUICK),
    target("openbao_answer", store::openbao_answer, QUICK),
    target("store_notes", store::store_notes, QUICK),
    target("store_words", store::store_words, QUICK),
    target("postgres_watch", database::postgres_watch, QUICK),
    target("redis_reply", database::redis_reply, QUICK),
    target("database_login", database::database_login, QUICK),
    target("database_address", database::database_address, QUICK),
    target("bad_day", dev::bad_day, QUICK),
];
