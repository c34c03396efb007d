//! Clients that are silent, slow, hostile, half-open or simply many, on real sockets.
//!
//! The kernel does not know paused time, so the one time-out of a test is a short setting, all others are long, and
//! each test waits for what must happen.

mod fixture;
mod protocols;
mod shutdown;
mod time_outs;
mod tls;
mod windows;
