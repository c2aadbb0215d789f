//! Stand-ins for the agents of many hosts: one listener for all addresses, in one thread. The first
//! member of each cluster is the primary. Each answers as patroni-check does, and closes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use lab::host::Host;

pub struct StandIns {
    answered: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// The address of a member, below 10.2.0.0/16.
pub fn member(cluster: u32, member: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 2, 0, 0)) + cluster * 16 + member)
}

fn is_primary(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[3] % 16 == 1)
}

impl StandIns {
    pub fn start(host: &Host, port: u16) -> io::Result<Self> {
        host.inside(|| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            rustix::net::listen(&listener, 4096)?;
            let (answered, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let (its_answered, its_ends) = (Arc::clone(&answered), Arc::clone(&ends));
            let answer = move || {
                for client in listener.incoming() {
                    if its_ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let done = client.and_then(answer);
                    its_answered.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                }
            };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Ok(StandIns { answered, ends, address, thread: Some(thread::spawn(answer)) })
        })
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends; its port is free then.
    pub fn end(mut self, host: &Host) {
        self.ends.store(true, Ordering::Relaxed);
        drop(host.inside(|| TcpStream::connect(self.address)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(client: TcpStream) -> io::Result<()> {
    let is_primary = is_primary(client.local_addr()?.ip());
    let line: &[u8] =
        if is_primary { b"READY UP # primary timeline 1\n" } else { b"MAINT UP # replica streaming timeline 1\n" };
    // In one packet with the end.
    rustix::net::send(&client, line, rustix::net::SendFlags::MORE)?;
    Ok(())
}
