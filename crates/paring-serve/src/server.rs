//! Connections, and their end.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::limits::Limits;
use crate::metrics::{Connected, Metrics};
use crate::model::Model;
use crate::scheduler::Scheduler;
use crate::state::{self, State};
use crate::timed::Timed;
use crate::words::Words;
use crate::{Error, Result, routes};

/// Threads for connections. They wait, while the model computes on others.
const THREADS: usize = 2;
/// Threads for work on texts, which is done for one client at a time.
const TEXT_THREADS: usize = 4;
/// Connections beyond the limit that are answered so at a time; more have to wait.
const REFUSED: usize = 64;
/// Bytes of the head of a request.
const HEAD: usize = 64 << 10;
/// Time until a system that has no socket is asked again.
const NO_SOCKET: Duration = Duration::from_millis(50);

/// The address of a server, and those who may use it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The address; with port 0 a free one.
    pub address: SocketAddr,
    /// The key that clients have to know.
    pub key: Option<String>,
    /// True to be reached from other machines also without a key.
    pub open: bool,
}

/// A server with an address. Its clients wait until it runs.
pub struct Server {
    listener: TcpListener,
    key: Option<String>,
    limits: Limits,
    stop: watch::Sender<bool>,
}

/// Stops a server.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Has the server take no more connections, and end when what it has begun is answered.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Access {
    /// Checks that strangers cannot use the server, unless it is open to them.
    ///
    /// # Errors
    /// [`Error::Open`] where they can.
    pub fn check(&self) -> Result<()> {
        let is_safe = self.address.ip().is_loopback() || self.key.is_some() || self.open;
        if is_safe { Ok(()) } else { Err(Error::Open { address: self.address }) }
    }
}

impl Server {
    /// Takes an address.
    ///
    /// # Errors
    /// When it cannot be had, and when others could use the server who should not ([`Access::check`]).
    pub fn bind(access: Access, limits: Limits) -> Result<Self> {
        access.check()?;
        let failed = |source| Error::Bind { address: access.address, source };
        let listener = TcpListener::bind(access.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, key: access.key, limits, stop: watch::Sender::new(false) })
    }

    /// The address, with the port that it got.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(Error::Start)
    }

    /// A way to stop it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves a model until it is stopped. `ready` is called when clients are answered.
    ///
    /// # Errors
    /// When it cannot start, and when the thread that computes ends early.
    pub fn run(self, model: Model, ready: impl FnOnce()) -> Result<()> {
        self.run_counted(model, Arc::default(), ready)
    }

    /// The same, with counts that others see too.
    pub(crate) fn run_counted(self, model: Model, metrics: Arc<Metrics>, ready: impl FnOnce()) -> Result<()> {
        let (scheduler, thread) = Scheduler::start(&model, self.limits, metrics.clone()).map_err(Error::Start)?;
        let state = State {
            context: model.context(),
            vocab: model.engine.vocab(),
            created: state::now(),
            name: model.name,
            eos: model.eos,
            key: self.key,
            limits: self.limits,
            words: Words::new(model.prompts),
            scheduler,
            metrics,
            stopping: self.stop.subscribe(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(TEXT_THREADS)
            .thread_name("paring-http")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(Error::Start)?;
            ready();
            serve(listener, Arc::new(state)).await
        });
        // Drops the last handles of the thread, which ends then.
        drop(runtime);
        thread.join().map_err(|_| Error::Computing)?;
        served
    }
}

/// Accepts connections until the server stops, and waits for those that are open.
async fn serve(listener: tokio::net::TcpListener, state: Arc<State>) -> Result<()> {
    let (router, full) = (routes::router(&state), routes::full(&state));
    let places = Arc::new(Semaphore::new(state.limits.connections.max(1)));
    let refused = Arc::new(Semaphore::new(REFUSED));
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let mut stopping = state.stopping.clone();
    let computing = state.scheduler.ended();
    let mut computing = pin!(computing);
    let ended = loop {
        let next = next(&listener, &places, &refused);
        let (stream, place, is_refused) = tokio::select! {
            biased;
            // The sender lives in a stopper or in the server.
            _ = stopping.wait_for(|stops| *stops) => break Ok(()),
            () = &mut computing => break Err(Error::Computing),
            next = next => next,
        };
        let router = if is_refused { full.clone() } else { router.clone() };
        let (state, open) = (state.clone(), open.clone());
        tokio::spawn(async move {
            let _kept = (open, place, Connected::new(&state.metrics));
            connection(stream, router, &state).await;
        });
    };
    drop((listener, open));
    // Nothing is sent: the end comes with the last connection.
    while all_closed.recv().await.is_some() {}
    ended
}

/// The next connection with its place, and true if it is one too many.
async fn next(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
    refused: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>, bool) {
    // Where there is not even a place to be refused, the system lets clients wait.
    let refusal = refused.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                return match places.clone().try_acquire_owned() {
                    Ok(place) => (stream, Some(place), false),
                    Err(_) => (stream, refusal, true),
                };
            }
            // Such as a client that is gone already, or no more files.
            Err(_) => tokio::time::sleep(NO_SOCKET).await,
        }
    }
}

/// Answers the requests of a connection, until one side ends it.
async fn connection(stream: TcpStream, router: Router, state: &State) {
    // Pieces of a text are short, and go at once; a system that does not know how sends them later.
    let _ = stream.set_nodelay(true);
    let mut stopping = state.stopping.clone();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(state.limits.head_time).max_buf_size(HEAD);
    let io = TokioIo::new(Timed::new(stream, state.limits.take_time));
    let mut connection = pin!(http.serve_connection(io, TowerToHyperService::new(router)));
    tokio::select! {
        biased;
        // What clients do wrong is no error of the server.
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stops| *stops) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
