//! What may be asked, and what may not.

use super::*;

#[test]
fn every_endpoint_of_the_manual_is_asked_by_its_exact_name() {
    for known in KNOWN {
        assert_eq!(known.path.parse::<Endpoint>().unwrap().to_string(), known.path);
    }
}

#[test]
fn parameters_are_sent_so_that_patroni_cannot_misread_them() {
    let table = [
        ("/replica?lag=0", "/replica?lag=0"),
        ("/replica?lag=512", "/replica?lag=512"),
        ("/replica?lag=512B", "/replica?lag=512"),
        ("/async?lag=16kB", "/async?lag=16384"),
        ("/read-only?lag=16MB", "/read-only?lag=16777216"),
        ("/sync?lag=2GB", "/sync?lag=2147483648"),
        ("/quorum?lag=1TB", "/quorum?lag=1099511627776"),
        ("/replica?tag_zone=a&lag=1kB", "/replica?lag=1024&tag_zone=a"),
        ("/replica?tag_zone=eu%20west&tag_fast=true", "/replica?tag_zone=eu%20west&tag_fast=true"),
        ("/health?tag_zone=a", "/health?tag_zone=a"),
        ("/readiness?mode=write&lag=1kB", "/readiness?lag=1024&mode=write"),
        ("/readiness?mode=apply", "/readiness?mode=apply"),
    ];
    for (written, sent) in table {
        let endpoint: Endpoint = written.parse().unwrap();
        assert_eq!((endpoint.request_path(), endpoint.to_string()), (sent.to_owned(), sent.to_owned()));
    }
}

#[test]
fn what_we_judge_ourselves_is_not_sent() {
    let endpoint: Endpoint = "/async?tag_a=b&replication_state=streaming&lag=1kB".parse().unwrap();
    assert_eq!(endpoint.request_path(), "/async?lag=1024&tag_a=b");
    assert_eq!(endpoint.to_string(), "/async?lag=1024&replication_state=streaming&tag_a=b");
    assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
    assert_ne!(endpoint, "/async?tag_a=b&lag=1kB".parse().unwrap());
}

#[test]
fn what_patroni_would_misread_or_ignore_is_refused() {
    let table = [
        ("", "no such"),
        ("/", "no such"),
        ("primary", "no such"),
        ("/Primary", "no such"),
        ("/replica/", "no such"),
        ("/read-only-async", "no such"),
        ("/patroni", "no such"),
        ("/cluster", "/read-only-quorum"),
        ("/replica?", "no parameter"),
        ("/replica?lag=10mb", "case counts"),
        ("/replica?lag=10M", "case counts"),
        ("/replica?lag=16KB", "case counts"),
        ("/replica?lag=1.5MB", "case counts"),
        ("/replica?lag=-1", "case counts"),
        ("/replica?lag=", "case counts"),
        ("/replica?lag=99999999TB", "case counts"),
        ("/replica?lag=1&lag=2", "twice"),
        ("/primary?lag=1MB", "has no parameter lag"),
        ("/liveness?lag=1MB", "has no parameter lag"),
        ("/readiness?mode=Write", "apply or write"),
        ("/readiness?mode=", "apply or write"),
        ("/readiness?mode=write&mode=apply", "twice"),
        ("/readiness?lag=1mb", "case counts"),
        ("/readiness?tag_zone=a", "ignores tags"),
        ("/liveness?mode=write", "has no parameter mode"),
        ("/replica?mode=write", "has no parameter mode"),
        ("/primary?tag_zone=a", "ignores tags"),
        ("/leader?tag_zone=a", "ignores tags"),
        ("/replica?tag_=a", "no parameter"),
        ("/replica?tag_zone=", "no value"),
        ("/replica?tag_zone", "no value"),
        ("/replica?tag_zone=a&tag_zone=b", "twice"),
        ("/replica?tag_x=1&tag_%78=2", "twice"),
        ("/replica?tag_%7a=1&tag_%7A=2", "twice"),
        ("/replica?tag_zone=a+b", "%XX"),
        ("/replica?tag_zone=a b", "%XX"),
        ("/replica?tag_zone=%4", "%XX"),
        ("/replica?tag_zone=a\r\nHost: b", "%XX"),
        ("/replica?replication_state=", "no other"),
        ("/replica?replication_state", "no other"),
        ("/replica?replication_state=in%20archive%20recovery", "no other"),
        ("/replica?replication_state=Streaming", "no other"),
        ("/replica?replication_state=streaming&replication_state=streaming", "twice"),
        ("/primary?replication_state=streaming", "no parameter"),
        ("/health?replication_state=streaming", "no parameter"),
    ];
    for (written, complaint) in table {
        let error = written.parse::<Endpoint>().expect_err(written);
        assert!(error.contains(complaint), "{written}: {error}");
        assert!(!error.contains('\n'), "{written}: {error}");
    }
}

#[test]
fn the_version_needed_is_that_of_the_endpoint_and_of_its_parameters() {
    let table = [
        ("/primary", (0, 0, 0)),
        ("/replica", (0, 0, 0)),
        ("/replica?lag=1MB", (2, 0, 0)),
        ("/replica?lag=1MB&tag_a=b", (2, 1, 0)),
        ("/replica?lag=1MB&replication_state=streaming", (3, 0, 4)),
        ("/quorum?replication_state=streaming", (4, 0, 0)),
        ("/leader", (2, 1, 0)),
        ("/read-only-sync?tag_a=b", (2, 1, 5)),
        ("/read-only-quorum?lag=1MB", (4, 0, 0)),
        ("/read-only-synchronous", (2, 1, 5)),
        ("/health", (1, 6, 0)),
        ("/read-only", (1, 6, 0)),
        ("/read-write", (1, 6, 0)),
        ("/read-only?lag=1MB", (2, 0, 0)),
        ("/standby_leader", (0, 0, 0)),
        ("/readiness", (2, 0, 0)),
        ("/readiness?lag=1MB", (4, 1, 0)),
        ("/readiness?mode=apply", (4, 1, 0)),
    ];
    for (written, since) in table {
        assert_eq!(written.parse::<Endpoint>().unwrap().since(), since, "{written}");
    }
}
