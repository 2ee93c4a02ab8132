//! The settings of the hub and its cache: the environment variables of the `huggingface_hub` library.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Longest token that is read from a file.
const LONGEST_TOKEN: u64 = 4096;

/// The patience with a hub. Tests, which cannot wait for minutes, have their own.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The time over which a transfer's rate is measured.
    pub stretch: Duration,
    /// The pause after the first failure; the following ones are twice as long each.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { stretch: Duration::from_secs(300), pause: Duration::from_millis(500) }
    }
}

/// The hub's address, the token and the folder of the cache.
#[derive(Clone)]
pub struct Settings {
    /// `http://` or `https://`, a host, and no slash at the end.
    pub endpoint: String,
    /// The folder of all repositories (`models--org--name` and the like).
    pub cache: PathBuf,
    /// Token of the account. It is sent to the endpoint alone, not to where that one redirects.
    pub token: Option<String>,
    /// Never to ask the network.
    pub offline: bool,
    #[doc(hidden)]
    pub timing: Timing,
}

impl Settings {
    /// From `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`. Errors when
    /// one of them makes no sense, or no home folder is known.
    pub fn from_env() -> Result<Settings> {
        Self::from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// As [`Settings::from_env`]; `variable` gives the values that are set and not empty.
    pub(super) fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Error::Misuse(format!("{name}: not UTF-8"))),
        };
        let path = |name: &str| variable(name).map(PathBuf::from);
        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| ENDPOINT.to_string());
        let endpoint = endpoint.trim_end_matches('/').to_string();
        let host = ["https://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
        if host.is_none_or(|host| host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control())) {
            let text = format!("HF_ENDPOINT: expected an address such as {ENDPOINT}, got {endpoint:?}");
            return Err(Error::Misuse(text));
        }
        let home = || -> Result<PathBuf> {
            let in_home = || path("HOME").or_else(|| path("USERPROFILE")).map(|home| home.join(".cache"));
            let cache = || path("XDG_CACHE_HOME").or_else(in_home).map(|cache| cache.join("huggingface"));
            let none =
                || Error::Misuse("no folder for the cache: neither HF_HOME nor HOME is set; set HF_HOME".to_string());
            path("HF_HOME").or_else(cache).ok_or_else(none)
        };
        let cache = match path("HF_HUB_CACHE") {
            Some(cache) => cache,
            None => home()?.join("hub"),
        };
        let (token, source) = match text("HF_TOKEN")? {
            Some(token) => (Some(token), "HF_TOKEN".to_string()),
            None => {
                let file = path("HF_TOKEN_PATH").or_else(|| Some(home().ok()?.join("token")));
                let token = file.as_deref().map(read_token).transpose()?.flatten();
                (token, file.map_or(String::new(), |file| file.display().to_string()))
            }
        };
        let token = token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty());
        // It becomes a line of a request.
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::Misuse(format!(
                "{source}: not a token, which has no blanks and only ASCII letters; set HF_TOKEN to a valid one"
            )));
        }
        let offline = match text("HF_HUB_OFFLINE")? {
            Some(value) => ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()),
            None => false,
        };
        Ok(Settings { endpoint, cache, token, offline, timing: Timing::default() })
    }
}

/// The content of a file that need not be there.
fn read_token(path: &Path) -> Result<Option<String>> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    let mut text = String::new();
    file.take(LONGEST_TOKEN).read_to_string(&mut text).map_err(io)?;
    Ok(Some(text))
}
