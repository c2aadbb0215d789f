//! `make reads`: a real Patroni cluster with Patroni's default times, without patroni-check. What
//! each rule for a read endpoint would do in ordinary work and under faults: for how long it takes
//! replicas out that plain `/replica` keeps, for how long nobody is left, and how old the reads are
//! of those that it keeps. `reads BINARY DIRECTORY PATRONI [SCENARIO…]`; the table goes to the
//! directory as Markdown. PATRONI is a program, or a directory of tests/install-patroni's.

mod scenarios;
mod watch;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::testbed::Testbed;
use scenarios::SCENARIOS;
use watch::{RULES, Watch};

type Outcome = Result<(), Box<dyn Error>>;

/// The work of a process guard.
pub fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, out, patroni, chosen @ ..] = arguments else {
        return Err("usage: reads BINARY DIRECTORY PATRONI [SCENARIO…]".into());
    };
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = chosen.iter().find(|name| !names.iter().any(|known| *known == **name)) {
        return Err(format!("no such scenario: {}; there are: {}", unknown.to_string_lossy(), names.join(" ")).into());
    }
    eprintln!("Starting etcd and three Patroni members with PostgreSQL …");
    let mut testbed = Testbed::start_apart(directory, Path::new(binary), Path::new(patroni))?;
    // Patroni's defaults: how old its own idea of the lag is depends on loop_wait.
    testbed.cluster.configure(&json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10}))?;
    let primary = testbed.cluster.primary().ok_or("no primary")?;
    primary.connect(testbed.cluster.postgres_port)?.batch_execute("CREATE TABLE beat AS SELECT 0::int8 AS number")?;
    scenarios::make_tables(&testbed)?;
    let columns = RULES.join(" / ");
    let mut table = format!(
        "| what happens | s | oldest read of a replica in the pool, s: {columns} | out though `/replica` says 200, s \
         (times): {columns} | nobody in the pool, s: {columns} |\n|---|---|---|---|---|\n"
    );
    for scenario in SCENARIOS.iter().filter(|s| chosen.is_empty() || chosen.iter().any(|name| *name == *s.name)) {
        if stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        testbed.cluster.heal();
        thread::sleep(Duration::from_secs(12));
        eprintln!("{}: {}", scenario.name, scenario.title);
        let primary = testbed.cluster.leader().ok_or("no primary")?;
        let watch = Watch::start(&testbed.cluster);
        thread::sleep(Duration::from_secs(2));
        (scenario.happens)(&mut testbed, primary).map_err(|e| format!("{}: {e}", scenario.name))?;
        testbed.cluster.heal();
        // Patroni looks once more at how far the primary is.
        thread::sleep(Duration::from_secs(12));
        let row = watch.finish().row(scenario.title);
        eprintln!("{row}");
        table += &row;
    }
    let on = testbed.cluster.versions();
    let on: Vec<_> = on.as_array().into_iter().flatten().filter_map(|what| what.as_str()).collect();
    table += &format!("\nSeconds, by `make reads` on {}.\n", on.join(", "));
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    fs::write(out.join("reads.md"), &table)?;
    println!("{table}");
    Ok(())
}
