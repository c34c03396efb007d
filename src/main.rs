//! The `progressd` binary.

fn main() {}
