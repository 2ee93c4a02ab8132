//! Requests: redirects followed, the token kept at home, failures sorted into those that pass and those that stay.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, Request, Response, StatusCode};
use ureq::{Agent, Body};

use super::settings::Timing;
use super::{DownloadObserver, Settings};

/// Redirects that are followed before it is taken for a circle.
const REDIRECTS: usize = 10;

/// Requests in a row that may fail, …
pub(super) const TRIES: u32 = 5;
/// … and those where the cache has what is asked for.
pub(super) const FEW_TRIES: u32 = 2;

/// The longest pause that a server may ask for; one that wants more is not worth waiting for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The beginning of the standard library's errors about names that have no address; they have no kind of their own.
const NO_ADDRESS: &str = "failed to lookup address";

/// The headers by which the hub describes a file that lies elsewhere.
const DESCRIPTION: [&str; 3] = ["x-repo-commit", "x-linked-etag", "x-linked-size"];

/// A request for a file, or for its metadata only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

/// Why a request failed.
pub(super) enum Failure {
    /// It will fail again.
    Final(Trouble),
    /// It may not: the connection broke, or the server is busy.
    Passing(Passing),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure::Final(Trouble { reason, unreachable: false })
    }
}

/// A failure that will not pass.
pub(super) struct Trouble {
    /// The failure.
    pub reason: String,
    /// True where no answer came, or that of a hub that is down: nothing is known of what was asked for.
    pub unreachable: bool,
}

/// A failure that may pass.
pub(super) struct Passing {
    /// The failure.
    pub reason: String,
    /// The server's Retry-After, if it is in seconds; the other form, a date, is not read.
    pub pause: Option<Duration>,
}

impl From<String> for Passing {
    fn from(reason: String) -> Self {
        Passing { reason, pause: None }
    }
}

/// A count of consecutive failures.
pub(super) struct Patience {
    failures: u32,
    tries: u32,
    pause: Duration,
}

impl Patience {
    /// Ends with the failure of this number.
    pub fn new(tries: u32, timing: Timing) -> Self {
        Self { failures: 0, tries, pause: timing.pause }
    }

    /// Something worked: failures count from none again.
    pub fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try, or says why there will be none.
    pub fn wait(&mut self, failure: Passing, watch: &mut dyn DownloadObserver) -> Result<(), Trouble> {
        self.failures += 1;
        let Passing { reason, pause } = failure;
        let enough = |reason| Err(Trouble { reason, unreachable: true });
        if self.failures >= self.tries {
            return enough(format!("{reason}; gave up after {} tries", self.tries));
        }
        // At most 2^3 with the number of tries above.
        let pause = pause.unwrap_or(self.pause * (1 << (self.failures - 1)));
        if pause > LONGEST_PAUSE {
            return enough(format!("{reason}; the server asks to wait for {} s; try again then", pause.as_secs()));
        }
        watch.note(&format!("{reason}; trying again in {:.1} s", pause.as_secs_f64()));
        std::thread::sleep(pause);
        Ok(())
    }
}

/// The connection to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    timing: Timing,
    /// True after the first answer: until then, an address that refuses connections is not tried again.
    reached: AtomicBool,
}

impl Client {
    pub fn new(settings: &Settings) -> Self {
        // No limit on the whole of a body: weights are large. Each read has one, and the rate of all of them
        // (`Paced`), so that nothing hangs.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            // Sizes are those of the files, not of what a server would make of them.
            .accept_encoding("identity")
            .user_agent(concat!("paring/", env!("CARGO_PKG_VERSION")))
            .build();
        let Settings { endpoint, token, timing, .. } = settings.clone();
        Self { agent: Agent::new_with_config(config), endpoint, token, timing, reached: AtomicBool::new(false) }
    }

    /// The hub's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The patience with it.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// True where a token is sent along.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// As [`Client::once`], with what `read` makes of the answer's body if it is a good one, tried again while failures
    /// may pass, `tries` times in all.
    pub fn ask<T: Default>(
        &self,
        method: Method,
        path: &str,
        tries: u32,
        watch: &mut dyn DownloadObserver,
        read: impl Fn(&mut Body) -> io::Result<T>,
    ) -> Result<(Response<Body>, T), Trouble> {
        let mut patience = Patience::new(tries, self.timing);
        loop {
            let failure = match self.once(method, path, 0) {
                Ok(response) if !response.status().is_success() => return Ok((response, T::default())),
                Ok(mut response) => match read(response.body_mut()) {
                    Ok(content) => return Ok((response, content)),
                    Err(error) => Passing::from(format!("{}: {error}", host(&self.endpoint))),
                },
                Err(Failure::Final(trouble)) => return Err(trouble),
                Err(Failure::Passing(failure)) => failure,
            };
            patience.wait(failure, watch)?;
        }
    }

    /// One request for `path`, which starts with a slash, from byte `from` on; redirects are followed. What comes back
    /// is no redirect and none of the answers of a busy server, but it may be another error. A question for what a
    /// file is like ends at the hub's own answer, even if the file lies elsewhere.
    pub fn once(&self, method: Method, path: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = format!("{}{path}", self.endpoint);
        for _ in 0..=REDIRECTS {
            let response = self.send(method, &url, from)?;
            let status = response.status();
            if status.is_redirection() {
                let described = DESCRIPTION.iter().all(|name| response.headers().contains_key(*name));
                if method == Method::Head && described {
                    return Ok(response);
                }
                url = redirected(&url, response.headers())?;
                continue;
            }
            let busy = status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
            if busy {
                let pause = text(response.headers(), RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
                let reason = format!("{} answers {status}", host(&url));
                return Err(Failure::Passing(Passing { reason, pause: pause.map(Duration::from_secs) }));
            }
            return Ok(response);
        }
        Err(format!("{} redirects more than {REDIRECTS} times; check HF_ENDPOINT", self.endpoint).into())
    }

    fn send(&self, method: Method, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Get => Request::get(url),
            Method::Head => Request::head(url),
        };
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        // Where files lie is none of the token's business: the addresses there are signed.
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|e| format!("{url}: {e}"))?;
        let response = self.agent.run(request).map_err(|error| self.failure(url, error))?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Sorts the failures of a connection.
    fn failure(&self, url: &str, error: ureq::Error) -> Failure {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied};
        use ureq::Timeout::{Connect, Resolve};
        let host = host(url);
        // A name without an address mostly means that there is no network; else the cause tells more.
        let mut cause = match &error {
            ureq::Error::Io(e) => e.to_string(),
            other => other.to_string(),
        };
        let nobody = match &error {
            ureq::Error::Io(_) if cause.starts_with(NO_ADDRESS) => {
                cause = "no network?".into();
                true
            }
            ureq::Error::Io(e) => {
                matches!(e.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | PermissionDenied)
            }
            ureq::Error::Timeout(timeout) => matches!(timeout, Connect | Resolve),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => true,
            ureq::Error::Protocol(_) => false,
            // Certificates and addresses that are wrong.
            _ => {
                return format!("cannot reach {host} ({cause}); check HF_ENDPOINT, certificates and proxies").into();
            }
        };
        if nobody && !self.reached.load(Ordering::Relaxed) {
            Failure::Final(Trouble { reason: format!("cannot reach {host} ({cause})"), unreachable: true })
        } else {
            Failure::Passing(format!("{host}: {cause}").into())
        }
    }
}

/// A header's text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `scheme://host:port`.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

fn host(url: &str) -> &str {
    let origin = origin(url);
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

/// The target of a redirect of `url`. Errors when that is no address, or one that others on the way can read while this
/// one is not.
pub(super) fn redirected(url: &str, headers: &HeaderMap) -> Result<String, String> {
    let location = text(headers, LOCATION.as_str()).unwrap_or_default();
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let to = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{}{location}", origin(url))
    } else {
        location.to_string()
    };
    let safe = to.starts_with("https://") || (scheme == "http" && to.starts_with("http://"));
    if safe {
        Ok(to)
    } else {
        Err(format!("{} redirects to {location:?}, which is not followed; check HF_ENDPOINT", host(url)))
    }
}

#[cfg(test)]
mod tests;
