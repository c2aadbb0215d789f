//! Settings: what they may be, and that a person who asks by hand is told what the service does.
//! systemd is a script here that prints what `systemctl show` prints; tests/machines.rs has real
//! ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use lab::agent::binary;
use lab::fake_patroni::{FakePatroni, primary, replica};
use lab::programs::write_script;

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host with a systemd, and with files for its settings.
struct Host(TempDir);

impl Host {
    /// Where others can enter.
    fn new() -> Self {
        let host = Host(TempDir::new().unwrap());
        fs::set_permissions(host.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        host
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).unwrap();
        self.file(name)
    }

    /// The program on a host where `systemctl` does this.
    fn with(&self, systemctl: &str) -> Command {
        write_script(&self.0.path().join("systemctl"), &format!("#!/bin/sh\n{systemctl}\n"));
        let mut command = binary();
        command.env("PATH", format!("{}:{}", self.0.path().display(), std::env::var("PATH").unwrap()));
        command
    }

    /// The program on a host whose service has these properties.
    fn with_service(&self, properties: &str) -> Command {
        let socket = "Id=patroni-check.socket\nLoadState=loaded\nAccept=no\n";
        let other = "Id=patroni-check@x.service\nLoadState=loaded\nEnvironment=PATRONI_CHECK_HOLD_FILE=/wrong\n";
        let command = if properties.contains("ExecStart=") { String::new() } else { exec_start("") + "\n" };
        let service = format!("Id=patroni-check.service\nLoadState=loaded\n{}\n{command}", properties.trim_end());
        let show = self.write("show", &format!("{socket}\n{service}\n{other}"));
        self.with(&format!("exec cat {show}"))
    }
}

const EXEC_START: &str = "ExecStart={ path=/usr/bin/patroni-check ; argv[]=/usr/bin/patroni-check OPTIONS ; \
    ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }";

fn exec_start(options: &str) -> String {
    EXEC_START.replace(" OPTIONS", options)
}

#[test]
fn the_hold_is_where_the_service_looks_whatever_says_so() {
    let host = Host::new();
    let (first, second) = (host.file("first"), host.file("second"));
    let blanks = host.write("blanks", &format!("# ours\nPATRONI_CHECK_HOLD_FILE = '{first}'\n"));
    let other = host.write("other", &format!("PATRONI_CHECK_HOLD_FILE={second}\n"));
    let nothing = host.write("nothing", "PATRONI_CHECK_HOLD_FILE=\n");
    let of_file = |file: &str| format!("EnvironmentFiles={file} (ignore_errors=yes)\n");
    let environment = format!("Environment=\"PATRONI_CHECK_PATRONI=http://a b\" PATRONI_CHECK_HOLD_FILE={second}\n");
    let environment = environment.replace("a b", "localhost");
    let in_command = exec_start(&format!(" --grace 2s --hold-file {first}"));
    let by_variable = exec_start(" --hold-file ${PATRONI_CHECK_HOLD_FILE}");
    let table = [
        (of_file(&blanks), &first),
        (environment.clone(), &second),
        (format!("{environment}{}", of_file(&blanks)), &first),
        (format!("{}{}", of_file(&other), of_file(&blanks)), &first),
        (format!("{}{}", of_file(&blanks), of_file(&other)), &second),
        (format!("{}{}", of_file(&host.file("none")), of_file(&other)), &second),
        (format!("{}{}", of_file(&other), in_command), &first),
        (format!("{}{}", of_file(&other), by_variable), &second),
    ];
    for (properties, file) in table {
        // Looked at, and not made: a program that has it wrong would hold this machine.
        fs::write(file, "new disk\n").unwrap();
        let mut explain = host.with_service(&properties);
        let output = explain.args(["explain", "/primary", "--patroni", "http://127.0.0.1:1"]).output().unwrap();
        assert!(stdout(&output).contains("held: new disk") && output.stderr.is_empty(), "{properties}: {output:?}");
        fs::remove_file(file).unwrap();
    }
    // What a person says wins, and he is told that the service goes by another one.
    let mine = host.file("mine");
    let output = host.with_service(&of_file(&blanks)).args(["hold", "--hold-file", &mine]).output().unwrap();
    assert!(error(&output).contains(&format!("patroni-check.service uses another file, {first}")), "{output:?}");
    fs::remove_file(&mine).unwrap();
    let output =
        host.with_service(&of_file(&blanks)).env("PATRONI_CHECK_HOLD_FILE", &mine).arg("hold").output().unwrap();
    assert!(output.status.success() && Path::new(&mine).exists(), "{output:?}");
    // Empty is the default, which is what the service goes by then.
    let output = host.with_service(&of_file(&nothing)).args(["release", "--hold-file", &mine]).output().unwrap();
    assert!(error(&output).contains("uses another file, /etc/patroni-check/hold"), "{output:?}");
}

#[test]
fn explain_asks_as_the_service_does() {
    let host = Host::new();
    let (patroni, other) = (FakePatroni::new(replica()), FakePatroni::new(primary()));
    let settings =
        host.write("settings", &format!("PATRONI_CHECK_PATRONI={}\nPATRONI_CHECK_ON_STANDBY=down", patroni.url()));
    let properties = format!("EnvironmentFiles={settings} (ignore_errors=yes)\n");
    let hold = format!("\nPATRONI_CHECK_HOLD_FILE={}", host.file("hold"));
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + &hold).unwrap();
    let explain = |properties: &str, arguments: &[&str]| {
        let output = host.with_service(properties).args(["explain", "/primary"]).args(arguments).output().unwrap();
        (stdout(&output), error(&output))
    };
    let (text, complaint) = explain(&format!("{properties}{}", exec_start("")), &[]);
    assert!(text.contains(&patroni.url()) && text.contains("READY DOWN") && complaint.is_empty(), "{text}{complaint}");
    // The command line of the unit wins over its files, and a person's over all.
    let in_command = format!("{properties}{}", exec_start(&format!(" --patroni={} --insecure", other.url())));
    let (text, complaint) = explain(&in_command, &[]);
    assert!(
        text.contains(&other.url()) && complaint.contains("--insecure: the certificate is not checked"),
        "{text}{complaint}"
    );
    let (text, _) = explain(&in_command, &["--patroni", &patroni.url()]);
    assert!(text.contains(&patroni.url()), "{text}");
    // What only the service can know.
    let credentials = " --cacert ${CREDENTIALS_DIRECTORY}/ca.crt --grace 2s";
    let (text, complaint) = explain(&format!("{properties}{}", exec_start(credentials)), &[]);
    let told = "patroni-check: patroni-check.service has settings that are unknown here: \
                --cacert ${CREDENTIALS_DIRECTORY}/ca.crt\n";
    assert!(text.contains(&patroni.url()) && complaint == told, "{text}{complaint}");
    for (command, said) in [
        (exec_start("").replace("=/usr/bin/patroni-check", "=/bin/sh"), "starts \"/bin/sh\""),
        (exec_start(" --nonsense"), "'--nonsense' found"),
        (exec_start(" --help"), "'--help' found"),
    ] {
        let (_, complaint) = explain(&format!("{properties}{command}"), &[]);
        assert!(complaint.contains(said) && complaint.lines().count() == 1, "{complaint}");
    }
    let pattern = format!("{properties}EnvironmentFiles=/etc/default/patroni-* (ignore_errors=yes)\n");
    assert!(explain(&pattern, &[]).1.contains("EnvironmentFile=/etc/default/patroni-*, a pattern"));
    fs::write(&settings, b"PATRONI_CHECK_WORDS=\xff\n").unwrap();
    let (_, complaint) = explain(&format!("{properties}{}", exec_start("")), &[]);
    assert!(complaint.contains(&format!("systemd refuses {settings}")), "{complaint}");
}

/// What `explain --settings` says is what the service would come to, and Patroni is not asked.
#[test]
fn the_settings_are_tried_without_a_service() {
    let host = Host::new();
    let patroni = FakePatroni::new(primary());
    let key = host.write("client.key", "no key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = |text: &str| {
        let settings = host.write("settings", &format!("PATRONI_CHECK_PATRONI={}\n{text}\n", patroni.url()));
        format!("EnvironmentFiles={settings} (ignore_errors=yes)\n")
    };
    let named = |name: &str| {
        let service = "Triggers=patroni-check.service\nAccept=no\nActiveState=active";
        format!("\nId=other.socket\n{service}\nFileDescriptorName={name}\n")
    };
    let https = "PATRONI_CHECK_PATRONI=https://localhost:1";
    let other_user = "DynamicUser=yes\n";
    let table = [
        ("", "", None),
        ("PATRONI_CHECK_GRACE=10s", &named("/replica"), None),
        ("PATRONI_CHECK_ON_STANDBY=drain", &named("/replica"), None),
        // What builds of 0.1.0 took.
        ("PATRONI_CHECK_MAX_AGE=5s", "", Some("--max-age")),
        ("PATRONI_CHECK_DEADLINE=10s", "", Some("--deadline")),
        ("PATRONI_CHECK_ON_STANDBY=drain", &named("/primary"), Some("/primary: ")),
        ("PATRONI_CHECK_ON_STANDBY=drain\nPATRONI_CHECK_ALSO=/leader", &named("agent-send"), Some(": ")),
        ("PATRONI_CHECK_PATRONI=localhost:8008", "", Some("http:// or https://")),
        ("PATRONI_CHECK_MAXAGE=1s", "", Some("PATRONI_CHECK_MAXAGE is not a setting")),
        ("PATRONI_CHECK_WORDS=plain\nPATRONI_CHECK_ON_FAILURE=down", "", Some("/primary: ")),
        ("", &named("/secondary"), Some("FileDescriptorName=/secondary: ")),
        ("", &exec_start(" --max-age 1h"), Some("its ExecStart=: ")),
        (
            "",
            "EnvironmentFiles=/nonexistent/settings (ignore_errors=no)\n",
            Some("/nonexistent/settings: No such file"),
        ),
        (&format!("{https}\nPATRONI_CHECK_CACERT=/nonexistent.pem"), "", Some("/nonexistent.pem: ")),
        (&format!("{https}\nPATRONI_CHECK_CACERT={key}"), "", Some("client.key: ")),
    ];
    for (settings, properties, complaint) in table {
        // Before the sockets, which are units of their own.
        let command = if properties.contains("ExecStart=") { String::new() } else { exec_start("") + "\n" };
        let properties = format!("{}{command}{properties}", file(settings));
        let output = host.with_service(&properties).args(["explain", "--settings"]).output().unwrap();
        let said = (stdout(&output), error(&output));
        let case = format!("{settings} {properties}: {output:?}");
        match complaint {
            None => {
                assert_eq!(said, ("patroni-check.service: would start with its settings\n".into(), String::new()));
                assert_eq!(output.status.code(), Some(0), "{case}");
            }
            Some(complaint) => {
                assert_eq!((said.0.as_str(), said.1.lines().count(), output.status.code()), ("", 1, Some(2)), "{case}");
                let line = said.1.strip_prefix("patroni-check: patroni-check.service: ").expect(&case);
                assert!(line.contains(complaint), "{case}");
            }
        }
    }
    assert_eq!(patroni.requests(), [""; 0]);
    // A file that only root can read is read here, and not by the service.
    let authority = lab::certificates::Authority::new("an authority");
    authority.write(&host.0.path().join("ca.pem"));
    let cacert = host.file("ca.pem");
    let tried = |mode: u32, properties: &str| {
        fs::set_permissions(&cacert, fs::Permissions::from_mode(mode)).unwrap();
        let properties = format!("{}{properties}", file(&format!("{https}\nPATRONI_CHECK_CACERT={cacert}")));
        host.with_service(&properties).args(["explain", "--settings"]).output().unwrap()
    };
    for (mode, properties, status) in [
        (0o644, other_user, 0),
        (0o640, other_user, 2),
        (0o640, "DynamicUser=yes\nSupplementaryGroups=ssl-cert\n", 0),
        (0o640, "DynamicUser=no\n", 0),
    ] {
        let output = tried(mode, properties);
        assert_eq!(output.status.code(), Some(status), "{mode:o} {properties}: {output:?}");
        assert!(status == 0 || error(&output).contains("LoadCredential="), "{output:?}");
    }
}

#[test]
fn where_there_is_a_process_for_each_check_its_unit_counts() {
    let host = Host::new();
    let socket = "Id=patroni-check.socket\nLoadState=loaded\nAccept=yes\n";
    let service = "Id=patroni-check.service\nLoadState=loaded\nEnvironment=PATRONI_CHECK_HOLD_FILE=/wrong\n";
    let hold = host.write("hold", "new disk\n");
    let instance = format!(
        "Id=patroni-check@x.service\nLoadState=loaded\nEnvironment=PATRONI_CHECK_HOLD_FILE={hold}\n{}\n",
        exec_start("")
    );
    let show = host.write("show", &format!("{socket}\n{service}\n{instance}"));
    let mut explain = host.with(&format!("exec cat {show}"));
    let output = explain.args(["explain", "/primary", "--patroni", "http://127.0.0.1:1"]).output().unwrap();
    assert!(stdout(&output).contains("held: new disk"), "{output:?}");
}

#[test]
fn a_systemd_that_does_not_answer_is_not_waited_for() {
    let host = Host::new();
    let output = host.with("exec sleep 600").args(["release", "--hold-file", &host.file("hold")]).output().unwrap();
    assert!(output.status.success() && error(&output).contains("systemctl has not answered within 2s"), "{output:?}");
}

/// As systemd 252 and 257 print it.
const ROOT: &str = "RootDirectory=/run/x\nBindReadOnlyPaths=/usr:/usr:rbind /etc:/etc:rbind -/run/y:/run/y:rbind\n";

#[test]
fn a_hold_that_the_service_can_not_see_is_refused() {
    let host = Host::new();
    let closed = host.file("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let (open, closed) = (host.file("open/hold"), format!("{closed}/hold"));
    std::os::unix::fs::symlink("/tmp", host.file("link")).unwrap();
    let link = host.file("link/hold");
    let (tmp, user) = ("PrivateTmp=yes\n", "DynamicUser=yes\n");
    let table = [
        ("/tmp/patroni-check/hold", tmp, Some("PrivateTmp=yes")),
        ("/var/tmp/hold", tmp, Some("PrivateTmp=yes")),
        (&link, tmp, Some("PrivateTmp=yes")),
        ("/root/hold", "ProtectHome=yes\n", Some("ProtectHome=yes")),
        ("/home/me/hold", "ProtectHome=tmpfs\n", Some("ProtectHome=tmpfs")),
        ("/run/user/0/hold", "ProtectHome=yes\n", Some("ProtectHome=yes")),
        (&closed, user, Some("has no x for others")),
        (&open, user, None),
        (&closed, "DynamicUser=no\n", None),
        ("/srv/hold", ROOT, Some("RootDirectory=/run/x")),
        ("/etc/patroni-check/hold", ROOT, None),
        ("/usr/local/hold", ROOT, None),
        (&open, "PrivateTmp=no\nProtectHome=read-only\n", None),
    ];
    for (file, properties, why) in table {
        let properties = format!("Environment=PATRONI_CHECK_HOLD_FILE={file}\n{properties}{}", exec_start(""));
        let all = ["explain", "hold", "release"];
        // What is not the test's own is looked at only.
        for command in if file.starts_with(&host.file("")) && file != link { &all[..] } else { &all[..1] } {
            let mut asked = host.with_service(&properties);
            let output = asked.arg(command).env("PATRONI_CHECK_PATRONI", "http://127.0.0.1:1").output().unwrap();
            match why {
                Some(why) => {
                    assert_eq!(output.status.code(), Some(2), "{command} {file}: {output:?}");
                    assert!(error(&output).contains(why) && error(&output).lines().count() == 1, "{output:?}");
                    assert!(!Path::new(file).exists(), "{file}");
                }
                None => assert!(!error(&output).contains("can't see"), "{command} {file}: {output:?}"),
            }
        }
    }
}

#[test]
fn an_empty_setting_is_the_default() {
    let patroni = FakePatroni::new(primary());
    let help = stdout(&binary().arg("--help").output().unwrap());
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next());
    let mut command = binary();
    let mut count = 0;
    for option in options.filter(|option| *option != "help" && *option != "version") {
        command.env(format!("PATRONI_CHECK_{}", option.to_uppercase().replace('-', "_")), "");
        count += 1;
    }
    assert!(count > 10, "{help}");
    let output = command.args(["--patroni", &patroni.url(), "--deadline", "5s"]).output().unwrap();
    assert_eq!((stdout(&output).as_str(), error(&output).as_str()), ("READY UP # primary timeline 3\n", ""));
}

#[test]
fn a_flag_means_what_a_person_means() {
    let patroni = FakePatroni::new(primary());
    let run = |value: &str| {
        let mut command = binary();
        command.env("PATRONI_CHECK_INSECURE", value).args(["--patroni", &patroni.url(), "--deadline", "5s"]);
        command.output().unwrap()
    };
    for (word, insecure) in [
        ("true", true),
        ("YES", true),
        ("1", true),
        ("on", true),
        ("false", false),
        ("no", false),
        ("0", false),
        ("Off", false),
        ("", false),
    ] {
        let output = run(word);
        assert_eq!(stdout(&output), "READY UP # primary timeline 3\n", "{word}");
        assert_eq!(error(&output).contains("--insecure"), insecure, "{word}");
    }
    for word in ["perhaps", "2", " "] {
        let output = run(word);
        assert_eq!(output.status.code(), Some(2), "{word}");
        assert!(error(&output).contains("yes or no"), "{output:?}");
    }
}

#[test]
fn what_can_not_be_meant_is_one_line_and_exit_status_2() {
    let long = "x".repeat(300);
    let (name, path) = (format!("/replica?tag_a={long}"), format!("/{}", long.repeat(14)));
    let purpose = format!("127.0.0.1:0={name}");
    let ports = vec!["--listen=127.0.0.1:0"; 65];
    let ages = "584542046090years";
    let table: &[(&[&str], &str)] = &[
        (&["--max-age", "1h"], "out of range: 0s to 1s"),
        (&["--max-age", ages], "--max-age"),
        (&["--max-age", "18446744073709551615s"], "--max-age"),
        (&["--max-age", "99999999999999999999s"], "--max-age"),
        (&["--grace", ages], "--grace"),
        (&["--grace", "21s"], "out of range: 0s to 20s"),
        (&["--grace=-1s"], "--grace"),
        (&["--deadline", "5001ms"], "out of range: 1ms to 5s"),
        (&["--deadline", "999us"], "out of range: 1ms to 5s"),
        (&["--deadline", ages], "--deadline"),
        (&["--hold-file", "hold"], "the whole path of a file"),
        (&["--hold-file", ""], "--hold-file"),
        (&["--hold-file", "/etc/patroni-check/"], "the whole path of a file"),
        (&["release", "--hold-file", "./hold"], "the whole path of a file"),
        (&["--endpoint", &name], "255 bytes at most"),
        (&["--listen", &purpose], "255 bytes at most"),
        (&["--cacert", &path], "4096 bytes at most"),
        (&ports, "64 ports at most"),
        (&["--key", "/a"], "--cert and --key"),
        (&["explain", "--cert", "/a"], "--cert and --key"),
        (&["explain", "--on-failure", "drain"], "write it before the command"),
    ];
    for (options, complaint) in table {
        let output = binary().args(*options).output().unwrap();
        let error = error(&output);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {error}");
        assert!(error.lines().count() == 1 && error.contains(complaint), "{options:?}: {error}");
        assert!(
            error.starts_with("patroni-check: ") && error.contains("; write it") == complaint.starts_with("write it"),
            "{error}"
        );
    }
}

#[test]
fn a_misspelt_setting_is_no_setting() {
    let host = Host::new();
    let output = binary().env("PATRONI_CHECK_GRAC", "10s").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(error(&output).contains("PATRONI_CHECK_GRAC is not a setting"), "{output:?}");
    assert!(binary().env("PATRONI_CHECK_GRAC", "10s").arg("--help").output().unwrap().status.success());
    let settings = host.write("settings", "PATRONI_CHECK_HOLDFILE=/a\n");
    let output =
        host.with_service(&format!("EnvironmentFiles={settings} (ignore_errors=yes)\n")).arg("explain").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(error(&output).contains("patroni-check.service: PATRONI_CHECK_HOLDFILE is not a setting"), "{output:?}");
}

/// Behind the command as before it.
#[test]
fn the_commands_take_all_that_leads_to_patroni() {
    for command in ["explain", "haproxy-config"] {
        let options = [
            "--patroni",
            "https://127.0.0.1:1",
            "--cacert",
            "/nonexistent.pem",
            "--cert",
            "/a",
            "--key",
            "/b",
            "--insecure",
        ];
        let output = binary().arg(command).args(options).args(["--hold-file", "/nonexistent/hold"]).output().unwrap();
        assert!(error(&output).contains("/a: No such file"), "{output:?}");
    }
}
