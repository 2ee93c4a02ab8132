//! Downloads are what the hub says they are, or nothing; and a hub that cannot be reached is not needed for what is here.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paring_data::hub::{DownloadObserver, Hub as Client, Repo, RepoKind, Settings, Timing};

use support::hub::{Fault, Hub, NOBODY, QUANTIZE, both, etag, files, ok, refused, run, sharded};
use support::*;

fn weights(sandbox: &Sandbox) -> Vec<u8> {
    fs::read(sandbox.path("model/model.safetensors")).unwrap()
}

fn blobs(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("hf/hub/models--org--tiny/blobs")
}

/// The weights in the cache, which must have their name and no other.
fn assert_fetched(sandbox: &Sandbox) {
    let weights = weights(sandbox);
    assert!(fs::read(blobs(sandbox).join(etag(&weights, true))).unwrap() == weights);
    assert_eq!(left_over(sandbox), Vec::<String>::new());
}

/// Names of unfinished files.
fn left_over(sandbox: &Sandbox) -> Vec<String> {
    let names = fs::read_dir(blobs(sandbox)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains('.')).collect()
}

#[test]
fn other_bytes_of_the_right_length() {
    let (sandbox, hub, commit) = both();
    let weights = weights(&sandbox);
    let name = etag(&weights, true);
    hub.fault("GET /store/", 1, Fault::Altered(64));
    let ran = ok(&sandbox, &hub, "inspect org/tiny");
    let note = format!("model.safetensors: expected the digest {name}, got ");
    assert!(ran.stderr.contains(&note) && ran.stderr.contains("fetching it again"), "{}", ran.stderr);
    assert_fetched(&sandbox);
    let log = hub.log();
    assert_eq!(Hub::from_store(&log), 2 * weights.len());
    // All of one commit, wherever the branch moves meanwhile.
    let mut files = log.iter().filter(|request| request.path.contains("/resolve/"));
    assert!(files.all(|request| request.path.contains(&format!("/resolve/{commit}/"))), "{log:?}");
    // Where they stay wrong, nothing of them is kept.
    let (sandbox, hub, _) = both();
    hub.fault("GET /store/", 2, Fault::Altered(1));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: model.safetensors: expected the digest", &name, "got ", "twice"]);
    assert!(!blobs(&sandbox).join(&name).exists());
    assert_eq!(left_over(&sandbox), Vec::<String>::new());
    ok(&sandbox, &hub, "inspect org/tiny");
    assert_fetched(&sandbox);
}

/// Small files have the hash of a git blob for an etag.
#[test]
fn other_bytes_of_a_small_file() {
    let (sandbox, hub, _) = both();
    let config = etag(&fs::read(sandbox.path("model/config.json")).unwrap(), false);
    hub.fault("GET /org/tiny/resolve/", 2, Fault::Altered(1));
    refused(&sandbox, &hub, "org/tiny", &["org/tiny: config.json: expected the digest", &config, "twice"]);
    assert_eq!(left_over(&sandbox), Vec::<String>::new());
    ok(&sandbox, &hub, "inspect org/tiny");
    assert!(blobs(&sandbox).join(config).is_file());
}

/// A power cut leaves zeros where a file grew, and a file of the right length may have them too.
#[test]
fn a_damaged_part_is_fetched_anew() {
    for (good, zeros) in [(5_000, 40_000), (0, 10), (5_000, 0)] {
        let (sandbox, hub, _) = both();
        let weights = weights(&sandbox);
        let zeros = if zeros == 0 { weights.len() - good } else { zeros };
        fs::create_dir_all(blobs(&sandbox)).unwrap();
        let part = [&weights[..good], &vec![0; zeros]].concat();
        fs::write(blobs(&sandbox).join(format!("{}.paring", etag(&weights, true))), &part).unwrap();
        let ran = ok(&sandbox, &hub, "inspect org/tiny");
        assert!(ran.stderr.contains("fetching it again"), "{}", ran.stderr);
        assert_fetched(&sandbox);
        let from: Vec<Option<String>> =
            hub.log().into_iter().filter(|r| r.path.starts_with("/store/")).map(|r| r.range).collect();
        let continued = (part.len() < weights.len()).then(|| Some(format!("bytes={}-", part.len())));
        assert_eq!(from, continued.into_iter().chain([None]).collect::<Vec<_>>());
    }
}

#[test]
fn another_part_than_asked_for() {
    for other in [0, 19_999, 20_001] {
        let (sandbox, hub, _) = both();
        hub.fault("GET /store/", 1, Fault::Break(20_000));
        hub.fault("GET /store/", 9, Fault::RangeFrom(other));
        let ran = ok(&sandbox, &hub, "inspect org/tiny");
        let note = format!("asked for bytes 20000-80559/80560, got bytes {other}-80559/80560");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
        assert_fetched(&sandbox);
        assert_eq!(hub.log().last().unwrap().range, None);
    }
}

#[test]
fn an_etag_that_is_no_digest() {
    let (sandbox, hub, _) = both();
    hub.fault("/model.safetensors", 99, Fault::Headers("X-Linked-Etag: \"d41d8cd98f00b204e9800998ecf8427e\""));
    let ran = ok(&sandbox, &hub, "inspect org/tiny");
    let note =
        "model.safetensors: its etag \"d41d8cd98f00b204e9800998ecf8427e\" is not a digest; only its size is checked";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

/// The notes of a client.
#[derive(Default)]
struct Notes(Vec<String>);

impl DownloadObserver for Notes {
    fn bytes(&mut self, _: &str, _: u64, _: u64) {}

    fn note(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
}

fn client(sandbox: &Sandbox, endpoint: String) -> Client {
    let timing = Timing { stretch: Duration::from_millis(150), pause: Duration::from_millis(1) };
    Client::new(&Settings { endpoint, cache: sandbox.path("hf/hub"), token: None, offline: false, timing })
}

#[test]
fn a_transfer_that_hardly_moves() {
    let (sandbox, hub, _) = both();
    let repo = Repo::parse_model("org/tiny").unwrap();
    let here = client(&sandbox, hub.address());
    for part in ["GET /api/", "GET /store/"] {
        hub.fault(part, 5, Fault::Slow);
        let error = here.model(&repo, &mut ()).unwrap_err().to_string();
        assert!(error.starts_with("org/tiny: ") && error.contains("expected 1000 a second"), "{error}");
        assert!(error.contains("gave up after 5 tries"), "{error}");
    }
    // What came is kept, and the rest continues from there.
    let have = fs::metadata(blobs(&sandbox).join(left_over(&sandbox).remove(0))).unwrap().len();
    assert!(have > 0);
    hub.log();
    hub.fault("GET /store/", 1, Fault::Slow);
    let mut notes = Notes::default();
    here.model(&repo, &mut notes).unwrap();
    assert!(notes.0.len() == 1 && notes.0[0].contains("expected 1000 a second"), "{:?}", notes.0);
    assert!(hub.log().iter().any(|request| request.range == Some(format!("bytes={have}-"))));
    assert_fetched(&sandbox);
}

const NO_NETWORK: &str = "org/tiny: using the copy in the cache, not checked for updates: ";

#[test]
fn a_whole_model_needs_no_network() {
    let (sandbox, hub, _) = both();
    ok(&sandbox, &hub, &format!("quantize org/tiny {QUANTIZE} --out first"));
    let first = model_bytes(&sandbox.path("first"));
    // Nobody listens; or the hub is down.
    let ran = sandbox.run("inspect org/tiny");
    assert!(ran.code == Some(0) && ran.stderr.contains(NO_NETWORK), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot reach 127.0.0.1:9"), "{}", ran.stderr);
    sandbox.ok(&format!("quantize org/tiny {QUANTIZE} --out second"));
    assert!(first == model_bytes(&sandbox.path("second")));
    for status in [500, 503, 429] {
        hub.fault("GET /api/", 2, Fault::Status(status, "Retry-After: 0"));
        let ran = ok(&sandbox, &hub, "inspect org/tiny");
        assert!(ran.stderr.contains(NO_NETWORK) && ran.stderr.contains(&status.to_string()), "{}", ran.stderr);
    }
    hub.fault("GET /api/", 2, Fault::Break(5));
    assert!(ok(&sandbox, &hub, "inspect org/tiny").stderr.contains(NO_NETWORK));
    // A hub that answers is believed.
    for status in [401, 403, 404] {
        hub.fault("GET /api/", 1, Fault::Status(status, ""));
        refused(&sandbox, &hub, "org/tiny", &["org/tiny: ", &status.to_string()]);
    }
}

/// A later commit that could not be fetched does not take the place of the one that is whole.
#[test]
fn the_last_whole_commit_stays() {
    let (sandbox, hub, first) = both();
    ok(&sandbox, &hub, "inspect org/tiny");
    let mut model = Model::golden("llama");
    model.set("model.layers.0.self_attn.q_proj.weight", 0, 0.75);
    fs::create_dir_all(sandbox.path("changed")).unwrap();
    model.write(&sandbox.path("changed"));
    let second = hub.publish("models/org/tiny", "main", &files(&sandbox.path("changed")));
    hub.fault("GET /store/", 1, Fault::Status(403, ""));
    refused(&sandbox, &hub, "org/tiny", &["model.safetensors", "403"]);
    let reference = || fs::read_to_string(sandbox.path("hf/hub/models--org--tiny/refs/main")).unwrap();
    assert_eq!(reference(), first);
    sandbox.ok("inspect org/tiny");
    ok(&sandbox, &hub, "inspect org/tiny");
    assert_eq!(reference(), second);
}

#[test]
fn files_that_are_missing_without_a_network() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    let commit = hub.publish("models/org/tiny", "main", &sharded(&sandbox));
    let refused = |words: &[&str]| {
        let ran = sandbox.run(&format!("quantize org/tiny {QUANTIZE} --out out"));
        sandbox.refuses(&ran, 1, words).unwrap();
    };
    refused(&[
        "org/tiny: cannot reach 127.0.0.1:9 (",
        "and it is not in the cache (",
        "no folder of that name here either",
    ]);
    hub.fault("GET /store/", 9, Fault::Status(403, ""));
    assert_eq!(run(&sandbox, &hub, "inspect org/tiny").code, Some(1));
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    refused(&[
        &format!("org/tiny: {} are not in the cache", shards.join(", ")),
        "cannot reach 127.0.0.1:9",
        "again with a network",
    ]);
    let hub = Hub::start();
    assert_eq!(hub.publish("models/org/tiny", "main", &sharded(&sandbox)), commit);
    ok(&sandbox, &hub, "inspect org/tiny");
    sandbox.ok("inspect org/tiny");
    fs::remove_file(sandbox.path("hf/hub/models--org--tiny/snapshots").join(&commit).join(shards[1])).unwrap();
    refused(&["org/tiny: model-00002-of-00002.safetensors is not in the cache: cannot reach"]);
}

#[test]
fn data_sets_without_a_network() {
    let (sandbox, hub) = (Sandbox::empty(), Hub::start());
    let published = vec![("en/a.json.gz".to_string(), b"12345".to_vec())];
    hub.publish("datasets/allenai/c4", "main", &published);
    let repo = Repo::new(RepoKind::Dataset, "allenai/c4", None).unwrap();
    let nobody = client(&sandbox, NOBODY.into());
    let error = nobody.file(&repo, "en/a.json.gz", &mut ()).unwrap_err().to_string();
    assert!(
        error.contains("en/a.json.gz: cannot reach 127.0.0.1:9") && error.contains("it is not in the cache ("),
        "{error}"
    );
    let file = client(&sandbox, hub.address()).file(&repo, "en/a.json.gz", &mut ()).unwrap();
    let mut notes = Notes::default();
    assert_eq!(nobody.file(&repo, "en/a.json.gz", &mut notes).unwrap(), file);
    assert_eq!(nobody.list(&repo, &mut notes).unwrap().files.len(), 1);
    assert!(
        notes
            .0
            .iter()
            .all(|note| note.starts_with("allenai/c4: using the copy in the cache, not checked for updates: "))
    );
    assert_eq!(notes.0.len(), 2);
    hub.fault("HEAD /datasets/", 2, Fault::Status(502, "Retry-After: 0"));
    assert_eq!(client(&sandbox, hub.address()).file(&repo, "en/a.json.gz", &mut ()).unwrap(), file);
    let error = nobody.file(&repo, "en/b.json.gz", &mut ()).unwrap_err().to_string();
    assert!(error.contains("en/b.json.gz is not in the cache: cannot reach 127.0.0.1:9"), "{error}");
    hub.fault("HEAD /datasets/", 1, Fault::Status(404, ""));
    let error = client(&sandbox, hub.address()).file(&repo, "en/a.json.gz", &mut ()).unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    assert!(Path::new(&file).is_file());
}
