//! A proxy on loopback between a client of PostgreSQL and a server, which can be told to misbehave.
//!
//! It has a thread and a clock of its own, so that a test may pause time.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{oneshot, watch},
    task::JoinSet,
};

/// How much is forwarded at once.
const PIECE_BYTES: usize = 16 * 1024;
/// What PostgreSQL says where it has no connection left: message `E`, its length, then fields.
const TOO_MANY: &[u8] = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0";

/// How a proxy misbehaves, until it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Each piece takes so long, in either direction.
    Delay(Duration),
    /// Connections are taken, and nothing goes through them, in neither direction. What was sent is held, and goes on later.
    Silent,
    /// The same for one direction only.
    OneWay(Way),
    /// New connections are ended at once.
    Refuse,
    /// New clients are told that there are too many.
    Full,
}

/// A direction of the bytes that are held or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

/// A proxy in front of a server's socket. It ends with this.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
    _runs: oneshot::Sender<()>,
}

#[derive(Debug)]
struct ProxyState {
    server: PathBuf,
    fault: watch::Sender<Fault>,
    accepted: AtomicU64,
    /// How often all connections have been cut.
    cuts: watch::Sender<u64>,
    /// How often all connections have been forgotten.
    lapses: watch::Sender<u64>,
    fuse: Mutex<Option<Fuse>>,
}

/// How many bytes go in a direction until something happens: a fault begins, or all connections are cut.
#[derive(Debug)]
struct Fuse {
    way: Way,
    left: usize,
    then: Option<Fault>,
}

impl Fault {
    fn holds(self, way: Way) -> bool {
        self == Self::Silent || self == Self::OneWay(way)
    }
}

impl FaultProxy {
    /// Starts one in front of a socket.
    ///
    /// # Panics
    /// When the system has no port or thread for it.
    pub fn start(server: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(ProxyState {
            server: server.to_owned(),
            fault: watch::Sender::new(Fault::None),
            accepted: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            lapses: watch::Sender::new(0),
            fuse: Mutex::default(),
        });
        let (runs, ends) = oneshot::channel();
        let served = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, &served) => {}
                    _ = ends => {}
                }
            });
        });
        Self { address, state, _runs: runs }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Misbehaves like this from now on.
    pub fn set(&self, fault: Fault) {
        self.state.fault.send_replace(fault);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Ends all connections after so many more bytes in a direction, once.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        *self.state.fuse() = Some(Fuse { way, left: bytes, then: None });
    }

    /// Misbehaves like this after so many more bytes in a direction.
    pub fn set_after(&self, way: Way, bytes: usize, fault: Fault) {
        *self.state.fuse() = Some(Fuse { way, left: bytes, then: Some(fault) });
    }

    /// Forgets all connections: nothing goes through them any more, and nobody is told. New ones are served.
    pub fn forget(&self) {
        self.state.lapses.send_modify(|lapses| *lapses += 1);
    }

    /// Whether it misbehaves like this.
    pub fn is(&self, fault: Fault) -> bool {
        *self.state.fault.borrow() == fault
    }

    /// Comes back when it misbehaves like this.
    pub async fn until(&self, fault: Fault) {
        // Its sender is here.
        let mut faults = self.state.fault.subscribe();
        let _fault = faults.wait_for(|now| *now == fault).await;
    }

    /// How many connections it has been asked for.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How often all connections have been cut.
    pub fn cuts(&self) -> u64 {
        *self.state.cuts.borrow()
    }
}

impl ProxyState {
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn fuse(&self) -> std::sync::MutexGuard<'_, Option<Fuse>> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of these bytes go on before something happens, and what.
    fn burn(&self, way: Way, bytes: usize) -> (usize, Option<Fuse>) {
        let mut fuse = self.fuse();
        match &mut *fuse {
            Some(burning) if burning.way == way && burning.left <= bytes => (burning.left, fuse.take()),
            Some(burning) if burning.way == way => {
                burning.left -= bytes;
                (bytes, None)
            }
            _ => (bytes, None),
        }
    }
}

async fn serve(listener: TcpListener, state: &Arc<ProxyState>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                state.accepted.fetch_add(1, Ordering::Relaxed);
                let (state, mut cuts) = (Arc::clone(state), state.cuts.subscribe());
                connections.spawn(async move {
                    tokio::select! {
                        // However it ends, both sides are closed.
                        _ended = connection(client, &state) => {}
                        _cut = cuts.changed() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, state: &ProxyState) -> io::Result<()> {
    client.set_nodelay(true)?;
    let fault = *state.fault.borrow();
    match fault {
        Fault::Refuse => return Ok(()),
        Fault::Full => {
            let length = client.read_u32().await?;
            let mut startup = vec![0; length.saturating_sub(4) as usize];
            client.read_exact(&mut startup).await?;
            client.write_all(&[b"E", &(TOO_MANY.len() as u32 + 4).to_be_bytes()[..], TOO_MANY].concat()).await?;
            return client.shutdown().await;
        }
        _ => {}
    }
    let (from_server, to_server) = UnixStream::connect(&state.server).await?.into_split();
    let (from_client, to_client) = client.into_split();
    tokio::try_join!(
        forward(from_client, to_server, Way::ToServer, state),
        forward(from_server, to_client, Way::ToClient, state),
    )?;
    Ok(())
}

/// Forwards until the end of what is sent, or until all connections are cut.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    state: &ProxyState,
) -> io::Result<()> {
    let (mut faults, lapses) = (state.fault.subscribe(), state.lapses.subscribe());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).await?;
        let mut rest = &piece[..count];
        loop {
            let Ok(fault) = faults.wait_for(|fault| !fault.holds(way)).await.map(|fault| *fault) else { return Ok(()) };
            if lapses.has_changed().unwrap_or(true) {
                std::future::pending::<()>().await;
            }
            if let Fault::Delay(delay) = fault {
                tokio::time::sleep(delay).await;
            }
            let (now, burnt) = state.burn(way, rest.len());
            to.write_all(&rest[..now]).await?;
            rest = &rest[now..];
            match burnt {
                Some(Fuse { then: Some(fault), .. }) => drop(state.fault.send_replace(fault)),
                Some(Fuse { then: None, .. }) => {
                    state.cut();
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                None => break,
            }
        }
        if count == 0 {
            return to.shutdown().await;
        }
    }
}
