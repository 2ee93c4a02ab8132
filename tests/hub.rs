//! Models by their names on a hub of this machine: fetched once, resumed, found again.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use paring_data::hub::{DownloadObserver, Repo, RepoKind, Settings, Timing};
use serde_json::json;

use support::hub::{Fault, Hub, QUANTIZE, both, etag, files, ok, refused, run, sharded};
use support::*;

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
    sandbox
        .refuses(
            &ran,
            1,
            &["org/other", "no folder of that name here, and not in the cache (", "HF_HUB_OFFLINE is set"],
        )
        .unwrap();
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

/// The name of a cached file whose download was interrupted.
fn part_of(sandbox: &Sandbox, bytes: &[u8]) -> PathBuf {
    sandbox.path("hf/hub/models--org--tiny/blobs").join(format!("{}.paring", etag(bytes, true)))
}

#[test]
fn a_broken_download_resumes_where_it_broke() {
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
fn a_later_run_resumes_it_too() {
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

/// Safetensors files are taken where there are any, pickles where there are none, and small files that are no weights.
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
    for name in ["README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "chat_template.jinja", "LICENSE"] {
        all.push((name.to_string(), b"something".to_vec()));
    }
    let commit = hub.publish("models/org/tiny", "main", &all);
    ok(&sandbox, &hub, "inspect org/tiny");
    assert_eq!(
        names(&sandbox, &commit),
        "LICENSE README.md chat_template.jinja config.json model.safetensors tokenizer.json"
    );
    all.retain(|(name, _)| name != "model.safetensors");
    let commit = hub.publish("models/org/tiny", "main", &all);
    // This pickle is none, which is not the hub's business.
    assert_eq!(run(&sandbox, &hub, "inspect org/tiny").code, Some(1));
    assert_eq!(
        names(&sandbox, &commit),
        "LICENSE README.md chat_template.jinja config.json pytorch_model.bin tokenizer.json"
    );
    all.retain(|(name, _)| name != "pytorch_model.bin");
    all.push(("pytorch_model.bin.index.json".into(), br#"{"weight_map": {"a": "b.bin", "c": "b.bin"}}"#.to_vec()));
    all.push(("b.bin".into(), b"another".to_vec()));
    let commit = hub.publish("models/org/tiny", "main", &all);
    assert_eq!(run(&sandbox, &hub, "inspect org/tiny").code, Some(1));
    let expected =
        "LICENSE README.md b.bin chat_template.jinja config.json pytorch_model.bin.index.json tokenizer.json";
    assert_eq!(names(&sandbox, &commit), expected);
}

/// Two programs at once fetch every file once.
#[test]
fn two_at_once() {
    let (sandbox, hub, _) = both();
    std::thread::scope(|scope| {
        let runs = [0; 2].map(|_| scope.spawn(|| run(&sandbox, &hub, "inspect org/tiny --json")));
        for run in runs {
            let ran = run.join().unwrap();
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        }
    });
    let size = fs::metadata(sandbox.path("model/model.safetensors")).unwrap().len() as usize;
    assert_eq!(Hub::from_store(&hub.log()), size);
}

/// The messages that a watcher got.
#[derive(Default)]
struct RecordingObserver(Vec<(String, u64, u64)>);

impl DownloadObserver for RecordingObserver {
    fn bytes(&mut self, file: &str, done: u64, of: u64) {
        self.0.push((file.to_string(), done, of));
    }

    fn note(&mut self, text: &str) {
        panic!("{text}");
    }
}

#[test]
fn files_of_a_data_set() {
    let (sandbox, hub) = (Sandbox::empty(), Hub::start());
    let content: Vec<u8> = (0..600_000u32).map(|i| i as u8).collect();
    let files = [("en/a b.json.gz".to_string(), content.clone()), ("README.md".to_string(), b"text".to_vec())];
    hub.publish("datasets/wikitext", "main", &files);
    let settings = Settings {
        endpoint: hub.address(),
        cache: sandbox.path("cache"),
        token: None,
        offline: false,
        timing: Timing::default(),
    };
    let here = paring_data::hub::Hub::new(&settings);
    let repo = Repo::new(RepoKind::Dataset, "wikitext", None).unwrap();
    let listing = here.list(&repo, &mut ()).unwrap();
    assert_eq!(listing.get("en/a b.json.gz").unwrap().size, Some(600_000));
    assert_eq!(listing.files.len(), 2);
    let mut heard = RecordingObserver::default();
    let file = here.file(&repo, "en/a b.json.gz", &mut heard).unwrap();
    assert!(file.ends_with("en/a b.json.gz") && fs::read(&file).unwrap() == content);
    assert_eq!(heard.0.first().unwrap(), &("en/a b.json.gz".to_string(), 0, 600_000));
    assert_eq!(heard.0.last().unwrap(), &("en/a b.json.gz".to_string(), 600_000, 600_000));
    assert!(heard.0.is_sorted());
    // Only the file's metadata is requested; at a commit, not even that.
    hub.log();
    assert_eq!(here.file(&repo, "en/a b.json.gz", &mut ()).unwrap(), file);
    assert_eq!(hub.log().iter().map(|request| &request.method[..]).collect::<Vec<_>>(), ["HEAD"]);
    let fixed = Repo::new(RepoKind::Dataset, "wikitext", Some(&listing.commit)).unwrap();
    assert_eq!(here.file(&fixed, "en/a b.json.gz", &mut ()).unwrap(), file);
    assert!(hub.log().is_empty());
    let error = here.file(&repo, "en/c.json.gz", &mut ()).unwrap_err().to_string();
    assert!(error.starts_with("wikitext: no file en/c.json.gz at main"), "{error}");
    drop(hub);
    let offline = paring_data::hub::Hub::new(&Settings { offline: true, ..settings });
    assert_eq!(offline.file(&repo, "en/a b.json.gz", &mut ()).unwrap(), file);
    assert_eq!(offline.list(&repo, &mut ()).unwrap().files.len(), 1);
}
