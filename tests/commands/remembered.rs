//! What `explain` shows of the memory.

use lab::agent::connection;

use super::*;

#[test]
fn explain_shows_what_is_remembered_and_how_old_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let patroni = FakePatroni::new(primary());
    let run = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).args(["--patroni", &patroni.url()]).env("RUNTIME_DIRECTORY", directory.path());
        stdout(&command.output().unwrap())
    };
    // As under inetd.
    let check = |endpoint: &str| {
        let (its, client) = connection();
        let mut command = binary();
        command.args(["--deadline=5s", "--endpoint", endpoint, "--patroni", &patroni.url()]);
        command.env("RUNTIME_DIRECTORY", directory.path()).stdin(OwnedFd::from(its));
        let mut process = command.stdout(Stdio::null()).spawn().unwrap();
        drop(client);
        process.wait().unwrap();
    };
    assert!(!run(&["explain", "/health"]).contains("REMEMBERED"), "nothing yet");
    check("/primary");
    patroni.now(replica());
    check("/replica");
    patroni.now(Behaviour::Close);
    check("/health");
    let text = run(&["explain", "/primary"]);
    let table: Vec<_> = text.lines().skip_while(|line| !line.starts_with("REMEMBERED")).collect();
    let words = |line: usize| table[line].split_whitespace().collect::<Vec<_>>();
    let (health, primary, replica) = (words(1), words(2), words(3));
    assert_eq!(table.len(), 4, "{text}");
    assert_eq!(health[..4], ["/health", "-", "-", "-"]);
    assert_eq!(primary[..2], ["/primary", "serve"]);
    assert!(primary[2].ends_with("ms") || primary[2].ends_with('s'), "{text}");
    assert!(table[2].ends_with("  here  primary timeline 3"), "{text}");
    assert_eq!(replica[..2], ["/replica", "standby"]);
    let json: Value = serde_json::from_str(&run(&["explain", "--json", "/primary"])).unwrap();
    let remembered = json["remembered"].as_array().unwrap();
    assert_eq!(remembered.len(), 3, "{json}");
    assert_eq!((&remembered[1]["verdict"], &remembered[1]["lock_was_here"]), (&"serve".into(), &true.into()));
    assert!(remembered[1]["age_seconds"].as_f64().unwrap() > 0.0, "{json}");
    fs::write(directory.path().join("health.json"), "{").unwrap();
    let text = run(&["explain", "/primary"]);
    assert!(single_spaced(&text).contains("What is remembered can't be read: "), "{text}");
    assert!(text.contains("/primary    serve"), "the others are shown: {text}");
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
