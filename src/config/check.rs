//! What must hold between settings, and the defaults that follow another setting.

use std::collections::HashMap;
use std::time::Duration;

use super::sections::Config;
use super::settings::find;
use super::source::Origin;

/// The HTTP/1 parser's first buffer; it cannot be told to stop below it.
const MIN_HEADER_BYTES: usize = 8 * 1024;

/// A shorter lease would be lost by any short pause of the machine.
const MIN_LEASE: Duration = Duration::from_secs(1);

/// Fits the defaults that follow another setting, then finds the contradictions. `origins` tells which settings were given, and where.
pub(super) fn check(config: &mut Config, origins: &HashMap<&str, &Origin>) -> Vec<String> {
    follow(config, origins);
    let named = |flag: &str| {
        let value = find(flag).map(|setting| (setting.show)(config)).unwrap_or_default();
        match origins.get(flag) {
            Some(origin) => format!("{flag} {origin} = {value}"),
            None => format!("{flag} (default) = {value}"),
        }
    };
    let mut problems = Vec::new();
    let mut require = |holds: bool, wrong: &str, must: &str| {
        if !holds {
            problems.push(format!("{} is wrong: it must be {must}", named(wrong)));
        }
    };

    let streams = &config.streams;
    require(
        streams.max_streams < config.connections.max_connections,
        "max-streams",
        &format!("below {}, so that requests still get through", named("max-connections")),
    );
    require(
        streams.max_streams_per_channel <= streams.max_streams,
        "max-streams-per-channel",
        &format!("at most {}", named("max-streams")),
    );
    require(streams.tick_interval < streams.keep_alive, "tick-interval", &format!("below {}", named("keep-alive")));
    require(config.connections.max_header_bytes >= MIN_HEADER_BYTES, "max-header", "at least 8KiB");
    require(config.jobs.lease >= MIN_LEASE, "lease", "at least 1s");
    problems
}

/// Bounds that were not given follow the one above them.
fn follow(config: &mut Config, origins: &HashMap<&str, &Origin>) {
    let max_connections = config.connections.max_connections;
    let streams = &mut config.streams;
    if !origins.contains_key("max-streams") {
        // The same share of connections stays free for requests as by default.
        streams.max_streams = (max_connections - max_connections.div_ceil(16)).max(1);
    }
    if !origins.contains_key("max-streams-per-channel") {
        streams.max_streams_per_channel = streams.max_streams;
    }
}
