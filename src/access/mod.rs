//! Access: who makes a request, and what they may do.
//!
//! `table.rs` says what each route needs and who may watch each channel; the rest finds out who asks. It owns the API keys
//! and the ended sessions of the running service. It must not know how a request or an answer looks, nor what a task is.

mod key_file;
mod key_ring;
mod key_set;
mod place;
mod principal;
mod sessions;
mod shared_access;
mod table;
mod tickets;
mod tokens;

pub use key_file::{AccessFiles, KeyRecord};
pub use place::AccessPlace;
pub use principal::{Principal, Scope};
pub use shared_access::SharedAccess;
pub use table::{BROADCAST, Needs, ROUTES, Subject, Ties, Verdict, is_unlimited, judge, may_watch, needs};

use std::{
    future::{Future, pending},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::AccessConfig,
    event::{ChannelKind, ChannelName, Timestamp},
};
use key_ring::KeyRing;
use key_set::KeySet;
use sessions::Sessions;
use tickets::TicketOffice;
use tokens::TokenChecks;

/// Who is recognized. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<AccessParts>);

struct AccessParts {
    tokens: Option<TokenChecks>,
    keys: Arc<KeyRing>,
    tickets: TicketOffice,
    sessions: Arc<Sessions>,
    public_topics: Vec<String>,
    place: AccessPlace,
}

/// After the store did not answer, it is asked again only after this pause.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// Who makes a request, and for how long that holds.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Who it is.
    pub principal: Principal,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// The name of the API key.
    pub name: Option<Arc<str>>,
    /// The id of the API key.
    pub key: Option<String>,
    /// What tells the ticket from others.
    pub ticket: Option<Arc<str>>,
    /// Cancelled when it is revoked.
    pub revoked: Option<Arc<CancellationToken>>,
    /// The id of the session.
    pub session: Option<Arc<str>>,
}

impl Pass {
    /// One that does not end.
    pub fn of(principal: Principal) -> Self {
        Self { principal, expires_at: None, name: None, key: None, ticket: None, revoked: None, session: None }
    }
}

/// Why a credential is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither a token nor a key.
    #[error("The token is malformed.")]
    Malformed,
    /// Its header asks for more than is understood here.
    #[error("The token has critical headers, which are not supported.")]
    Critical,
    /// No key verifies it.
    #[error("The token is not signed with a key that is accepted here.")]
    NotSigned,
    /// It would never end.
    #[error("The token has no exp.")]
    NoExpiry,
    /// Its key is none of those that are known.
    #[error("The token is not signed with a key that is accepted here.")]
    UnknownSigner,
    /// The issuer of tokens cannot be asked for its keys.
    #[error("The keys that verify tokens cannot be fetched. Try again.")]
    NoKeys,
    /// It has ended.
    #[error("The token has expired.")]
    Expired,
    /// It has not begun.
    #[error("The token is not valid yet.")]
    NotYetValid,
    /// It comes from somebody else.
    #[error("The token was issued by another issuer.")]
    OtherIssuer,
    /// It is for somebody else.
    #[error("The token is meant for another audience.")]
    OtherAudience,
    /// It names no user.
    #[error("The token has no sub that is a user id: 1 to 128 ASCII letters, digits or any of - _ . ~ @.")]
    NoUser,
    /// It is no ticket, or of another service.
    #[error("The ticket is not one of this service.")]
    WrongTicket,
    /// It has ended.
    #[error("The ticket has expired.")]
    TicketExpired,
    /// There is no such key, or not any more.
    #[error("The API key is unknown or was revoked.")]
    UnknownKey,
    /// It is no cookie of a session, or of another service.
    #[error("The session is not one of this service. Sign in again.")]
    WrongSession,
    /// Somebody signed out.
    #[error("The session was ended. Sign in again.")]
    SessionEnded,
}

/// What access needs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct AccessError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Access {
    /// Whether people or programs can have a credential, by the settings and the data directory.
    ///
    /// # Errors
    /// When a file that they name cannot be used.
    pub fn is_set_up(config: &AccessConfig, data_dir: &Path) -> Result<bool, AccessError> {
        Ok(TokenChecks::load(config)?.is_some() || !AccessFiles::of(data_dir).keys()?.is_empty())
    }

    /// What the settings and this place say; the secret that signs tickets is made if there is none.
    ///
    /// # Errors
    /// When a file that they name, or the store, cannot be used.
    pub async fn load(config: &AccessConfig, place: AccessPlace) -> Result<Self, AccessError> {
        let tokens = TokenChecks::load(config)?;
        let secret = match &place {
            AccessPlace::Files(files) => files.secret()?,
            AccessPlace::Store(store) => store.secret().await?,
        };
        Ok(Self(Arc::new(AccessParts {
            tokens,
            keys: Arc::new(KeyRing::load(place.clone()).await?),
            tickets: TicketOffice::new(secret.as_bytes()),
            sessions: Arc::new(Sessions::load(place.clone(), &secret).await?),
            public_topics: config.public_topics.clone(),
            place,
        })))
    }

    /// Whether requests need a credential: as soon as people or programs can have one.
    pub fn is_on(&self) -> bool {
        self.open_pass().is_none()
    }

    /// The pass of whoever reaches the address while access is off; it ends when access comes on.
    pub fn open_pass(&self) -> Option<Pass> {
        let off = self.0.tokens.is_none().then(|| self.0.keys.none_yet()).flatten()?;
        Some(Pass { revoked: Some(off), ..Pass::of(Principal::Open) })
    }

    /// Whether a channel is a topic that all people and programs may see.
    pub fn is_public(&self, channel: &ChannelName) -> bool {
        let name = channel.name();
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern.as_str(),
        };
        channel.kind() == ChannelKind::Topic && self.0.public_topics.iter().any(is_meant)
    }

    /// Recognizes the holder of a token or of a key.
    ///
    /// # Errors
    /// When it is not believed.
    pub fn recognize(&self, credential: &str, now: Timestamp) -> Result<Pass, Denied> {
        if key_file::id_of(credential).is_some() {
            return self.0.keys.check(credential, now);
        }
        let told = self.0.tokens.as_ref().ok_or(Denied::Malformed)?.check(credential, now)?;
        let principal = Principal::Person(told.user_id.into());
        Ok(Pass { expires_at: Some(told.expires_at), ..Pass::of(principal) })
    }

    /// Recognizes the holder of the cookie of a session.
    ///
    /// # Errors
    /// When it is not believed, or the credential in it is not any more.
    pub fn recognize_session(&self, cookie: &str, now: Timestamp) -> Result<Pass, Denied> {
        let opened = self.0.sessions.open(cookie, now)?;
        let pass = self.recognize(&opened.credential, now)?;
        Ok(Pass { expires_at: Some(opened.until), session: Some(opened.id.into()), ..pass })
    }

    /// The value of a cookie for this credential, which has this pass, and when it ends. `None` if it would be longer than
    /// browsers keep.
    pub fn open_session(&self, credential: &str, pass: &Pass, now: Timestamp) -> Option<(String, Timestamp)> {
        self.0.sessions.seal(credential, pass.expires_at, now)
    }

    /// Ends the session of this cookie, if there is one.
    ///
    /// # Errors
    /// When it cannot be written down: the session has ended, but would not stay so after a restart.
    pub async fn end_session(&self, cookie: &str, now: Timestamp) -> Result<(), AccessError> {
        self.0.sessions.end(cookie, now).await
    }

    /// Completes when this pass ends, which is valid now.
    pub fn end_of(&self, pass: &Pass, now: Timestamp) -> impl Future<Output = ()> + Send + 'static {
        let (access, pass) = (self.clone(), pass.clone());
        async move {
            access.0.keys.follow_file();
            let expired = async {
                match pass.expires_at {
                    Some(end) => tokio::time::sleep(end.since(now)).await,
                    None => pending().await,
                }
            };
            let revoked = async {
                match &pass.revoked {
                    Some(revoked) => revoked.cancelled().await,
                    None => pending().await,
                }
            };
            let signed_out = async {
                match &pass.session {
                    Some(session) => access.0.sessions.ended(session).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = expired => {}
                () = revoked => {}
                () = signed_out => {}
            }
        }
    }

    /// Fetches the keys that verify tokens, if they are at a URL that was not asked a moment ago; says whether there are new
    /// ones.
    pub async fn renew_keys(&self) -> bool {
        match self.key_set() {
            Some(set) => set.renew().await,
            None => false,
        }
    }

    fn key_set(&self) -> Option<&KeySet> {
        self.0.tokens.as_ref()?.set.as_ref()
    }

    /// Recognizes the holder of a ticket.
    ///
    /// # Errors
    /// When it is not believed.
    pub fn recognize_ticket(&self, ticket: &str, now: Timestamp) -> Result<Pass, Denied> {
        let told = self.0.tickets.check(ticket, now)?;
        let principal = Principal::Ticket(told.channels.into());
        // The signature.
        let mark = ticket.rsplit('.').next().map(Arc::from);
        let mut pass = Pass { expires_at: Some(told.expires_at), ticket: mark, ..Pass::of(principal) };
        if let Some(key) = told.key {
            pass.revoked = Some(self.0.keys.revocation(&key)?);
        }
        Ok(pass)
    }

    /// A ticket to watch these channels, for whoever has this pass: it ends with the pass, or earlier. `None` if it would
    /// be longer than is accepted.
    pub fn issue_ticket(&self, channels: &[ChannelName], until: Timestamp, pass: &Pass) -> Option<(String, Timestamp)> {
        let until = pass.expires_at.map_or(until, |end| end.min(until));
        let ticket = self.0.tickets.issue(channels, until, pass.key.as_deref())?;
        (ticket.len() <= tokens::TOKEN_BYTES_MAX).then_some((ticket, until))
    }

    /// Notices revoked keys, and new ones of the issuer, until it is asked to end. `changes` tells that nodes may have changed
    /// what they share.
    pub async fn run(self, mut changes: watch::Receiver<()>, stop: CancellationToken) {
        // What was changed after it was loaded, and before anybody listened.
        changes.mark_changed();
        let follow_store = async {
            match &self.0.place {
                AccessPlace::Store(store) => self.follow_store(store, changes).await,
                AccessPlace::Files(_) => pending().await,
            }
        };
        let follow_set = async {
            match self.key_set() {
                Some(set) => set.run().await,
                None => pending().await,
            }
        };
        let follow = async { tokio::join!(Arc::clone(&self.0.keys).run(), follow_set, follow_store) };
        stop.run_until_cancelled(follow).await;
        self.0.keys.write_last_uses().await;
    }

    async fn follow_store(&self, store: &SharedAccess, mut changes: watch::Receiver<()>) {
        while changes.changed().await.is_ok() {
            let mut was_told = false;
            while let Err(error) = self.follow_once(store).await {
                if !was_told {
                    tracing::warn!(%error, "cannot read what was changed of API keys and sessions; retrying");
                }
                was_told = true;
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        }
    }

    async fn follow_once(&self, store: &SharedAccess) -> Result<(), AccessError> {
        self.0.keys.follow_store(store).await?;
        self.0.sessions.follow_store(store).await
    }
}
