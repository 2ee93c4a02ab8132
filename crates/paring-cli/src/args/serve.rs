//! Options of `serve`.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use paring_serve::Limits;

use super::InMemoryArgs;
use super::generation::count;
use super::headings::{LIMITS, SERVER};

/// Bytes of a MiB.
const MIB: usize = 1 << 20;

#[derive(Args)]
pub struct ServeArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`; compressed or not
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Port to listen on; 0: any free one
    #[arg(long, short, default_value_t = 8080, value_name = "P", help_heading = SERVER)]
    pub port: u16,
    /// Address to listen on
    ///
    /// An address that other machines can reach needs a key in $PARING_API_KEY, or --allow-open.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), help_heading = SERVER)]
    pub host: IpAddr,
    /// Serve other machines without a key: anybody who reaches the server can use the model
    #[arg(long, help_heading = SERVER)]
    pub allow_open: bool,
    /// Name that clients call the model by [default: its name on the hub, or that of its folder]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = SERVER)]
    pub name: Option<String>,
    #[command(flatten)]
    pub limits: LimitsArgs,
    #[command(flatten)]
    pub memory: InMemoryArgs,
}

/// Bounds on what clients can take.
#[derive(Args)]
#[command(next_help_heading = LIMITS)]
pub struct LimitsArgs {
    /// Texts that are computed together
    #[arg(long, value_name = "N", default_value_t = Limits::default().sequences, value_parser = count(1))]
    pub max_batch: usize,
    /// Texts that wait for their turn; one more is answered with status 429
    #[arg(long, value_name = "N", default_value_t = Limits::default().queue, value_parser = count(0))]
    pub max_queue: usize,
    /// Most new tokens of an answer [default: as many as fit the context]
    #[arg(long, short = 'n', value_name = "N", value_parser = count(1))]
    pub max_new_tokens: Option<usize>,
    /// Tokens of all texts that are computed together, with those that they may still get; also the longest text
    #[arg(long, value_name = "N", default_value_t = Limits::default().cached_tokens, value_parser = count(2), hide_short_help = true)]
    pub max_cached_tokens: usize,
    /// Open connections; one more is answered with status 503
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = count(1), hide_short_help = true)]
    pub max_connections: usize,
    /// Largest body of a request, in MiB; a larger one is answered with status 413
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().body / MIB, value_parser = count(1), hide_short_help = true)]
    pub max_body: usize,
}

impl LimitsArgs {
    /// The bounds.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            body: self.max_body.saturating_mul(MIB),
            sequences: self.max_batch,
            queue: self.max_queue,
            new_tokens: self.max_new_tokens,
            cached_tokens: self.max_cached_tokens,
            ..Limits::default()
        }
    }
}
