//! What requests may hold until their clients have sent or taken everything: bytes in memory, and open files.
//!
//! A client of HTTP/2 asks for many things on one connection and takes none of them; so each connection has a room of
//! its own, within one for all. Who needs room waits for it a while, before it makes or opens anything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::open_files::OTHER_FILES;

/// Bytes of large answers that are in memory at once: of one connection, and of all.
const CONNECTION_BYTES_MAX: usize = 16 << 20;
const BYTES_MAX: usize = 512 << 20;

/// Files that are open at once for downloads and uploads: of one connection, and of all.
const CONNECTION_FILES_MAX: usize = 16;
const FILES_MAX: usize = OTHER_FILES / 4 * 3;

/// How long a request waits for room before it is turned away.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);

/// The room of one connection, within the one for all. Each request has an `Arc` of it among its extensions.
pub struct AnswerRoom {
    connection: Share,
    all: Share,
}

#[derive(Clone)]
struct Share {
    bytes: Arc<Semaphore>,
    files: Arc<Semaphore>,
}

impl Share {
    fn new(bytes: usize, files: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes)), files: Arc::new(Semaphore::new(files)) }
    }
}

impl Default for AnswerRoom {
    fn default() -> Self {
        let connection = Share::new(CONNECTION_BYTES_MAX, CONNECTION_FILES_MAX);
        Self { connection, all: Share::new(BYTES_MAX, FILES_MAX) }
    }
}

impl AnswerRoom {
    /// The room of one more connection.
    pub(super) fn of_connection(&self) -> Arc<Self> {
        Arc::new(Self { all: self.all.clone(), ..Self::default() })
    }

    /// Room for an answer of at most so many bytes; `None` when there was none for too long.
    pub async fn bytes(&self, most: usize) -> Option<Held> {
        Held::take(&self.connection.bytes, &self.all.bytes, most).await
    }

    /// Room for an open file; `None` when there was none for too long.
    pub async fn file(&self) -> Option<Held> {
        Held::take(&self.connection.files, &self.all.files, 1).await
    }
}

/// Room that is taken until it is dropped.
#[derive(Debug)]
pub struct Held([OwnedSemaphorePermit; 2]);

impl Held {
    async fn take(connection: &Arc<Semaphore>, all: &Arc<Semaphore>, count: usize) -> Option<Self> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // A connection that waits for its own room takes none of the others'.
        let both = async {
            let own = Arc::clone(connection).acquire_many_owned(count).await.ok()?;
            Some(Self([own, Arc::clone(all).acquire_many_owned(count).await.ok()?]))
        };
        tokio::time::timeout(ROOM_WAIT_MAX, both).await.ok().flatten()
    }

    /// Keeps as much room as `bytes` take, until the last copy of them is dropped.
    pub fn keep(mut self, bytes: Bytes) -> Bytes {
        for permit in &mut self.0 {
            drop(permit.split(permit.num_permits().saturating_sub(bytes.len())));
        }
        Bytes::from_owner(Kept { bytes, _held: self })
    }
}

struct Kept {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_its_share_and_no_more() {
        let room = AnswerRoom::default();
        let (one, other) = (room.of_connection(), room.of_connection());
        let held = one.bytes(CONNECTION_BYTES_MAX).await.expect("room");
        let start = Instant::now();
        assert!(one.bytes(1).await.is_none());
        assert_eq!(start.elapsed(), ROOM_WAIT_MAX);
        assert!(other.bytes(CONNECTION_BYTES_MAX).await.is_some());

        let kept = held.keep(Bytes::from_static(b"small"));
        assert!(one.bytes(CONNECTION_BYTES_MAX).await.is_none(), "what was built is still there");
        let piece = kept.slice(1..2);
        drop(kept);
        assert!(one.bytes(CONNECTION_BYTES_MAX - 4).await.is_none(), "a part keeps all of it");
        assert!(one.bytes(CONNECTION_BYTES_MAX - 5).await.is_some());
        drop(piece);
        assert!(one.bytes(CONNECTION_BYTES_MAX).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn all_connections_together_leave_files_to_the_rest() {
        let room = AnswerRoom::default();
        let mut held = Vec::new();
        for _ in 0..FILES_MAX / CONNECTION_FILES_MAX {
            let connection = room.of_connection();
            for _ in 0..CONNECTION_FILES_MAX {
                held.push(connection.file().await.expect("room"));
            }
            assert!(connection.file().await.is_none());
        }
        assert!(room.of_connection().file().await.is_none());
        held.pop();
        assert!(room.of_connection().file().await.is_some());
    }
}
