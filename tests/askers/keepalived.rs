//! keepalived with a `vrrp_script`, beside each member in its network, and an address that moves.
//! Its `HTTP_GET` is not tried: keepalived runs it only where the kernel has IPVS, and the kernels
//! of the machines that run these tests may not.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use lab::agent::without_settings;
use lab::{Process, page};

use super::switchover::{Asker, Look, World};

/// A network of its own for each member takes root.
pub const NEEDS: [&str; 3] = ["keepalived", "ip", "root"];

/// What moves.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// In the members' networks, which have nothing else there.
const PORT: u16 = 7000;

struct Keepalived {
    processes: Vec<Process>,
}

pub fn start(world: &World) -> Result<Vec<Box<dyn Asker>>, Box<dyn Error>> {
    let block = page::lines("keepalived moves an address");
    let mut processes = Vec::new();
    for (n, member) in world.testbed.cluster.members.iter().enumerate() {
        let file = |end: &str| world.testbed.directory.join(format!("keepalived-{}.{end}", member.name));
        let (program, patroni) = (world.testbed.program.display(), world.testbed.cluster.url(member, ""));
        let is = format!("{program} is --patroni {patroni} ");
        let text = block.replace("/usr/bin/patroni-check is ", &is).replace("192.0.2.100", &ADDRESS.to_string());
        assert!(text.contains(&is) && text.contains(&ADDRESS.to_string()), "{text}");
        fs::write(file("conf"), text)?;
        let mut command = member.host.command("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "keepalived", "--dont-fork", "--log-console", "--vrrp"]);
        command.arg("--use-file").arg(file("conf")).arg("--pid").arg(file("pid"));
        command.arg("--vrrp_pid").arg(file("vrrp.pid")).stdin(Stdio::null());
        processes.push(Process::start(without_settings(&mut command), &file("log"))?);
        // Says who it is to whom the address has led there.
        member.host.inside(|| -> std::io::Result<()> {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            let number = u8::try_from(n).unwrap_or_default();
            thread::spawn(move || listener.incoming().flatten().for_each(|mut client| _ = client.write_all(&[number])));
            Ok(())
        })?;
    }
    Ok(vec![Box::new(Keepalived { processes })])
}

impl Asker for Keepalived {
    fn name(&self) -> &str {
        "keepalived"
    }

    fn look(&mut self, world: &World) -> Result<Look, String> {
        if let Some(ended) = self.processes.iter_mut().find_map(|process| process.try_wait().map(|_| process.output()))
        {
            return Err(format!("keepalived has ended: {ended}"));
        }
        let has_address = |n: usize| {
            let mut ip = world.testbed.cluster.members[n].host.command("ip");
            let output = ip.args(["-4", "-o", "address", "show", "dev", "eth0"]).stdin(Stdio::null()).output();
            let output = output.map_err(|e| e.to_string())?;
            if !output.status.success() {
                return Err(format!("ip: {output:?}"));
            }
            Ok((n, String::from_utf8_lossy(&output.stdout).contains(&format!(" {ADDRESS}/"))))
        };
        (0..world.count()).map(has_address).collect()
    }

    fn leads_to(&self, member: usize, _: &World) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&(ADDRESS, PORT).into(), Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            let mut number = [0];
            stream.read_exact(&mut number).ok()?;
            Some(usize::from(number[0]))
        };
        ask() == Some(member)
    }
}
