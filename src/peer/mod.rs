//! Who asks: what the kernel says of a peer, and the workload that it maps to.
