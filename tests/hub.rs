//! Models by their names on a hub of this machine: fetched once, found again, refused with a reason.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use paring_format::checkpoint::INDEX;
use paring_format::writer::write_file;
use serde_json::json;

use support::hub::{Fault, Hub, NOBODY, etag};
use support::*;

const QUANTIZE: &str = "calib.safetensors --wbits 4 --groupsize 16 --quiet";

type Files = Vec<(String, Vec<u8>)>;

/// A folder's files, to publish.
fn files(dir: &Path) -> Files {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(&path).unwrap())).collect()
}

/// The golden Llama in two shards.
fn sharded(sandbox: &Sandbox) -> Files {
    let tensors = Model::golden("llama").tensors;
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (head, tail) = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    let mut files = vec![("config.json".to_string(), fs::read(sandbox.path("model/config.json")).unwrap())];
    for (name, part) in names.into_iter().zip([head, tail]) {
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), name.into())));
        write_file(&sandbox.path(name), part.to_vec()).unwrap();
        files.push((name.to_string(), fs::read(sandbox.path(name)).unwrap()));
    }
    files.push((INDEX.to_string(), json!({ "weight_map": map }).to_string().into()));
    files
}

/// A sandbox and a hub that has its model as `org/tiny`.
fn both() -> (Sandbox, Hub, String) {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    tokenizer(&sandbox);
    let commit = hub.publish("models/org/tiny", "main", &files(&sandbox.path("model")));
    (sandbox, hub, commit)
}

/// Runs the binary, which finds the hub.
fn run(sandbox: &Sandbox, hub: &Hub, arguments: &str) -> Ran {
    sandbox.run_with(arguments, &[("HF_ENDPOINT", &hub.address())])
}

fn ok(sandbox: &Sandbox, hub: &Hub, arguments: &str) -> Ran {
    let ran = run(sandbox, hub, arguments);
    assert_eq!(ran.code, Some(0), "paring {arguments}\n{}", ran.stderr);
    ran
}

/// Checks that a run fails with one line that holds these words.
fn refused(sandbox: &Sandbox, hub: &Hub, arguments: &str, words: &[&str]) {
    let arguments = format!("quantize {arguments} {QUANTIZE} --out out");
    let ran = run(sandbox, hub, &arguments);
    sandbox.refuses(&ran, 1, words).map_err(|text| format!("paring {arguments}\n{text}")).unwrap();
}

#[test]
fn by_name_and_then_offline() {
    let (sandbox, hub, commit) = both();
    ok(&sandbox, &hub, &format!("quantize org/tiny {QUANTIZE} --out first"));
    let log = hub.log();
    let size = fs::metadata(sandbox.path("model/model.safetensors")).unwrap().len() as usize;
    assert_eq!(Hub::from_store(&log), size);
    assert!(log.iter().all(|request| request.authorization.is_none()));
    // The same model as a folder gives the same bytes.
    sandbox.ok(&format!("quantize model {QUANTIZE} --out local"));
    let first = model_bytes(&sandbox.path("first"));
    assert_eq!(first, model_bytes(&sandbox.path("local")));
    assert!(sandbox.path("first/tokenizer.json").is_file());
    // The layout that other programs look for.
    let folder = sandbox.path("hf/hub/models--org--tiny");
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), commit);
    let snapshot = folder.join("snapshots").join(&commit);
    let weights = fs::read(sandbox.path("model/model.safetensors")).unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights);
    assert_eq!(fs::read(folder.join("blobs").join(etag(&weights, true))).unwrap(), weights);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(snapshot.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(etag(&weights, true))
    );
    // Again: the list alone.
    ok(&sandbox, &hub, &format!("quantize org/tiny {QUANTIZE} --out again"));
    let paths: Vec<String> = hub.log().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/models/org/tiny/revision/main?blobs=true"]);
    // And without a hub.
    drop(hub);
    let offline = [("HF_HUB_OFFLINE", "1")];
    let ran = sandbox.run_with(&format!("quantize org/tiny {QUANTIZE} --out second"), &offline);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(first, model_bytes(&sandbox.path("second")));
    let ran = sandbox.run_with(&format!("inspect org/tiny@{commit} --json"), &offline);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // Nobody is there, and it may not be asked.
    let ran = sandbox.run_with(&format!("quantize org/other {QUANTIZE} --out out"), &offline);
    sandbox.refuses(&ran, 1, &["org/other", "no such folder", "models--org--other", "HF_HUB_OFFLINE"]).unwrap();
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let ran = sandbox.run_with(&format!("quantize org/tiny {QUANTIZE} --out out"), &offline);
    sandbox.refuses(&ran, 1, &["org/tiny", "model.safetensors is not in the cache", "HF_HUB_OFFLINE"]).unwrap();
}

#[test]
fn every_command() {
    let (sandbox, hub, _) = both();
    hub.publish("models/org/sharded", "main", &sharded(&sandbox));
    ok(&sandbox, &hub, "sparsify org/sharded --method magnitude --pattern 2:4 --quiet --out sparse");
    sandbox.ok("sparsify model --method magnitude --pattern 2:4 --quiet --out local");
    assert_eq!(model_bytes(&sandbox.path("sparse")), model_bytes(&sandbox.path("local")));
    let eval = "eval.safetensors --seqlen 32 --quiet --json";
    let there = ok(&sandbox, &hub, &format!("eval org/tiny {eval}")).json();
    assert_eq!(there["perplexity"], sandbox.ok(&format!("eval model {eval}")).json()["perplexity"]);
    ok(&sandbox, &hub, &format!("quantize org/sharded {QUANTIZE} --eval eval.safetensors --out packed"));
    hub.publish("models/org/packed", "main", &files(&sandbox.path("packed")));
    // What was made here can be taken from there: its digests come along.
    let result = ok(&sandbox, &hub, "verify org/packed --json").json();
    assert_eq!((&result["formats"], &result["digests_checked"]), (&json!({"pack-quantized": 14}), &21.into()));
    ok(&sandbox, &hub, "decompress org/packed --out dense");
    sandbox.ok("decompress packed --out dense_local");
    assert_eq!(model_bytes(&sandbox.path("dense")), model_bytes(&sandbox.path("dense_local")));
    let tensors = ok(&sandbox, &hub, "inspect org/tiny --json").json()["tensors"].as_array().unwrap().len();
    assert_eq!(tensors, sandbox.ok("inspect model --json").json()["tensors"].as_array().unwrap().len());
}

/// The name of a cached file whose download was broken off.
fn part_of(sandbox: &Sandbox, bytes: &[u8]) -> PathBuf {
    sandbox.path("hf/hub/models--org--tiny/blobs").join(format!("{}.paring", etag(bytes, true)))
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let (sandbox, hub, _) = both();
    let weights = fs::read(sandbox.path("model/model.safetensors")).unwrap();
    hub.fault("GET /store/", 1, Fault::Break(30_000));
    let ran = ok(&sandbox, &hub, "inspect org/tiny");
    assert!(ran.stderr.contains("note: ") && ran.stderr.contains("after 30000 of"), "{}", ran.stderr);
    let log = hub.log();
    assert_eq!(Hub::from_store(&log), weights.len());
    assert_eq!(log.last().unwrap().range.as_deref(), Some("bytes=30000-"));
    assert!(!part_of(&sandbox, &weights).exists());
    assert_eq!(fs::read(sandbox.path("hf/hub/models--org--tiny/blobs").join(etag(&weights, true))).unwrap(), weights);
}

#[test]
fn a_later_run_goes_on_too() {
    let (sandbox, hub, _) = both();
    let weights = fs::read(sandbox.path("model/model.safetensors")).unwrap();
    let part = part_of(&sandbox, &weights);
    hub.fault("GET /store/", 1, Fault::Break(20_000));
    hub.fault("GET /store/", 1, Fault::Status(403, ""));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: model.safetensors", "403"]);
    assert_eq!(fs::read(&part).unwrap(), weights[..20_000]);
    hub.log();
    // A store without ranges sends everything again, and the file holds it once.
    hub.fault("GET /store/", 1, Fault::NoRanges);
    hub.fault("GET /store/", 1, Fault::Status(403, ""));
    ok(&sandbox, &hub, "inspect org/tiny");
    let log = hub.log();
    assert_eq!((Hub::from_store(&log), log.last().unwrap().range.as_deref()), (weights.len(), Some("bytes=20000-")));
    let blob = part.with_extension("");
    assert_eq!(fs::read(&blob).unwrap(), weights);
    // A whole file whose name is missing is named; one with bytes too many is fetched again.
    hub.fault("GET /store/", 9, Fault::Status(403, ""));
    fs::rename(&blob, &part).unwrap();
    ok(&sandbox, &hub, "inspect org/tiny");
    assert_eq!(Hub::from_store(&hub.log()), 0);
    fs::write(&part, [&weights[..], b"more"].concat()).unwrap();
    fs::remove_file(&blob).unwrap();
    refused(&sandbox, &hub, "org/tiny", &["model.safetensors", "403"]);
    assert_eq!(fs::metadata(&part).unwrap().len(), 0);
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

#[test]
fn what_the_hub_refuses() {
    let (sandbox, hub, _) = both();
    refused(
        &sandbox,
        &hub,
        "org/other",
        &["org/other: no such folder; and on the hub no such model", "404", "spelling"],
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
    sandbox.refuses(&ran, 1, &["org/absent: cannot reach 127.0.0.1:9", "HF_HUB_OFFLINE=1"]).unwrap();
    let ran = sandbox.run_with("inspect org/absent", &[("HF_ENDPOINT", "the hub")]);
    assert!(ran.code == Some(2) && ran.stderr.contains("HF_ENDPOINT"), "{}", ran.stderr);
}

/// Answers that no hub should give: nothing of them is believed, and nothing is written outside the cache.
#[test]
fn what_is_not_believed() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let list = |files: &str| Fault::Body(format!(r#"{{"sha": "{commit}", "siblings": [{files}]}}"#));
    let cases: [(&str, Fault, &[&str]); 14] = [
        ("GET /api/", list(r#"{"rfilename": "../../../../evil.json"}"#), &["evil.json", "no file of a repository"]),
        ("GET /api/", list(r#"{"rfilename": "/tmp/evil.json"}"#), &["evil.json", "no file of a repository"]),
        ("GET /api/", Fault::Body("<html>".into()), &["list of its files"]),
        ("GET /api/", Fault::Body(r#"{"sha": "../evil", "siblings": []}"#.into()), &["expected a commit", "../evil"]),
        ("GET /api/", list(r#"{"rfilename": "a.gguf"}"#), &["no config.json", "a.gguf"]),
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
fn revisions() {
    let (sandbox, hub, first) = both();
    hub.publish("models/org/tiny", "refs/pr/1", &files(&sandbox.path("model")));
    let mut model = Model::golden("llama");
    model.set("model.layers.0.self_attn.q_proj.weight", 0, 0.75);
    fs::create_dir_all(sandbox.path("changed")).unwrap();
    model.write(&sandbox.path("changed"));
    ok(&sandbox, &hub, &format!("quantize org/tiny {QUANTIZE} --out old"));
    let second = hub.publish("models/org/tiny", "main", &files(&sandbox.path("changed")));
    assert_ne!(first, second);
    // The branch moved on: the new files come, the old ones stay.
    ok(&sandbox, &hub, &format!("quantize org/tiny {QUANTIZE} --out new"));
    assert_ne!(model_bytes(&sandbox.path("old")), model_bytes(&sandbox.path("new")));
    ok(&sandbox, &hub, &format!("quantize org/tiny@{first} {QUANTIZE} --out commit"));
    // An output without a name is named after the model and its revision.
    ok(&sandbox, &hub, &format!("quantize org/tiny@refs/pr/1 {QUANTIZE}"));
    let named = sandbox.path("tiny-refs-pr-1-gptq-w4g16");
    for out in [sandbox.path("commit"), named] {
        assert_eq!(model_bytes(&sandbox.path("old")), model_bytes(&out));
    }
    let refs = sandbox.path("hf/hub/models--org--tiny/refs");
    assert_eq!(fs::read_to_string(refs.join("main")).unwrap(), second);
    assert_eq!(fs::read_to_string(refs.join("refs/pr/1")).unwrap(), first);
    // Offline every one of them is what it was.
    drop(hub);
    for (name, like) in [("org/tiny", "new"), ("org/tiny@refs/pr/1", "old"), (&format!("org/tiny@{first}"), "old")] {
        let arguments = format!("quantize {name} {QUANTIZE} --overwrite --out offline");
        let ran = sandbox.run_with(&arguments, &[("HF_HUB_OFFLINE", "1")]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(model_bytes(&sandbox.path("offline")), model_bytes(&sandbox.path(like)), "{name}");
    }
    let ran = sandbox.run_with("inspect org/tiny@v9", &[("HF_HUB_OFFLINE", "1")]);
    sandbox.refuses(&ran, 1, &["org/tiny@v9", "HF_HUB_OFFLINE"]).unwrap();
}

#[test]
fn a_folder_goes_before_the_hub() {
    let (sandbox, hub, _) = both();
    fs::create_dir_all(sandbox.path("org/tiny")).unwrap();
    Model::golden("bias_tied").write(&sandbox.path("org/tiny"));
    let here = ok(&sandbox, &hub, "inspect org/tiny --json").json();
    assert_eq!(here["tensors"], sandbox.ok("inspect ./org/tiny --json").json()["tensors"]);
    assert!(hub.log().is_empty());
}

/// Safetensors files are taken where there are any, pickles where there are none, and nothing else.
#[test]
fn which_files_are_fetched() {
    let (sandbox, hub, _) = both();
    let names = |sandbox: &Sandbox, commit: &str| {
        let folder = sandbox.path("hf/hub/models--org--tiny/snapshots").join(commit);
        let mut names: Vec<String> = files(&folder).into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.join(" ")
    };
    let mut all = files(&sandbox.path("model"));
    for name in ["README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "chat_template.jinja"] {
        all.push((name.to_string(), b"something".to_vec()));
    }
    let commit = hub.publish("models/org/tiny", "main", &all);
    ok(&sandbox, &hub, "inspect org/tiny");
    assert_eq!(names(&sandbox, &commit), "chat_template.jinja config.json model.safetensors tokenizer.json");
    all.retain(|(name, _)| name != "model.safetensors");
    let commit = hub.publish("models/org/tiny", "main", &all);
    // This pickle is none, which is not the hub's business.
    assert_eq!(run(&sandbox, &hub, "inspect org/tiny").code, Some(1));
    assert_eq!(names(&sandbox, &commit), "chat_template.jinja config.json pytorch_model.bin tokenizer.json");
    all.retain(|(name, _)| name != "pytorch_model.bin");
    all.push(("pytorch_model.bin.index.json".into(), br#"{"weight_map": {"a": "b.bin", "c": "b.bin"}}"#.to_vec()));
    all.push(("b.bin".into(), b"another".to_vec()));
    let commit = hub.publish("models/org/tiny", "main", &all);
    assert_eq!(run(&sandbox, &hub, "inspect org/tiny").code, Some(1));
    let expected = "b.bin chat_template.jinja config.json pytorch_model.bin.index.json tokenizer.json";
    assert_eq!(names(&sandbox, &commit), expected);
}
