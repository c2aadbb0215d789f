//! HAProxy's own HTTP checks, in two of the ways in which they are written.

use std::error::Error;
use std::sync::Arc;

use lab::haproxy::{DEFAULTS, Haproxy, listen};
use lab::page;

use super::switchover::{Asker, Look, World};

pub const NEEDS: [&str; 1] = ["haproxy"];

/// HTTP/1.0 without a Host, and HTTP/1.1.
const CHECKS: [(&str, &str, &str); 2] = [
    ("haproxy httpchk", "httpchk", "    option httpchk OPTIONS /primary\n"),
    (
        "haproxy http-check",
        "http-check",
        "    option httpchk\n    http-check send meth GET uri /primary ver HTTP/1.1 hdr Host patroni-check\n",
    ),
];

struct Backend {
    name: &'static str,
    listen: &'static str,
    port: u16,
    haproxy: Arc<Haproxy>,
}

/// One HAProxy for both.
pub fn start(world: &World) -> Result<Vec<Box<dyn Asker>>, Box<dyn Error>> {
    let (_, _, usual) = CHECKS[0];
    let block = page::lines("HAProxy's httpchk");
    assert!(block.contains(usual) && block.contains("port 5559"), "{block}");
    let mut sections = DEFAULTS.to_owned();
    let ports = CHECKS.map(|_| lab::any_port());
    for ((_, name, check), port) in CHECKS.iter().zip(ports) {
        let block = block.replace(usual, check).replace("port 5559", &format!("port {}", world.http_port));
        sections += &format!("\n{}\n", listen(&world.testbed.cluster, world.agent_port, &block, name, port));
    }
    let haproxy = Arc::new(world.testbed.haproxy(&sections)?);
    let backends = CHECKS.iter().zip(ports).map(|((name, listen, _), port)| {
        Box::new(Backend { name, listen, port, haproxy: haproxy.clone() }) as Box<dyn Asker>
    });
    Ok(backends.collect())
}

impl Asker for Backend {
    fn name(&self) -> &str {
        self.name
    }

    fn look(&mut self, world: &World) -> Result<Look, String> {
        let status = |n: usize| self.haproxy.status(self.listen, &format!("member{}", n + 1));
        // Between the two: `UP 1/2`, which still gets traffic.
        let is_up = |status: String| status.starts_with("UP");
        (0..world.count()).map(|n| status(n).map(|status| (n, is_up(status))).map_err(|e| e.to_string())).collect()
    }

    fn leads_to(&self, member: usize, world: &World) -> bool {
        world.leads_to(self.port, member)
    }
}
