//! The agent from outside: a process of its own, its sockets, its log, and everything that goes wrong around it.

mod answers;
mod canary;
mod crashes;
mod endpoint;
mod floods;
mod freshness;
mod hostile;
mod observed;
mod operators;
mod reload;
mod rig;
mod sockets;
mod uids;
mod wire;
