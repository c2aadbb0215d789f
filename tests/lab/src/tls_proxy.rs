//! TLS before a fake Patroni, which can be slow, or wrong, in the handshake.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

/// Its threads end with the test's process.
pub struct TlsProxy {
    pub port: u16,
    count: Arc<Count>,
    listener: TcpListener,
    versions: Vec<&'static SupportedProtocolVersion>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

#[derive(Default)]
struct Count {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl TlsProxy {
    /// With these certificates and this key, which need not fit. It waits so long before each
    /// handshake, as a busy Patroni does, and does not notice that the client has gone.
    pub fn new(
        patroni: SocketAddr,
        chain: &str,
        key: &str,
        versions: &[&'static SupportedProtocolVersion],
        pause: Duration,
    ) -> Self {
        let config = Arc::new(Mutex::new(config(chain, key, versions)));
        // Not the kernel's choice: that one would be another when it is opened again.
        let listener = TcpListener::bind(("127.0.0.1", crate::any_port())).expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let count = Arc::new(Count::default());
        let (accepting, shared) = (listener.try_clone().expect("a descriptor is free"), Arc::clone(&count));
        let current = Arc::clone(&config);
        thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(stream) = stream else {
                    // The port is closed.
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let (config, count) = (Arc::clone(&current.lock().unwrap()), Arc::clone(&shared));
                thread::spawn(move || {
                    count.connections.fetch_add(1, Ordering::SeqCst);
                    let open = count.open.fetch_add(1, Ordering::SeqCst) + 1;
                    count.most_open.fetch_max(open, Ordering::SeqCst);
                    thread::sleep(pause);
                    let _ = pass_on(stream, config, patroni, || {
                        count.open.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        TlsProxy { port, count, listener, versions: versions.to_vec(), config }
    }

    /// From now on with these.
    pub fn renew(&self, chain: &str, key: &str) {
        *self.config.lock().unwrap() = config(chain, key, &self.versions);
    }

    /// Refuses connections from now on, until the port is opened again.
    pub fn close(&self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).expect("it listens");
    }

    pub fn open(&self) {
        rustix::net::listen(&self.listener, 128).expect("the port is still ours");
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.count.connections.load(Ordering::SeqCst)
    }

    /// How many were open at one time at most, those that the client has given up included.
    pub fn most_open(&self) -> usize {
        self.count.most_open.load(Ordering::SeqCst)
    }
}

fn config(chain: &str, key: &str, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions that go with the ciphers")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    Arc::new(config)
}

/// One request and its answer. `done` is called before the client can know that the answer is
/// whole.
fn pass_on(stream: TcpStream, config: Arc<ServerConfig>, patroni: SocketAddr, done: impl FnOnce()) -> Option<()> {
    let mut client = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut patroni = TcpStream::connect(patroni).ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read_exact(&mut byte).is_err() {
            done();
            return None;
        }
        request.extend(byte);
    }
    patroni.write_all(&request).ok()?;
    let passed_on = io::copy(&mut patroni, &mut client);
    done();
    passed_on.ok()?;
    client.conn.send_close_notify();
    client.flush().ok()
}
