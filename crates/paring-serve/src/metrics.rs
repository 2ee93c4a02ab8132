//! Counts for Prometheus, in its text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use paring_generate::Timing;

/// The counts of a server.
#[derive(Default)]
pub struct Metrics {
    /// Answers by path and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// Texts at work or waiting.
    places: AtomicUsize,
    /// Those of them that wait.
    pub waiting: AtomicUsize,
    /// Those at work.
    pub running: AtomicUsize,
    /// Bytes of keys and values.
    pub cache_bytes: AtomicUsize,
    /// New tokens.
    pub new_tokens: AtomicU64,
    /// Tokens of prompts that were not computed, since a text before them began alike.
    pub reused_tokens: AtomicU64,
    /// Texts whose clients went away.
    pub cancelled: AtomicU64,
    done: Mutex<Done>,
}

/// The tokens and times of texts that are finished.
#[derive(Default)]
struct Done {
    texts: u64,
    all: Timing,
    last: Timing,
}

/// A text that counts as one until it is dropped.
pub struct Place(Arc<Metrics>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Relaxed);
    }
}

/// A connection that counts as open until it is dropped.
pub struct Connected(Arc<Metrics>);

impl Connected {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Relaxed);
        Self(metrics.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    /// Places for so many texts; `None` if there are not so many among `most`.
    pub fn places(self: &Arc<Self>, count: usize, most: usize) -> Option<Vec<Place>> {
        let fits = |taken: usize| taken.checked_add(count).filter(|&all| all <= most);
        self.places.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some((0..count).map(|_| Place(self.clone())).collect())
    }

    /// Texts at work or waiting.
    pub fn taken(&self) -> usize {
        self.places.load(Relaxed)
    }

    /// Counts an answer.
    pub fn answered(&self, route: &'static str, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((route, status)).or_default() += 1;
    }

    /// Counts a finished text.
    pub fn finished(&self, timing: &Timing) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.texts += 1;
        done.all.add(timing);
        done.last = *timing;
    }

    /// All of them.
    pub fn text(&self) -> String {
        let mut page = Page::default();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        page.head("paring_requests_total", "counter", "Answers by path and HTTP status.");
        for ((route, status), count) in requests {
            page.line(&format!("paring_requests_total{{route=\"{route}\",status=\"{status}\"}}"), count as f64);
        }
        let load = |count: &AtomicUsize| count.load(Relaxed) as f64;
        page.one("paring_connections", "gauge", "Open connections.", load(&self.connections));
        page.one("paring_queue_length", "gauge", "Texts that wait for their turn.", load(&self.waiting));
        page.one("paring_running_sequences", "gauge", "Texts that are computed.", load(&self.running));
        page.one("paring_cache_bytes", "gauge", "Bytes of cached keys and values.", load(&self.cache_bytes));
        let (new, cancelled) = (self.new_tokens.load(Relaxed) as f64, self.cancelled.load(Relaxed) as f64);
        page.one("paring_generated_tokens_total", "counter", "New tokens.", new);
        page.one("paring_cancelled_total", "counter", "Texts whose clients went away.", cancelled);
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        page.one("paring_finished_total", "counter", "Texts that came to their end.", done.texts as f64);
        let (all, last) = (&done.all, &done.last);
        let help = "Prompt tokens of finished texts that were computed.";
        page.one("paring_prompt_tokens_total", "counter", help, all.prompt_tokens as f64);
        let help = "Prompt tokens that were not computed, since an earlier text began alike.";
        page.one("paring_reused_tokens_total", "counter", help, self.reused_tokens.load(Relaxed) as f64);
        let help = "Time of the prompts of finished texts; texts in a batch share theirs.";
        page.one("paring_prefill_seconds_total", "counter", help, all.prefill.as_secs_f64());
        let help = "Time of the new tokens of finished texts; texts in a batch share theirs.";
        page.one("paring_decode_seconds_total", "counter", help, all.decode.as_secs_f64());
        let help = "Prompt tokens per second of the last finished text.";
        page.one("paring_prefill_tokens_per_second", "gauge", help, last.prefill_rate().unwrap_or(0.0));
        let help = "New tokens per second of the last finished text.";
        page.one("paring_decode_tokens_per_second", "gauge", help, last.decode_rate().unwrap_or(0.0));
        page.0
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes all that is written to it.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, value: f64) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        self.line(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let metrics = Arc::new(Metrics::default());
        let two = metrics.places(2, 3).unwrap();
        assert!(metrics.places(2, 3).is_none() && metrics.taken() == 2);
        drop(two);
        assert!(metrics.places(3, 3).is_some_and(|places| places.len() == 3));
        assert_eq!(metrics.taken(), 0);
        let _one = metrics.places(1, 3).unwrap();
        assert!(metrics.places(usize::MAX, usize::MAX).is_none());
    }

    #[test]
    fn pages_have_a_type_and_a_help_for_each_name() {
        let metrics = Metrics::default();
        metrics.answered("/health", 200);
        metrics.answered("/health", 200);
        let page = metrics.text();
        assert!(page.contains("paring_requests_total{route=\"/health\",status=\"200\"} 2\n"), "{page}");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(page.contains(&format!("# TYPE {name} ")) && page.contains(&format!("# HELP {name} ")), "{line}");
        }
    }
}
