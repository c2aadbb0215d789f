//! A hostile world. A Patroni that misbehaves in every way that could be thought of: each is a
//! failure with a reason that names it, within the deadline, in one line that HAProxy can't
//! misread. Clients that misbehave, by the thousand: others are answered all the same. And then the
//! same process serves on, with nothing kept.

mod clients;
mod patroni;

use std::fs;

/// Open descriptors, threads, and resident memory in kB (proc(5)).
fn footprint(id: u32) -> (usize, u64, u64) {
    let field = |name: &str| lab::process::status(id, name).unwrap();
    (fs::read_dir(format!("/proc/{id}/fd")).unwrap().count(), field("Threads"), field("VmRSS"))
}
