//! What systemd hands over (sockets, credentials) and is told (READY, RELOADING, STOPPING, WATCHDOG).
