//! A hub that is busy, refuses, or answers with nonsense.

use serde_json::json;

use crate::support::hub::{Fault, NOBODY, both, ok, refused, sharded};

#[test]
fn what_the_hub_refuses() {
    let (sandbox, hub, _) = both();
    refused(
        &sandbox,
        &hub,
        "org/other",
        &["org/other: no folder of that name here, and no such model on the hub", "404", "spelling"],
    );
    refused(&sandbox, &hub, "org/tiny@v9", &["org/tiny@v9: ", "no branch, tag or commit v9"]);
    hub.fault("GET /api/", 1, Fault::Status(401, ""));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: ", "spelling", "HF_TOKEN", "401"]);
    hub.fault("GET /api/", 1, Fault::Status(403, "X-Error-Code: GatedRepo"));
    let page = format!("{}/org/tiny", hub.address());
    refused(&sandbox, &hub, "org/tiny", &["gated model", "ask for access", &page, "HF_TOKEN"]);
    hub.fault("HEAD /org/tiny/resolve/", 1, Fault::Status(403, "X-Error-Code: GatedRepo"));
    refused(&sandbox, &hub, "org/tiny", &["gated model", &page]);
    hub.fault("GET /api/", 1, Fault::Status(418, ""));
    refused(&sandbox, &hub, "org/tiny", &["refuses", "418"]);
    // A token that is not taken, and one that goes to the hub and no further.
    let with_token = [("HF_ENDPOINT", &hub.address()[..]), ("HF_TOKEN", "hf_secret")];
    hub.fault("GET /api/", 1, Fault::Status(401, ""));
    let ran = sandbox.run_with("inspect org/tiny", &with_token);
    sandbox.refuses(&ran, 1, &["does not accept the token"]).unwrap();
    hub.log();
    assert_eq!(sandbox.run_with("inspect org/tiny", &with_token).code, Some(0));
    for request in hub.log() {
        let sent = request.authorization.as_deref() == Some("Bearer hf_secret");
        assert_eq!(sent, !request.path.starts_with("/store/"), "{request:?}");
    }
    let ran = sandbox.run_with("inspect org/absent", &[("HF_ENDPOINT", NOBODY)]);
    sandbox
        .refuses(
            &ran,
            1,
            &[
                "org/absent: cannot reach 127.0.0.1:9 (",
                "not in the cache (",
                "hf/hub). There is no folder of that name here either.",
            ],
        )
        .unwrap();
    let ran = sandbox.run_with("inspect org/absent", &[("HF_ENDPOINT", "the hub")]);
    assert!(ran.code == Some(2) && ran.stderr.contains("HF_ENDPOINT"), "{}", ran.stderr);
}

/// Answers that no hub should give: nothing of them is believed, and nothing is written outside the cache.
#[test]
fn what_is_not_believed() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let list = |files: &str| Fault::Body(format!(r#"{{"sha": "{commit}", "siblings": [{files}]}}"#));
    let cases: [(&str, Fault, &[&str]); 16] = [
        ("GET /api/", list(r#"{"rfilename": "../../../../evil.json"}"#), &["evil.json", "not a path in a repository"]),
        ("GET /api/", list(r#"{"rfilename": "/tmp/evil.json"}"#), &["evil.json", "not a path in a repository"]),
        ("GET /api/", Fault::Body("<html>".into()), &["list of its files"]),
        ("GET /api/", Fault::Body(r#"{"sha": "../evil", "siblings": []}"#.into()), &["expected a commit", "../evil"]),
        ("GET /api/", list(r#"{"rfilename": "a.gguf"}"#), &["no config.json", "a.gguf", "GGUF is not read"]),
        ("GET /api/", Fault::Status(302, "Location: file:///etc/passwd"), &["file:///etc/passwd", "not followed"]),
        ("/", Fault::Status(302, "Location: /again"), &["redirects more than 10 times"]),
        ("resolve", Fault::Headers("X-Repo-Commit: ../../evil"), &["expected a commit", "evil"]),
        (
            "resolve",
            Fault::Headers("X-Repo-Commit: 0123456789abcdef0123456789abcdef01234567"),
            &["expected the file of"],
        ),
        ("config.json", Fault::Headers("ETag: \"../evil\""), &["config.json", "expected the etag", "evil"]),
        ("safetensors", Fault::Headers("X-Linked-Size: 80"), &["model.safetensors", "list of files", "got 80"]),
        (
            "GET /store/",
            Fault::Status(206, "Content-Range: bytes 0-1/2"),
            &["model.safetensors", "asked for bytes 0-80559/80560, got bytes 0-1/2"],
        ),
        ("GET /store/", Fault::Status(206, ""), &["model.safetensors", "got bytes without a name"]),
        ("GET /store/", Fault::Body("short".into()), &["model.safetensors", "expected 80560 bytes, got 5"]),
        ("GET /store/", Fault::Body("long".repeat(50_000)), &["model.safetensors", "bytes, got 200000"]),
        ("HEAD /org/tiny/resolve/", Fault::Headers("Content-Length: 99"), &["config.json", "list of files", "got 99"]),
    ];
    for (part, fault, words) in cases {
        let (sandbox, hub, _) = both();
        hub.fault(part, 99, fault);
        refused(&sandbox, &hub, "org/tiny", &[&["org/tiny: "], words].concat());
        let evil = ["evil.json", "hf/evil", "hf/hub/evil", "hf/hub/models--org--tiny/evil", "hf/hub/evil.json"];
        assert!(evil.iter().all(|name| !sandbox.path(name).exists()), "{words:?}");
    }
}

#[test]
fn an_index_that_is_not_right() {
    let (sandbox, hub, _) = both();
    let with_index = |map: serde_json::Value| {
        let mut files = sharded(&sandbox);
        files.last_mut().unwrap().1 = map.to_string().into();
        hub.publish("models/org/tiny", "main", &files);
    };
    with_index(json!({"weight_map": {"a": "../../../../evil.safetensors"}}));
    refused(&sandbox, &hub, "org/tiny", &["index.json", "evil.safetensors", "not the name of a file"]);
    with_index(json!({"weight_map": {"a": "model-00003-of-00003.safetensors"}}));
    refused(&sandbox, &hub, "org/tiny", &["model-00003-of-00003.safetensors", "not in the repository"]);
    with_index(json!({"map": {}}));
    refused(&sandbox, &hub, "org/tiny", &["index.json", "no weight_map"]);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let (sandbox, hub, _) = both();
    hub.fault("GET /api/", 2, Fault::Status(429, "Retry-After: 0"));
    hub.fault("HEAD /org/tiny/resolve", 1, Fault::Status(503, "Retry-After: 0"));
    hub.fault("GET /store/", 2, Fault::Status(429, "Retry-After: 0"));
    hub.fault("GET /api/", 1, Fault::Break(10));
    let ran = ok(&sandbox, &hub, "inspect org/tiny");
    assert_eq!(ran.stderr.matches("note: ").count(), 6, "{}", ran.stderr);
    // Not for ever, and not as long as it likes.
    let (sandbox, hub, _) = both();
    hub.fault("GET /api/", 99, Fault::Status(500, "Retry-After: 0"));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: ", "500", "gave up after 5 tries"]);
    assert_eq!(hub.log().len(), 5);
    let (sandbox, hub, _) = both();
    hub.fault("GET /api/", 1, Fault::Status(429, "Retry-After: 3600"));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: ", "429", "3600 s"]);
    assert_eq!(hub.log().len(), 1);
}
