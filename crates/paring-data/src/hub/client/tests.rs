use std::path::PathBuf;

use super::*;

fn client() -> Client {
    let endpoint = "https://huggingface.co".to_string();
    Client::new(&Settings { endpoint, cache: PathBuf::new(), token: None, offline: false, timing: Timing::default() })
}

/// Waiting would not help where nobody can be reached: the first failure is the last, until there was an answer.
#[test]
fn a_network_that_is_not_there_is_not_tried_again() {
    let no_name = "failed to lookup address information: Name or service not known";
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let cases = [
        (ureq::Error::Io(io::Error::other(no_name)), "cannot reach huggingface.co (no network?)"),
        (ureq::Error::Io(refused), "cannot reach huggingface.co (connection refused)"),
        (ureq::Error::HostNotFound, "cannot reach huggingface.co (host not found)"),
        (
            ureq::Error::ConnectProxyFailed("no proxy".into()),
            "cannot reach huggingface.co (CONNECT proxy failed: no proxy)",
        ),
    ];
    for (error, expected) in cases {
        match client().failure("https://huggingface.co/api/models", error) {
            Failure::Final(Trouble { reason, unreachable: true }) => assert_eq!(reason, expected),
            Failure::Final(Trouble { reason, .. }) => panic!("{reason}: not unreachable"),
            Failure::Passing(Passing { reason, .. }) => panic!("{reason}: tried again"),
        }
    }
    let reached = client();
    reached.reached.store(true, Ordering::Relaxed);
    let again = reached.failure("https://huggingface.co/api/models", ureq::Error::Io(io::Error::other(no_name)));
    assert!(matches!(again, Failure::Passing(Passing { reason, .. }) if reason == "huggingface.co: no network?"));
}
