//! bursar: a secrets broker and credential rotation agent.
//!
//! This page is the plan of the house. Every module below is a *room*; rooms stand on *floors*, and a
//! room uses lower floors only. `tests/house.rs` holds the table and fails on an import that climbs.
//! A reviewer of the product's security reads [`broker`] first: one page that tells the whole request.

// ── floor 0, materials: each may use those before it
pub mod crypto;
pub mod document;
pub mod durable;
pub mod fault;
pub mod name;
pub mod retry;
pub mod secret;
pub mod systemd;
pub mod telemetry;
pub mod time;
pub mod way;
pub mod wire;

// ── floor 1, the question
pub mod access;
pub mod account;
pub mod events;

// ── floor 2, rooms that do not know each other
pub mod audit;
pub mod oauth;
pub mod peer;
pub mod policy;
pub mod store;

// ── floor 3, engines
pub mod kept;
pub mod rotation;
pub mod token;

// ── floor 4, the one page
pub mod broker;

// ── floor 5, the door
pub mod api;
pub mod deliver;

// ── floor 6, the roof
pub mod agent;
pub mod cli;
pub mod config;
pub mod dev;
