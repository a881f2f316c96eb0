//! The agent from outside: a process of its own, its sockets, its log, and everything that goes wrong around it.

mod answers;
mod bad_days;
mod canary;
mod crashes;
mod deliver;
mod endpoint;
mod exec;
mod faults;
mod floods;
mod freshness;
mod hostile;
mod observed;
mod openapi;
mod operators;
mod reload;
mod resilience;
mod rig;
mod rotations;
mod secrets;
mod sockets;
mod uids;
mod upkeep;
mod waits;
mod wire;
