//! Without a network: names, settings, lists, what is chosen, the cache. `tests/hub.rs` has a hub to talk to.

use std::collections::HashMap;
use std::ffi::OsString;

use super::download::Part;
use super::repo::is_plain_path;
use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn model(id: &str) -> Repo {
    Repo::new(RepoKind::Model, id, None).unwrap()
}

fn listing(paths: &[&str]) -> Listing {
    let files = paths.iter().map(|path| Entry { path: path.to_string(), size: None });
    Listing { commit: COMMIT.into(), files: files.collect() }
}

fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Settings::from(|name| variables.get(name).map(OsString::from))
}

#[test]
fn names() {
    for (text, id, revision, short) in [
        ("org/name", "org/name", "main", "name"),
        ("Qwen/Qwen2.5-0.5B@v1.0", "Qwen/Qwen2.5-0.5B", "v1.0", "Qwen2.5-0.5B-v1.0"),
        ("a/b_c@refs/pr/1", "a/b_c", "refs/pr/1", "b_c-refs-pr-1"),
    ] {
        let repo = Repo::parse_model(text).unwrap();
        assert_eq!((repo.id(), repo.revision(), repo.short_name().as_str()), (id, revision, short), "{text}");
        assert_eq!(repo.to_string(), text);
    }
    for text in [
        "",
        "name",
        "/",
        "/name",
        "org/",
        "a/b/c",
        "./name",
        "../name",
        "org/..",
        "org/.hidden",
        "~/model",
        "org/na me",
        "org/name@",
        "org/name@/",
        "org/name@../x",
        "org/name@a//b",
        "org/name@a@b",
        "org/name@-x",
        "a--b/c",
        "org/b\\c",
        "org/name\n",
        "C:/model",
    ] {
        assert_eq!(Repo::parse_model(text), None, "{text:?}");
    }
    // Old data sets have no organization, and models that are named by a program need none.
    assert_eq!(Repo::new(RepoKind::Dataset, "wikitext", None).unwrap().id(), "wikitext");
    let error = Repo::new(RepoKind::Dataset, "wiki text", None).unwrap_err().to_string();
    assert!(error.contains("wiki text") && error.contains("org/name"), "{error}");
    let error = Repo::new(RepoKind::Dataset, "wikitext", Some("a/../b")).unwrap_err().to_string();
    assert!(error.contains("a/../b"), "{error}");
}

#[test]
fn paths_that_stay_in_a_folder() {
    for path in ["config.json", "en/c4-train.00000-of-01024.json.gz", ".gitattributes", "a..b", "ä ö"] {
        assert!(is_plain_path(path), "{path}");
    }
    for path in ["", "/x", "../x", "a/../b", "a/..", ".", "a//b", "a/", "a\\b", "c:x", "a\0b", "a\nb"] {
        assert!(!is_plain_path(path), "{path:?}");
    }
    let error = Hub::new(&settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "1")]).unwrap())
        .file(&model("org/name"), "../evil", &mut ())
        .unwrap_err();
    assert!(error.to_string().contains("../evil"), "{error}");
}

#[test]
fn the_environment() {
    let set = settings(&[("HF_HOME", "/h"), ("HF_TOKEN", " abc\n"), ("HF_ENDPOINT", "http://127.0.0.1:9/")]).unwrap();
    assert_eq!((set.cache.to_str(), set.token.as_deref()), (Some("/h/hub"), Some("abc")));
    assert_eq!((set.endpoint.as_str(), set.offline), ("http://127.0.0.1:9", false));
    let set = settings(&[("HOME", "/nowhere/me"), ("HF_HUB_OFFLINE", "true")]).unwrap();
    assert_eq!((set.cache.to_str(), set.token), (Some("/nowhere/me/.cache/huggingface/hub"), None));
    assert_eq!((set.endpoint.as_str(), set.offline), ("https://huggingface.co", true));
    let set = settings(&[("HF_HUB_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HF_HUB_OFFLINE", "0")]).unwrap();
    assert_eq!((set.cache.to_str(), set.offline), (Some("/c"), false));
    for (variables, word) in [
        (&[("HF_HOME", "/h"), ("HF_ENDPOINT", "huggingface.co")][..], "HF_ENDPOINT"),
        (&[("HF_HOME", "/h"), ("HF_ENDPOINT", "https://")], "HF_ENDPOINT"),
        (&[("HF_HOME", "/h"), ("HF_TOKEN", "a\nEvil: header")], "HF_TOKEN"),
        (&[], "HF_HOME"),
    ] {
        let error = settings(variables).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn the_token_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    fs::write(dir.path().join("token"), "from_file\n").unwrap();
    let token = |variables: &[_]| settings(variables).unwrap().token;
    assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("from_file"));
    assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "other")]).as_deref(), Some("other"));
    let path = dir.path().join("token");
    assert_eq!(
        token(&[("HF_HOME", "/nowhere"), ("HF_TOKEN_PATH", path.to_str().unwrap())]).as_deref(),
        Some("from_file")
    );
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(settings(&[("HF_HOME", home)]).is_err());
}

#[test]
fn redirects() {
    use client::{origin, redirected};
    let to = |url: &str, location: &str| {
        let mut headers = ureq::http::HeaderMap::new();
        headers.insert("location", location.parse().unwrap());
        redirected(url, &headers).map_err(|reason| assert!(reason.contains("not followed"), "{reason}")).ok()
    };
    let hub = "https://hub.example:8443/a/b?c";
    assert_eq!(to(hub, "/d?e").as_deref(), Some("https://hub.example:8443/d?e"));
    assert_eq!(to(hub, "//cdn.example/d").as_deref(), Some("https://cdn.example/d"));
    assert_eq!(to(hub, "https://cdn.example/d").as_deref(), Some("https://cdn.example/d"));
    assert_eq!(to("http://hub.example", "http://cdn.example/d").as_deref(), Some("http://cdn.example/d"));
    for location in ["http://hub.example:8443/d", "file:///d", "d", ""] {
        assert_eq!(to(hub, location), None, "{location}");
    }
    assert_eq!(redirected(hub, &ureq::http::HeaderMap::new()).ok(), None);
    // The token stays at home: another port, scheme or host is another place, whatever a name begins with.
    assert_eq!(origin(hub), origin("https://hub.example:8443"));
    for other in ["https://hub.example", "http://hub.example:8443/", "https://hub.example:8443.evil.example/a"] {
        assert_ne!(origin(hub), origin(other), "{other}");
    }
}

#[test]
fn lists() {
    let repo = model("org/name");
    let text = format!(
        r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "a/b.json", "size": 3, "blobId": "x"}}, {{"rfilename": "c"}}],
        "gated": false}}"#
    );
    let listing = Listing::parse(&repo, text.as_bytes()).unwrap();
    assert_eq!((listing.commit.as_str(), listing.files.len()), (COMMIT, 2));
    assert_eq!((listing.get("a/b.json").unwrap().size, listing.get("c").unwrap().size), (Some(3), None));
    for (text, words) in [
        ("<html>".to_string(), "list of its files"),
        (text.replace(COMMIT, "../../x"), "../../x"),
        (text.replace("a/b.json", "../evil"), "../evil"),
        (text.replace("a/b.json", "/etc/evil"), "/etc/evil"),
        (text.replace(": 3", ": -3"), "list of its files"),
    ] {
        let error = Listing::parse(&repo, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words) && error.starts_with("org/name: "), "{error}");
    }
}

#[test]
fn what_makes_a_model() {
    let repo = model("org/name");
    let files = |paths: &[&str]| -> std::result::Result<(String, Option<String>), String> {
        let listing = listing(paths);
        let wanted = model::wanted(&repo, &listing).map_err(|e| e.to_string())?;
        Ok((wanted.files.join(" "), wanted.index.map(str::to_owned)))
    };
    let all =
        ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "onnx/model.onnx"];
    assert_eq!(files(&all), Ok(("config.json tokenizer.json model.safetensors".into(), None)));
    // Where the list has sizes, every small file that is no weights.
    let mut sized =
        listing(&[&all[..], &[".gitattributes", "a/b/c/d/e.txt", "large.dat", "templates/tool.jinja"]].concat());
    sized.files.iter_mut().for_each(|file| file.size = Some(if file.path == "large.dat" { 65 << 20 } else { 10 }));
    let wanted = model::wanted(&repo, &sized).unwrap();
    assert_eq!(wanted.files.join(" "), "config.json README.md tokenizer.json templates/tool.jinja model.safetensors");
    let index =
        ["config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors", "pytorch_model.bin"];
    assert_eq!(files(&index), Ok(("config.json".into(), Some("model.safetensors.index.json".into()))));
    assert_eq!(files(&["config.json", "pytorch_model.bin"]), Ok(("config.json pytorch_model.bin".into(), None)));
    let index = files(&["config.json", "pytorch_model.bin.index.json", "paring.json"]);
    assert_eq!(index, Ok(("config.json paring.json".into(), Some("pytorch_model.bin.index.json".into()))));
    let error = files(&["model.gguf"]).unwrap_err();
    assert!(error.contains("config.json") && error.contains("model.gguf"), "{error}");
    let error = files(&["config.json", "a", "b", "c", "d"]).unwrap_err();
    assert!(error.contains("model.safetensors") && error.contains("and more"), "{error}");
}

#[test]
fn shards_of_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "two", "b": "one", "c": "two"}}"#).unwrap();
    assert_eq!(model::shards(&index).unwrap().into_iter().collect::<Vec<_>>(), ["one", "two"]);
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::write(dir.path().join("one"), "").unwrap();
    assert_eq!(model::missing(dir.path()).unwrap(), ["two"]);
    fs::remove_file(dir.path().join("one")).unwrap();
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_eq!(model::missing(dir.path()).unwrap(), ["config.json", "one", "two"]);
    for (text, word) in [("{", "JSON"), ("{}", "weight_map"), (r#"{"weight_map": {"a": "../x"}}"#, "../x")] {
        fs::write(&index, text).unwrap();
        let error = model::shards(&index).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("index.json"), "{error}");
    }
}

/// A cache as the Python library leaves it: a branch, a snapshot of links, blobs.
#[test]
fn a_cache_that_others_filled() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(&Settings {
        endpoint: "http://127.0.0.1:9".into(),
        cache: dir.path().to_path_buf(),
        token: None,
        offline: true,
        timing: Timing::default(),
    });
    let data = Repo::new(RepoKind::Dataset, "allenai/c4", None).unwrap();
    let error = hub.file(&data, "en/a.json.gz", &mut ()).unwrap_err();
    assert!(matches!(&error, Error::NotOnHub { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let folder = dir.path().join("datasets--allenai--c4");
    for part in ["blobs", "refs", &format!("snapshots/{COMMIT}/en")] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("blobs/abc"), "12345").unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    let shelf = Shelf::new(dir.path(), &data);
    let file = shelf.link(COMMIT, "en/a.json.gz", "abc").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"12345");
    assert_eq!(hub.file(&data, "en/a.json.gz", &mut ()).unwrap(), file);
    assert_eq!(hub.list(&data, &mut ()).unwrap().files, [Entry { path: "en/a.json.gz".into(), size: Some(5) }]);
    let fixed = Repo::new(RepoKind::Dataset, "allenai/c4", Some(COMMIT)).unwrap();
    assert_eq!(hub.file(&fixed, "en/a.json.gz", &mut ()).unwrap(), file);
    let error = hub.file(&data, "en/b.json.gz", &mut ()).unwrap_err().to_string();
    assert!(error.contains("en/b.json.gz is not in the cache"), "{error}");
    // A link that leads to nothing, and one to a file that was cut.
    assert_eq!(shelf.file(COMMIT, "en/a.json.gz", Some(6)), None);
    fs::remove_file(folder.join("blobs/abc")).unwrap();
    assert!(hub.file(&data, "en/a.json.gz", &mut ()).is_err());
    fs::write(folder.join("refs/main"), "../../elsewhere").unwrap();
    let error = hub.file(&data, "en/a.json.gz", &mut ()).unwrap_err().to_string();
    assert!(error.contains("refs/main") && error.contains("expected a commit"), "{error}");
}

/// A power cut after a download must not leave half a file under the name of its digest, which nobody would fetch again.
#[test]
fn downloads_are_on_the_disk_before_they_have_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, blob) = (dir.path().join("abc.paring"), dir.path().join("abc"));
    let mut part = Part::open(begun.clone(), 5, None).unwrap();
    part.append(b"123").unwrap();
    drop(part);
    let mut part = Part::open(begun, 5, None).unwrap();
    part.append(b"45").unwrap();
    part.keep(&blob).unwrap();
    assert_eq!(fs::read(&blob).unwrap(), b"12345");
    let steps = paring_format::writer::disk::recording::steps(dir.path());
    assert_eq!(steps, ["sync abc.paring", "rename abc.paring to abc"]);
}
