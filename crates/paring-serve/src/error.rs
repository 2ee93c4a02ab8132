//! The errors of this crate: one line each.

use std::net::SocketAddr;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A server that cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port or address")]
    #[allow(missing_docs)]
    Bind { address: SocketAddr, source: std::io::Error },
    /// An address that others reach, without a key.
    #[error("{address} can be reached from other machines, and there is no key that clients have to know")]
    #[allow(missing_docs)]
    Open { address: SocketAddr },
    /// A system that gives no threads, or no sockets.
    #[error("the server cannot start: {0}")]
    Start(std::io::Error),
    /// The end of the thread that owns the model, other than by a stop.
    #[error("the thread that computes has ended; this is a bug")]
    Computing,
}
