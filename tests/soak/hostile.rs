//! Clients that misbehave, a few hundred at once.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostile {
    NeverRead,
    Garbage,
    Reset,
    HalfClose,
    SlowHead,
    Idle,
}

impl Hostile {
    pub fn any(random: &mut Rng) -> Self {
        use Hostile::*;
        *random.choice(&[NeverRead, Garbage, Reset, HalfClose, SlowHead, Idle]).expect("some")
    }

    /// So many of them, for half a second at most. They may be refused or cut off.
    pub fn come(self, count: usize, addresses: Vec<SocketAddr>) -> JoinHandle<()> {
        thread::spawn(move || {
            let connect = |address: &SocketAddr| TcpStream::connect_timeout(address, Duration::from_secs(5)).ok();
            let clients = addresses.iter().cycle().take(count).filter_map(connect);
            let mut clients: Vec<_> = clients.filter_map(|client| self.begin(client)).collect();
            for byte in b"GET /pri" {
                if clients.is_empty() {
                    break;
                }
                thread::sleep(Duration::from_millis(60));
                if self == Hostile::SlowHead {
                    clients.iter_mut().for_each(|client| _ = client.write(&[*byte]));
                }
            }
        })
    }

    /// Gives the connection if it is to stay open.
    fn begin(self, mut client: TcpStream) -> Option<TcpStream> {
        // The service may have answered and closed already.
        match self {
            Hostile::SlowHead | Hostile::Idle => {}
            Hostile::NeverRead => _ = client.write(&[b'x'; 10_000]),
            Hostile::Garbage => {
                let _ = client.write(b"\x16\x03\x01\0\xff\xfe\r\n\r\n\0GET / HTTP/9.9\r\n\r\n");
                return None;
            }
            Hostile::HalfClose => _ = client.shutdown(Shutdown::Write),
            Hostile::Reset => {
                let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                return None;
            }
        }
        Some(client)
    }
}
