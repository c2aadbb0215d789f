//! The static program in a root that has no C library, as Alpine's has not glibc's: how names are
//! looked up there, and `install.sh` by busybox.

use std::net::UdpSocket;
use std::thread;

use lab::fake_patroni::{FakePatroni, primary};
use lab::{Process, await_that};

use super::*;

const READY: &str = "READY UP # primary timeline 3\n";

/// A root with nothing in it but the program, in a network of its own.
struct Root {
    directory: TempDir,
    network: Process,
}

impl Root {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let unpacked = archive::unpack(directory.path());
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::copy(archive::program(&unpacked), directory.path().join("patroni-check")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
        let network = Process::start(&mut command, &directory.path().join("network.log")).unwrap();
        await_that("a network of its own", || network.output() == "up\n");
        Root { directory, network }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        lab::host::inside(self.network.id(), work)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.directory.path().join(path), text).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        lab::agent::without_settings(command.arg(self.directory.path()).arg(program));
        command
    }

    /// What the program says of Patroni on this host.
    fn says(&self, host: &str) -> String {
        let mut command = self.command("/patroni-check");
        command.args(["--patroni", &format!("http://{host}:8008"), "--deadline", "5s"]);
        let output = self.inside(|| command.output().unwrap());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A server that knows one name (RFC 1035), on a port that is free in a network of its own.
fn serve_dns(name: &'static str) {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let question = &query[12..length];
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
            let is_known = question[..end - 5].iter().copied().eq(labels);
            let is_for_ipv4 = question[end - 4..end - 2] == [0, 1];
            let count = u8::from(is_known && is_for_ipv4);
            let mut reply = query[..2].to_vec();
            // Authoritative; no such name, if it is none.
            reply.extend([0x84, if is_known { 0 } else { 3 }, 0, 1, 0, count, 0, 0, 0, 0]);
            reply.extend(&question[..end]);
            if count == 1 {
                // The name above, an IPv4 address, for 60 s.
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, client).unwrap();
        }
    });
}

#[test]
fn files_and_dns_need_nothing_of_the_host_and_all_else_its_getent() {
    if !requires(&["root", "ip", archive::NEEDS, "target/tools/busybox"]) {
        return;
    }
    let root = Root::new();
    let _patroni = root.inside(|| FakePatroni::at("127.0.0.1:8008", primary()));
    root.inside(|| serve_dns("by-dns.example"));
    root.write("etc/hosts", "127.0.0.1 by-file.example\n");
    root.write("etc/resolv.conf", "nameserver 127.0.0.1\n");
    let not_found = root.says("neither.example");
    assert!(not_found.starts_with("MAINT DOWN # patroni: "), "{not_found}");
    let by_dns_and_files = |conf: &str, by_file: &str, by_dns: &str| {
        let said = ["by-file.example", "by-dns.example"].map(|host| root.says(host));
        assert_eq!(said, [by_file, by_dns], "{conf}");
    };
    by_dns_and_files("no nsswitch.conf", READY, READY);
    for (conf, by_file, by_dns) in [
        ("passwd: files systemd\nhosts: files dns\n", READY, READY),
        ("#hosts: dns\nhosts: files\n", READY, &not_found),
        ("hosts: files [NOTFOUND=return] dns\n", READY, &not_found),
        ("hosts: dns\n", &not_found, READY),
    ] {
        root.write("etc/nsswitch.conf", conf);
        by_dns_and_files(conf, by_file, by_dns);
    }
    // Another way is the host's own, which there is not here.
    root.write("etc/nsswitch.conf", "hosts: files myhostname dns\n");
    let said = root.says("by-file.example");
    assert_eq!(
        said,
        "MAINT DOWN # patroni: names are looked up by /usr/bin/getent: No such file or directory (os error 2)\n"
    );
    fs::create_dir_all(root.directory.path().join("usr/bin")).unwrap();
    fs::copy("target/tools/busybox", root.directory.path().join("busybox")).unwrap();
    root.write(
        "usr/bin/getent",
        "#!/busybox sh\n[ \"$*\" = 'ahosts by-getent.example' ] && echo 127.0.0.1 STREAM it\n",
    );
    fs::set_permissions(root.directory.path().join("usr/bin/getent"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(root.says("by-getent.example"), READY);
    assert_eq!(root.says("by-dns.example"), not_found);
}

#[test]
fn install_sh_needs_no_more_than_busybox() {
    if !requires(&["root", "ip", archive::NEEDS, "target/tools/busybox"]) {
        return;
    }
    let root = Root::new();
    for directory in ["bin", "dev", "tmp"] {
        fs::create_dir(root.directory.path().join(directory)).unwrap();
    }
    run(Command::new("mknod").arg(root.directory.path().join("dev/null")).args(["c", "1", "3"]));
    fs::copy("target/tools/busybox", root.directory.path().join("bin/busybox")).unwrap();
    run(root.command("/bin/busybox").args(["--install", "-s", "/bin"]));
    let before = tree(root.directory.path(), &[]);
    let install = |verb: &[&str]| {
        let mut command = root.command("/bin/sh");
        run(command.arg(format!("/{}/install.sh", archive::name())).args(verb).env("PATH", "/usr/sbin:/sbin:/bin"))
    };
    let said = String::from_utf8(install(&[]).stdout).unwrap();
    assert_eq!(said.lines().count(), 3, "{said}");
    let version = run(root.command("/usr/local/bin/patroni-check").arg("--version"));
    assert!(
        version.stdout.starts_with(concat!("patroni-check ", env!("CARGO_PKG_VERSION"), " ").as_bytes()),
        "{version:?}"
    );
    install(&[]);
    install(&["--purge"]);
    assert!(tree(root.directory.path(), &[]) == before, "something is left, or more is gone");
}
