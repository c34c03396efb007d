//! What the service does, seen from outside: one binary, so that it is linked once.

mod architecture;
mod connections;
mod crash;
mod support;
