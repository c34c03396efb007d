//! TLS: the handshake of a connection, and the certificate, which is read again when its files change.
//!
//! The certificate in use belongs to [`Tls`]; its files belong to whoever renews them. They are looked at every second,
//! since a renewal may replace them by links, renames or over a network, of which no watch tells. A pair that cannot be
//! used is told of in the log, and the one before it stays.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::preface::Protocol;
use crate::config::TlsConfig;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The protocols that a client may choose from (RFC 7301), the better one first.
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// Bytes that TLS may hold unsent for a client: one record. The kernel's own bound comes on top.
const UNSENT_BYTES: usize = 16 * 1024;

/// Others on the machine may read the file, or change it.
const OTHERS_MODE: u32 = 0o006;

/// Why a certificate and its key cannot be used. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files cannot be read, or holds something else.
    #[error("cannot read {what} from {}: {}", .path.display(), file_reason(.error))]
    File {
        /// What it is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// The files can be read, and what they hold cannot be used.
    #[error("cannot use the certificate in {} with the key in {}: {}", .files.cert.display(), .files.key.display(), pair_reason(.error))]
    Pair {
        /// The files.
        files: TlsFiles,
        /// What is wrong with them.
        error: rustls::Error,
    },
}

fn file_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds none in PEM form".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        // Their words quote the file.
        _ => "its PEM form is damaged".to_owned(),
    }
}

fn pair_reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => "they do not belong together".to_owned(),
        other => other.to_string(),
    }
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to a known authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The TLS side of a server; a cheap clone of one value.
#[derive(Clone, Debug)]
pub struct Tls {
    files: TlsFiles,
    /// What the certificate was loaded from.
    loaded: FileVersions,
    certificate: Arc<Certificate>,
    settings: Arc<ServerConfig>,
    handshakes: Arc<Semaphore>,
}

impl Tls {
    /// TLS with the certificate in these files, if there are any; `max_handshakes` run at once.
    ///
    /// # Errors
    ///
    /// When the files cannot be read, or do not belong together.
    pub fn load(config: &TlsConfig, max_handshakes: usize) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (config.cert.clone(), config.key.clone()) else { return Ok(None) };
        let files = TlsFiles { cert, key };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair_error = |error| TlsError::Pair { files: files.clone(), error };
        let loaded = files.versions();
        let pair = files.load(&provider)?;
        let certificate =
            Arc::new(Certificate { current: RwLock::new(Arc::new(pair)), provider: Arc::clone(&provider) });
        // TLS 1.2 and 1.3.
        let settings = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificate>::clone(&certificate);
        let mut settings = settings.map_err(pair_error)?.with_no_client_auth().with_cert_resolver(resolver);
        settings.alpn_protocols = [H2, HTTP_1_1].map(<[u8]>::to_vec).to_vec();
        let handshakes = Arc::new(Semaphore::new(max_handshakes));
        Ok(Some(Self { files, loaded, certificate, settings: Arc::new(settings), handshakes }))
    }

    /// Takes over what the files hold whenever they change, until `stop` is cancelled.
    pub async fn follow_files(self, stop: CancellationToken) {
        let (mut loaded, mut seen) = (self.loaded, self.loaded);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
            let files = self.files.clone();
            let Ok(versions) = tokio::task::spawn_blocking(move || files.versions()).await else { continue };
            // Two files are not replaced at once: what has changed is left alone until it does not change any more.
            if versions != loaded && versions == seen {
                self.reload().await;
                loaded = versions;
            }
            seen = versions;
        }
    }

    async fn reload(&self) {
        let (files, provider) = (self.files.clone(), Arc::clone(&self.certificate.provider));
        let (cert, key) = (self.files.cert.display(), self.files.key.display());
        match tokio::task::spawn_blocking(move || files.load(&provider)).await {
            Ok(Ok(pair)) => {
                self.certificate.replace(pair);
                tracing::info!(tls.cert = %cert, "TLS certificate reloaded");
            }
            Ok(Err(error)) => {
                tracing::error!(tls.cert = %cert, tls.key = %key, %error, "TLS files have changed and cannot be used; the certificate stays as it was");
            }
            Err(error) => tracing::error!(%error, "TLS files could not be read"),
        }
    }

    /// Does the handshake of a connection.
    ///
    /// # Errors
    ///
    /// When the client breaks it off or has no protocol in common with us.
    pub(super) async fn handshake<I>(&self, io: I) -> io::Result<(TlsStream<I>, Protocol)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        // The semaphore is never closed.
        let _permit = self.handshakes.acquire().await.map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.settings));
        let stream = acceptor.accept_with(io, |connection| connection.set_buffer_limit(Some(UNSENT_BYTES))).await?;
        let protocol = if stream.get_ref().1.alpn_protocol() == Some(H2) { Protocol::Http2 } else { Protocol::Http1 };
        Ok((stream, protocol))
    }
}

impl TlsFiles {
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let of_file = |what, path: &Path| {
            let path = path.to_owned();
            move |error| TlsError::File { what, path, error }
        };
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_file_iter(&self.cert).and_then(Iterator::collect);
        let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
        let chain = chain.map_err(of_file("the certificate", &self.cert))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(of_file("the private key", &self.key))?;
        if self.key.metadata().is_ok_and(|metadata| metadata.mode() & OTHERS_MODE != 0) {
            tracing::warn!(
                tls.key = %self.key.display(),
                "everybody on this machine may read or change the private key of the TLS certificate: chmod o-rw"
            );
        }
        CertifiedKey::from_der(chain, key, provider).map_err(|error| TlsError::Pair { files: self.clone(), error })
    }

    fn versions(&self) -> FileVersions {
        [&self.cert, &self.key].map(|path| path.metadata().ok().as_ref().map(FileVersion::of))
    }
}

/// What tells the files as they are from what they were; `None` is a file that is not there.
type FileVersions = [Option<FileVersion>; 2];

/// Which file it is, and when it was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileVersion {
    fn of(file: &Metadata) -> Self {
        let modified = (file.mtime(), file.mtime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), modified }
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
}

impl Certificate {
    fn replace(&self, pair: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use tempfile::TempDir;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    struct Followed {
        folder: TempDir,
        tls: Tls,
        _following: AbortOnDropHandle<()>,
    }

    impl Followed {
        fn start() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let files = [folder.path().join("cert.pem"), folder.path().join("key.pem")];
            let (cert, key) = pair();
            fs::write(&files[0], cert).expect("written");
            fs::write(&files[1], key).expect("written");
            let [cert, key] = files.map(Some);
            let tls = Tls::load(&TlsConfig { cert, key }, 1).expect("a pair").expect("files");
            let following = AbortOnDropHandle::new(tokio::spawn(tls.clone().follow_files(CancellationToken::new())));
            Self { folder, tls, _following: following }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.folder.path().join(file), text).expect("written");
        }

        fn current(&self) -> Arc<CertifiedKey> {
            Arc::clone(&self.tls.certificate.current.read().expect("no panic"))
        }

        /// Whether another certificate is in use after a while.
        async fn is_replaced(&self) -> bool {
            let before = self.current();
            tokio::time::sleep(LOOK_INTERVAL * 5).await;
            !Arc::ptr_eq(&before, &self.current())
        }
    }

    fn pair() -> (String, String) {
        let Made { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_pair_that_fits_replaces_the_one_before() {
        let followed = Followed::start();
        assert!(!followed.is_replaced().await, "nothing has changed");
        let (cert, key) = pair();
        followed.write("cert.pem", &cert);
        assert!(!followed.is_replaced().await, "the key is still the old one");
        followed.write("key.pem", &key);
        assert!(followed.is_replaced().await);
        for (file, text) in [("cert.pem", "nonsense"), ("key.pem", "")] {
            followed.write(file, text);
            assert!(!followed.is_replaced().await, "{file}");
        }
        fs::remove_file(followed.folder.path().join("cert.pem")).expect("removed");
        assert!(!followed.is_replaced().await);
        followed.write("key.pem", &key);
        followed.write("cert.pem", &cert);
        assert!(followed.is_replaced().await, "it goes on after what was wrong");
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_are_being_written_are_left_alone() {
        let followed = Followed::start();
        let before = followed.current();
        for length in 1..20 {
            followed.write("cert.pem", &"x".repeat(length));
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let (cert, key) = pair();
        followed.write("cert.pem", &cert);
        followed.write("key.pem", &key);
        assert!(Arc::ptr_eq(&before, &followed.current()));
        assert!(followed.is_replaced().await);
    }
}
