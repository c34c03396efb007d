//! What must hold between settings, and the defaults that follow another setting.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::time::Duration;

use super::given::Given;
use super::sections::Config;

/// The HTTP/1 parser's first buffer; it cannot be told to stop below it.
const MIN_HEADER_BYTES: usize = 8 * 1024;

/// The server has no more room for one page.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// The result of a task or a notification may have so much alone.
const MIN_HISTORY_BYTES: usize = 64 << 10;

/// All of it is loaded at once, and held for each channel that is watched.
const MAX_HISTORY_BYTES: usize = 64 << 20;

/// A shorter lease would be lost by any short pause of the machine.
const MIN_LEASE: Duration = Duration::from_secs(1);

/// Sets the defaults that follow another setting, then finds the contradictions. `given` holds the settings that were
/// given.
pub(super) fn check(config: &mut Config, given: &HashMap<&str, &Given>) -> Vec<String> {
    follow(config, given);
    let named = |flag: &str, value: &dyn Debug| match given.get(flag) {
        Some(given) => format!("{flag} {} = {}", given.source, given.text.display()),
        None => format!("{flag} (default) = {value:?}"),
    };
    let mut problems = Vec::new();
    let mut require = |holds: bool, wrong: String, must: &dyn Display| {
        if !holds {
            problems.push(format!("{wrong} is wrong: it must be {must}"));
        }
    };

    let (connections, streams) = (&config.connections, &config.streams);
    let max_connections = named("max-connections", &connections.max_connections);
    let max_streams = named("max-streams", &streams.max_streams);
    require(
        streams.max_streams < connections.max_connections,
        max_streams.clone(),
        &format_args!("below {max_connections}, so that requests still get through"),
    );
    require(
        streams.max_streams_per_channel <= streams.max_streams,
        named("max-streams-per-channel", &streams.max_streams_per_channel),
        &format_args!("at most {max_streams}"),
    );
    require(
        streams.tick_interval < streams.keep_alive,
        named("tick-interval", &streams.tick_interval),
        &format_args!("below {}", named("keep-alive", &streams.keep_alive)),
    );
    for (one, other, is_alone) in [
        ("tls-cert", "tls-key", config.tls.cert.is_some() && config.tls.key.is_none()),
        ("tls-key", "tls-cert", config.tls.key.is_some() && config.tls.cert.is_none()),
        ("files-dir", "store", config.files_dir.is_some() && config.store.is_none()),
    ] {
        require(!is_alone, named(one, &""), &format_args!("given together with {other}"));
    }
    let max_header = connections.max_header_bytes;
    require(max_header >= MIN_HEADER_BYTES, named("max-header", &max_header), &"at least 8KiB");
    let history = streams.history_bytes;
    let allowed = MIN_HISTORY_BYTES..=MAX_HISTORY_BYTES;
    require(allowed.contains(&history), named("history-data", &history), &"from 64KiB to 64MiB");
    let max_page = config.http.max_page_bytes;
    require(max_page <= MAX_PAGE_BYTES, named("max-page", &max_page), &"at most 16MiB");
    require(config.jobs.lease >= MIN_LEASE, named("lease", &config.jobs.lease), &"at least 1s");
    problems
}

/// Bounds that were not given follow the one above them.
fn follow(config: &mut Config, given: &HashMap<&str, &Given>) {
    let max_connections = config.connections.max_connections;
    let streams = &mut config.streams;
    if !given.contains_key("max-streams") {
        // The same share of connections stays free for requests as by default.
        streams.max_streams = (max_connections - max_connections.div_ceil(16)).max(1);
    }
    if !given.contains_key("max-streams-per-channel") {
        streams.max_streams_per_channel = streams.max_streams;
    }
}
