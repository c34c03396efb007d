//! Connections: from the listening socket to a request and back.
//!
//! [`serve`] accepts within a bound and gives each connection a task of its own, which owns all that the connection
//! needs and frees it at its end. A client may be silent, slow, half-open or hostile; `client_wait` says how long it is
//! waited for, and nothing here waits without it. What a request means is the business of the handed-in service, any
//! `tower::Service` of HTTP requests; this module must not know its routes.

mod accept;
mod answer_room;
mod body;
mod connection;
mod head_refusal;
mod open_files;
mod client_wait;
mod peer;
mod preface;
mod secure;
mod socket;
mod stream_pace;
mod timed_io;
mod timer;
mod tls;
mod watched_io;

pub use accept::{ServeOptions, serve};
pub use answer_room::{AnswerRoom, Held};
pub use body::RequestBody;
pub use connection::HttpService;
pub use head_refusal::{RefuseHead, UnreadHead};
pub use open_files::fit_open_files;
pub use peer::Peer;
pub use socket::bind;
pub use tls::{Tls, TlsError, TlsFiles};
