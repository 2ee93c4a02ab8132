//! A hub on this machine: repositories at commits, large files elsewhere, and everything that can go wrong.
//!
//! It serves the paths that the program asks for, one request a connection, from two ports: the hub, and the store that
//! it redirects to for large files.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use paring_format::names::INDEX;
use paring_format::writer::write_file;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde_json::json;

use super::{Model, Ran, Sandbox, tokenizer};

/// Options of a command with a model, after its name.
pub const QUANTIZE: &str = "calib.safetensors --wbits 4 --groupsize 16 --quiet";

/// An address that refuses connections.
pub const NOBODY: &str = "http://127.0.0.1:9";

/// Variables that say where the hub is and how to get there.
pub const VARIABLES: [&str; 13] = [
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NO_PROXY",
];

/// A fault in the answer to a request.
#[derive(Clone)]
pub enum Fault {
    /// This status and these lines of header.
    Status(u16, &'static str),
    /// The connection is cut after so many bytes of the body.
    Break(usize),
    /// The whole file, whatever part of it was asked for.
    NoRanges,
    /// These lines of header instead of those that begin alike.
    Headers(&'static str),
    /// Another body.
    Body(String),
    /// The file with so many other bytes at its end.
    Altered(usize),
    /// The part from this byte on, in place of the one that is asked for.
    RangeFrom(usize),
    /// A hundred bytes a second.
    Slow,
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// Bytes of body that were sent.
    pub sent: usize,
}

#[derive(Default)]
struct Site {
    /// `models/org/name@revision` → its commit and files.
    repos: BTreeMap<String, (String, BTreeMap<String, Vec<u8>>)>,
    /// Part of a path, how often, and what goes wrong there.
    faults: Vec<(String, usize, Fault)>,
    log: Vec<Request>,
    store: u16,
}

/// A hub that stops when it is dropped.
pub struct Hub {
    site: Arc<Mutex<Site>>,
    ports: [u16; 2],
    threads: Vec<thread::JoinHandle<()>>,
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Hub {
    /// An empty hub.
    pub fn start() -> Hub {
        let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let site = Arc::new(Mutex::new(Site { store: ports[1], ..Site::default() }));
        let serve = |listener: TcpListener| {
            let site = site.clone();
            thread::spawn(move || {
                // A request for nothing ends it.
                while let Ok((stream, _)) = listener.accept() {
                    if !answer(&site, stream) {
                        break;
                    }
                }
            })
        };
        let threads = listeners.map(serve).into();
        Hub { site, ports, threads }
    }

    /// For `HF_ENDPOINT`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    fn site(&self) -> MutexGuard<'_, Site> {
        self.site.lock().unwrap()
    }

    /// Makes files the content of a repository at a branch or tag, and says the commit. `repo` is `models/org/name` or
    /// `datasets/org/name`.
    pub fn publish(&self, repo: &str, revision: &str, files: &[(String, Vec<u8>)]) -> String {
        let files: BTreeMap<String, Vec<u8>> = files.iter().cloned().collect();
        let commit = commit_of(&(repo, &files));
        let mut site = self.site();
        for name in [revision, &commit] {
            site.repos.insert(format!("{repo}@{name}"), (commit.clone(), files.clone()));
        }
        commit
    }

    /// The next `times` requests whose method and path hold `part`, such as `HEAD /org/name/resolve`, go wrong.
    pub fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.site().faults.push((part.to_string(), times, fault));
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.site().log)
    }

    /// Bytes of files that were sent from the store of large ones, of a log.
    pub fn from_store(log: &[Request]) -> usize {
        log.iter().filter(|request| request.path.starts_with("/store/")).map(|request| request.sent).sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for port in self.ports {
            drop(TcpStream::connect(("127.0.0.1", port)));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The name of a blob: the SHA-256 of a large file, the hash of a git blob of others.
pub fn etag(bytes: &[u8], large: bool) -> String {
    let digest = if large {
        ring::digest::digest(&SHA256, bytes)
    } else {
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob)
    };
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many hexadecimal digits as a commit has; the first ones tell contents apart.
fn commit_of(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}{:024}", hasher.finish(), 0)
}

/// An address without its percent signs.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        text.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        text += &part[2..];
    }
    text
}

/// True if the hub would keep it in the store.
fn is_large(path: &str) -> bool {
    [".safetensors", ".bin", ".parquet", ".gz"].iter().any(|end| path.ends_with(end))
}

/// Answers one request; `false` if there was none.
fn answer(site: &Mutex<Site>, mut stream: TcpStream) -> bool {
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)).unwrap();
    let lines = BufReader::new(&stream).take(1 << 16).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some((method, rest)) = lines.first().and_then(|line| line.split_once(' ')) else { return false };
    let header = |name: &str| {
        let value = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_string())
        };
        lines.iter().find_map(value)
    };
    let mut request = Request {
        method: method.to_string(),
        path: rest.split(' ').next().unwrap_or_default().to_string(),
        range: header("range"),
        authorization: header("authorization"),
        sent: 0,
    };
    let mut site = site.lock().unwrap();
    let fault = site.take_fault(&format!("{} {}", request.method, request.path));
    let from = request.range.as_deref().filter(|_| !matches!(fault, Some(Fault::NoRanges)));
    let mut from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')).map(String::from);
    if let Some(Fault::RangeFrom(other)) = fault {
        from = from.map(|_| other.to_string());
    }
    let slow = matches!(fault, Some(Fault::Slow));
    let mut answer = site.route(&request.path, from.as_deref());
    let mut end = usize::MAX;
    match fault {
        Some(Fault::Status(status, headers)) => {
            answer = Answer { status, headers: headers.lines().map(String::from).collect(), body: b"no".into() };
        }
        Some(Fault::Break(after)) => end = after,
        Some(Fault::Headers(headers)) => {
            for line in headers.lines() {
                let key = line.split_once(':').map_or(line, |(key, _)| key);
                answer.headers.retain(|other| !other.starts_with(key));
                answer.headers.push(line.to_string());
            }
        }
        Some(Fault::Body(body)) => answer.body = body.into_bytes(),
        Some(Fault::Altered(bytes)) => answer.body.iter_mut().rev().take(bytes).for_each(|byte| *byte ^= 0x55),
        Some(Fault::NoRanges | Fault::RangeFrom(_) | Fault::Slow) | None => {}
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    if !answer.headers.iter().any(|line| line.starts_with("Content-Length")) {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    answer.headers.iter().for_each(|line| head += &format!("{line}\r\n"));
    let body = if request.method == "HEAD" { &[][..] } else { &answer.body[..end.min(answer.body.len())] };
    request.sent = body.len();
    site.log.push(request);
    drop(site);
    // The client may have closed the connection.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    for bytes in body.chunks(if slow { 1 } else { body.len().max(1) }) {
        if slow {
            thread::sleep(Duration::from_millis(10));
        }
        if stream.write_all(bytes).is_err() {
            break;
        }
    }
    true
}

impl Site {
    fn take_fault(&mut self, line: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(part, times, _)| *times > 0 && line.contains(part.as_str()))?;
        self.faults[at].1 -= 1;
        Some(self.faults[at].2.clone())
    }

    fn route(&self, path: &str, from: Option<&str>) -> Answer {
        let path = decoded(path.split('?').next().unwrap_or_default());
        let missing =
            |name: &str| Answer { status: 404, headers: vec![format!("X-Error-Code: {name}")], body: Vec::new() };
        let known = |repo: &str| self.repos.keys().any(|key| key.rsplit_once('@').is_some_and(|(id, _)| id == repo));
        if let Some((repo, revision)) = path.strip_prefix("/api/").and_then(|rest| rest.split_once("/revision/")) {
            let Some((commit, files)) = self.repos.get(&format!("{repo}@{revision}")) else {
                return missing(if known(repo) { "RevisionNotFound" } else { "RepoNotFound" });
            };
            let list = files.iter().map(|(path, bytes)| json!({"rfilename": path, "size": bytes.len()}));
            let body = json!({"sha": commit, "siblings": list.collect::<Vec<_>>()}).to_string().into();
            return Answer { status: 200, headers: vec!["Content-Type: application/json".into()], body };
        }
        if let Some(wanted) = path.strip_prefix("/store/") {
            let mut files = self.repos.values().flat_map(|(_, files)| files.values());
            let Some(bytes) = files.find(|bytes| etag(bytes, true) == wanted) else { return missing("EntryNotFound") };
            return part(bytes, from, Vec::new());
        }
        let Some((repo, rest)) = path.split_once("/resolve/") else { return missing("RepoNotFound") };
        let repo = match repo.strip_prefix("/datasets/") {
            Some(id) => format!("datasets/{id}"),
            None => format!("models{repo}"),
        };
        // A revision may have slashes of its own.
        let of_repo =
            self.repos.iter().filter_map(|(key, value)| Some((key.strip_prefix(&format!("{repo}@"))?, value)));
        let found = of_repo.filter_map(|(revision, value)| {
            let file = rest.strip_prefix(revision)?.strip_prefix('/')?;
            Some((file, &value.0, value.1.get(file)?))
        });
        let Some((file, commit, bytes)) = found.max_by_key(|(file, _, _)| file.len()) else {
            return missing(if known(&repo) { "EntryNotFound" } else { "RepoNotFound" });
        };
        let large = is_large(file);
        let (tag, mut headers) = (etag(bytes, large), vec![format!("X-Repo-Commit: {commit}")]);
        if large {
            headers.push(format!("X-Linked-Etag: \"{tag}\""));
            headers.push(format!("X-Linked-Size: {}", bytes.len()));
            headers.push(format!("Location: http://127.0.0.1:{}/store/{tag}", self.store));
            return Answer { status: 302, headers, body: b"elsewhere".into() };
        }
        headers.push(format!("ETag: \"{tag}\""));
        part(bytes, from, headers)
    }
}

/// A file from a byte on.
fn part(bytes: &[u8], from: Option<&str>, mut headers: Vec<String>) -> Answer {
    let all = bytes.len();
    match from.map(|from| from.parse::<usize>().unwrap()) {
        None => Answer { status: 200, headers, body: bytes.to_vec() },
        Some(from) if from < all => {
            headers.push(format!("Content-Range: bytes {from}-{}/{all}", all - 1));
            Answer { status: 206, headers, body: bytes[from..].to_vec() }
        }
        Some(_) => Answer { status: 416, headers, body: Vec::new() },
    }
}

/// Names and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// A folder's files, to publish.
pub fn files(dir: &Path) -> Files {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(&path).unwrap())).collect()
}

/// The golden Llama in two shards.
pub fn sharded(sandbox: &Sandbox) -> Files {
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
pub fn both() -> (Sandbox, Hub, String) {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    tokenizer(&sandbox);
    let commit = hub.publish("models/org/tiny", "main", &files(&sandbox.path("model")));
    (sandbox, hub, commit)
}

/// Runs the binary, which finds the hub.
pub fn run(sandbox: &Sandbox, hub: &Hub, arguments: &str) -> Ran {
    sandbox.run_with(arguments, &[("HF_ENDPOINT", &hub.address())])
}

/// As [`run`], which must succeed.
pub fn ok(sandbox: &Sandbox, hub: &Hub, arguments: &str) -> Ran {
    let ran = run(sandbox, hub, arguments);
    assert_eq!(ran.code, Some(0), "paring {arguments}\n{}", ran.stderr);
    ran
}

/// Checks that a run fails with one line that holds these words.
pub fn refused(sandbox: &Sandbox, hub: &Hub, arguments: &str, words: &[&str]) {
    let arguments = format!("quantize {arguments} {QUANTIZE} --out out");
    let ran = run(sandbox, hub, &arguments);
    sandbox.refuses(&ran, 1, words).map_err(|text| format!("paring {arguments}\n{text}")).unwrap();
}
