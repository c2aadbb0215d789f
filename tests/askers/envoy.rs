//! Envoy, which PyPI has as a program.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Process, page};

use super::switchover::{Asker, Look, World};

pub const NEEDS: [&str; 1] = ["pip3"];

/// Installs it, and gives its path; or, in one line, why not.
pub fn install() -> String {
    let install = Command::new("tests/install-envoy").current_dir(lab::repository()).stdin(Stdio::null()).output();
    let output = install.expect("sh runs");
    let said = if output.status.success() { output.stdout } else { output.stderr };
    String::from_utf8_lossy(&said).lines().last().unwrap_or_default().to_owned()
}

/// As the page names it.
const CLUSTER: &str = "postgres_read_write";

struct Envoy {
    process: Process,
    admin: SocketAddr,
    port: u16,
}

/// One that sends the sessions on its port to whom our word says.
pub fn start(world: &World, program: &Path) -> Result<Vec<Box<dyn Asker>>, Box<dyn Error>> {
    let (admin, port) = (SocketAddr::from(([127, 0, 0, 1], lab::any_port())), lab::any_port());
    let file = world.testbed.directory.join("envoy.yaml");
    let socket = |address: SocketAddr| {
        format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
    };
    let block = page::lines("Envoy");
    let (clusters, host) = block.split_once("      - endpoint:\n").ok_or("no endpoint in Envoy's lines")?;
    let mut text = format!(
        "admin: {{address: {}}}
static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: postgres
          cluster: {CLUSTER}
",
        socket(admin),
        socket(([127, 0, 0, 1], port).into())
    );
    let hosts = (0..world.count()).map(|member| {
        let address = world.postgres(member);
        let host = host.replace("192.0.2.1", &address.ip().to_string());
        let host = host.replace("port_value: 5432", &format!("port_value: {}", address.port()));
        format!("      - endpoint:\n{}", host.replace("port_value: 5559", &format!("port_value: {}", world.http_port)))
    });
    let clusters = clusters.to_owned() + &hosts.collect::<String>();
    clusters.lines().for_each(|line| text += &format!("  {line}\n"));
    fs::write(&file, text)?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("-c").arg(file);
    command.args(["--disable-hot-restart", "--concurrency", "1"]).stdin(Stdio::null());
    let mut process = Process::start(&mut command, &world.testbed.directory.join("envoy.log"))?;
    lab::await_that("Envoy's admin port", || {
        process.try_wait().is_some() || get(admin, "/ready").is_ok_and(|text| text == "LIVE\n")
    });
    Ok(vec![Box::new(Envoy { process, admin, port })])
}

/// What its admin port says.
fn get(admin: SocketAddr, path: &str) -> Result<String, ureq::Error> {
    let request = ureq::get(format!("http://{admin}{path}")).config().proxy(None);
    request.timeout_global(Some(Duration::from_secs(10))).build().call()?.body_mut().read_to_string()
}

impl Asker for Envoy {
    fn name(&self) -> &str {
        "envoy"
    }

    fn look(&mut self, world: &World) -> Result<Look, String> {
        let text = get(self.admin, "/clusters").map_err(|e| format!("{e}: {}", self.process.output()))?;
        let flags = |n: usize| {
            let start = format!("{CLUSTER}::{}::health_flags::", world.postgres(n));
            let flags = text.lines().find_map(|line| line.trim_end().strip_prefix(&start));
            flags.map(|flags| (n, flags == "healthy")).ok_or_else(|| format!("no {start} in {text}"))
        };
        (0..world.count()).map(flags).collect()
    }

    fn leads_to(&self, member: usize, world: &World) -> bool {
        world.leads_to(self.port, member)
    }
}
