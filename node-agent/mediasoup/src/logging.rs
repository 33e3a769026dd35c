//! Where logs go: ours and the mediasoup crate's, all to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Logs what `filter` lets through. Panics of the mediasoup crate are logged like other errors.
pub(crate) fn init(filter: &str) -> Result<(), ParseError> {
    let parsed = EnvFilter::try_new(filter);
    let (filter, result) = match parsed {
        Ok(filter) => (filter, Ok(())),
        Err(error) => (EnvFilter::new("info"), Err(error)),
    };
    let most =
        filter.max_level_hint().and_then(|level| level.into_level()).map_or(log::LevelFilter::Info, level_filter);
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    if log::set_logger(&CRATE_LOG).is_ok() {
        log::set_max_level(most);
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("panic: {panic}")));
    result
}

/// Whether the worker's own warnings and debug messages are wanted: they come per packet, so only when asked for.
pub(crate) fn worker_level() -> mediasoup::worker::WorkerLogLevel {
    use mediasoup::worker::WorkerLogLevel;
    match log::max_level() {
        log::LevelFilter::Trace => WorkerLogLevel::Debug,
        log::LevelFilter::Debug => WorkerLogLevel::Warn,
        _ => WorkerLogLevel::Error,
    }
}

static CRATE_LOG: CrateLog = CrateLog;

/// Carries what the mediasoup crate says through `log` over to `tracing`.
struct CrateLog;

impl log::Log for CrateLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("mediasoup")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.args().to_string() {
            // A request that was refused: its answer says so, and whoever sends bad parameters must not fill the log.
            text if text.contains(" | throwing MediaSoup") => log::Level::Debug,
            _ => record.level(),
        };
        match level {
            log::Level::Error => tracing::error!(target: "mediasoup", "{}", record.args()),
            log::Level::Warn => tracing::warn!(target: "mediasoup", "{}", record.args()),
            log::Level::Info => tracing::info!(target: "mediasoup", "{}", record.args()),
            log::Level::Debug => tracing::debug!(target: "mediasoup", "{}", record.args()),
            log::Level::Trace => tracing::trace!(target: "mediasoup", "{}", record.args()),
        }
    }

    fn flush(&self) {}
}

fn level_filter(level: tracing::Level) -> log::LevelFilter {
    match level {
        tracing::Level::ERROR => log::LevelFilter::Error,
        tracing::Level::WARN => log::LevelFilter::Warn,
        tracing::Level::INFO => log::LevelFilter::Info,
        tracing::Level::DEBUG => log::LevelFilter::Debug,
        tracing::Level::TRACE => log::LevelFilter::Trace,
    }
}
