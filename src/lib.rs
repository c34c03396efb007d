//! progressd: every slow task gets a URL that streams its progress.
