//! `serve`: a server from its first line to its last.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// The variable with the key that clients have to know.
const KEY: &str = "PARING_API_KEY";

fn paring(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paring"));
    command.args(words).env_remove(KEY).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server of the built-in model, its output, and its port.
fn server(key: Option<&str>) -> (Child, BufReader<ChildStdout>, u64) {
    let mut command = paring(&["serve", "demo", "--port", "0", "--json"]);
    let mut child = command.envs(key.map(|key| (KEY, key))).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["model"], "demo");
    assert_eq!(ready["address"], format!("127.0.0.1:{}", ready["port"]));
    (child, stdout, ready["port"].as_u64().unwrap())
}

fn ask(port: u64, header: &str) -> String {
    let body = json!({"prompt": "visae tesho", "max_tokens": 5, "model": "demo"}).to_string();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{head}\r\n{header}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_answers_and_ends_in_order() {
    let (mut child, mut stdout, port) = server(None);
    let answer = ask(port, "");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["model"], &body["usage"]["completion_tokens"]), (&json!("demo"), &json!(5)));
    let taken = paring(&["serve", "demo", "--port", &port.to_string()]).output().unwrap();
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&taken.stderr).contains("choose another port"), "{taken:?}");
    if cfg!(unix) {
        assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let (mut rest, mut told) = (String::new(), String::new());
        stdout.read_to_string(&mut rest).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert!(
            rest.is_empty() && told.contains(&format!("serving demo on http://127.0.0.1:{port}/v1")),
            "{rest}{told}"
        );
    } else {
        child.kill().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_ctrl_c_ends_says_so() {
    let (mut child, mut stdout, port) = server(None);
    assert!(ask(port, "").starts_with("HTTP/1.1 200"));
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "{\"error\":{\"message\":\"stopped\",\"code\":130}}\n");
}

#[test]
fn the_key_is_that_of_the_environment() {
    let (mut child, _stdout, port) = server(Some("a-key"));
    assert!(ask(port, "").starts_with("HTTP/1.1 401"));
    assert!(ask(port, "Authorization: Bearer a-key\r\n").starts_with("HTTP/1.1 200"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn servers_that_anybody_could_use_are_asked_for_twice() {
    let refused = |command: &mut Command, words: &str| {
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}");
    };
    refused(&mut paring(&["serve", "demo", "--port", "0", "--host", "0.0.0.0"]), "allow it with --allow-open");
    refused(paring(&["serve", "demo", "--port", "0"]).env(KEY, "two words"), "one word of ASCII");
    refused(paring(&["serve", "demo", "--port", "0"]).env(KEY, ""), "one word of ASCII");
    refused(&mut paring(&["serve", "demo", "--port", "70000"]), "70000");
}
