//! A server of a model.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use paring::{Error, Result};
use paring_serve::{Access, Model, Server};
use serde_json::json;

use super::open;
use crate::args::{ServeArgs, Shared};
use crate::progress::Log;
use crate::show::{Answer, Failure, out, terminal};
use crate::stderr;

/// The variable with the key that clients have to know.
const KEY: &str = "PARING_API_KEY";

pub fn serve(args: &ServeArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let access = Access { address: SocketAddr::new(args.host, args.port), key: key()?, open: args.allow_open };
    let has_key = access.key.is_some();
    // Before the model is read, which takes a while.
    let server = Server::bind(access, args.limits.limits()).map_err(refused)?;
    let address = server.address().map_err(refused)?;
    let opened = open(&args.model, &args.memory, (shared, log))?;
    let generator = &opened.generator;
    let prompts = Arc::clone(&generator.tokenizer);
    // Files that are wrong are found now, not by a client.
    prompts.tokens("a").map_err(Error::from)?;
    let model = Model {
        name: args.name.clone().unwrap_or_else(|| name(&args.model)),
        engine: generator.engine.clone(),
        answers: prompts.another(),
        prompts,
        eos: generator.choices.eos_token_id.clone().unwrap_or_default(),
    };
    let stopper = server.stopper();
    opened.interrupt.serve(move || stopper.stop());
    let (name, is_loud, is_json) = (model.name.clone(), opened.is_loud, shared.json);
    let adapter = opened.adapter.clone();
    let ready = move || {
        if is_loud {
            let who = if has_key { format!(", for clients with the key in ${KEY}") } else { String::new() };
            stderr::line(format!("serving {name} on http://{address}/v1{who}"));
        }
        if is_json {
            // One that nobody reads is no reason to end.
            let mut value = json!({"address": address.to_string(), "port": address.port(), "model": name});
            if let Some(adapter) = adapter {
                value["adapter"] = json!(adapter);
            }
            let _ = out(&format!("{}\n", terminal::json(&value.to_string())));
        }
    };
    server.run(model, ready).map_err(refused)?;
    match opened.interrupt.code() {
        Some(code) => Err(Failure::new("stopped", code)),
        None => Ok(Answer::default()),
    }
}

/// The key of the environment, if there is one.
fn key() -> Result<Option<String>> {
    let Some(key) = std::env::var_os(KEY) else { return Ok(None) };
    let key = key.into_string().ok().filter(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()));
    let bad = || Error::Misuse(format!("${KEY} has to be one word of ASCII; set another key, or unset it"));
    key.map(Some).ok_or_else(bad)
}

/// An error of the server, with the options that are a way out.
fn refused(error: paring_serve::Error) -> Error {
    match error {
        paring_serve::Error::Open { .. } => {
            Error::Misuse(format!("{error}; set one in ${KEY}, or allow it with --allow-open"))
        }
        error => Error::Plan(error.to_string()),
    }
}

/// The name of a model for clients.
fn name(model: &str) -> String {
    let path = Path::new(model);
    if !path.exists() {
        return model.split('@').next().unwrap_or(model).to_string();
    }
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    path.canonicalize().ok().as_deref().and_then(named).unwrap_or_else(|| model.to_string())
}
