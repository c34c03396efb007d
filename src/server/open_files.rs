//! The process's limit of open files, which bounds its connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not connections: the journal, uploads being written, files being read, the runtime's own.
const OTHER_FILES: usize = 512;

/// Raises the limit of open files as far as allowed, and gives the number of connections that it leaves room for, at
/// most `max_connections`. Fewer is a warning in the log: beyond the limit, accepting would only fail.
pub fn fit_open_files(max_connections: usize) -> usize {
    let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES as u64);
    let limit = raise(wanted);
    if limit >= wanted {
        return max_connections;
    }
    let fits = limit.saturating_sub(OTHER_FILES as u64).max(limit / 2).max(1);
    tracing::warn!(
        open_files.limit = limit,
        open_files.wanted = wanted,
        connections.max = fits,
        "the limit of open files leaves room for fewer connections than max-connections; raise it (ulimit -n, \
         LimitNOFILE)"
    );
    usize::try_from(fits).map_or(max_connections, |fits| fits.min(max_connections))
}

/// Files that may be open at once for downloads and uploads: most of those that are not connections, and where the limit
/// is low, a quarter of it.
pub(super) fn answers_max() -> usize {
    let most = OTHER_FILES / 4 * 3;
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(most, |limit| most.min(limit / 4).max(1))
}

/// Raises the soft limit to `wanted`, or to the hard limit where that is lower; gives the limit reached.
fn raise(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No value means no limit.
    let Some(current) = current else { return u64::MAX };
    let reachable = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if reachable <= current {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum }) {
        Ok(()) => reachable,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_always_fit() {
        assert_eq!(fit_open_files(10), 10);
    }

    #[test]
    fn more_than_the_hard_limit_does_not_fit() {
        let Some(maximum) = getrlimit(Resource::Nofile).maximum else { return };
        let Ok(maximum) = usize::try_from(maximum) else { return };
        let fits = fit_open_files(maximum);
        assert!(fits < maximum, "{fits} connections do not leave room for other files below {maximum}");
    }
}
