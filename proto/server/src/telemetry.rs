//! Logs: to standard error, as text or JSON, each line with the id of the request that it belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::request_id;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log_level {level:?}: expected error, warn, info, debug, trace or off, or target=level, joined by commas")]
    Level { level: String, source: Option<tracing_subscriber::filter::ParseError> },
    #[error("logs were set up already")]
    Twice { source: tracing_subscriber::util::TryInitError },
}

/// Starts logging, once in a process. `level` is a level, or `target=level` pairs, joined by commas.
pub fn init(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    subscriber(format, filter(level)?, std::io::stderr).try_init().map_err(|source| TelemetryError::Twice { source })
}

/// An error with all its causes on one line, for logs and for what a process says before it ends.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Many errors say their cause themselves.
        if !line.contains(more.trim_end()) {
            line.push_str(": ");
            line.push_str(more.trim_end());
        }
        cause = error.source();
    }
    line
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?}: expected text or json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A word that is no level would be taken for a target by the library, and log nothing else.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = |source| TelemetryError::Level { level: level.to_owned(), source };
    let known = |part: &str| part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok());
    if !level.split(',').map(str::trim).all(known) {
        return Err(wrong(None));
    }
    // The HTTP server has a line for each of its threads; they say nothing that our own lines don't.
    EnvFilter::try_new(format!("actix_server=warn,{level}")).map_err(|source| wrong(Some(source)))
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => Box::new(builder.event_format(TextLine(Format::default())).finish()),
        LogFormat::Json => {
            let line = JsonLine(Format::default().json().flatten_event(true).with_current_span(false));
            Box::new(builder.fmt_fields(JsonFields::new()).event_format(line).finish())
        }
    }
}

/// The library's text line, with the request's id at its end.
struct TextLine(Format);

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(id) = request_id::current() else { return self.0.format_event(context, out, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(out, "{} request_id={id}", line.trim_end())
    }
}

/// The library's JSON line, with the request's id as its last member.
struct JsonLine(Format<tracing_subscriber::fmt::format::Json>);

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        // Quotes inside of a JSON text are escaped, so this finds a member of that name only.
        match (request_id::current(), line.strip_suffix('}')) {
            (Some(id), Some(open)) if !line.contains(r#""request_id":"#) => {
                let id = serde_json::to_string(&id).map_err(|_| fmt::Error)?;
                writeln!(out, r#"{open},"request_id":{id}}}"#)
            }
            _ => writeln!(out, "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use roost_proto::id::RequestId;

    use super::*;

    #[test]
    fn a_level_is_a_level_or_names_a_target() {
        for good in ["info", "WARN", "off", "info,actix_web=debug", "roost_server::tls=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,loud", "roost=loud", "3.5"] {
            let error = filter(bad).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("log_level {bad:?}: expected ")), "{error}");
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let source = io::Error::other("the disk is full");
        let error = crate::keys::KeyError::Read { path: "k".into(), source };
        assert_eq!(causes(&error), "cluster_key_file k: expected a readable file: the disk is full");
    }

    #[tokio::test]
    async fn every_line_of_a_request_has_its_id() {
        let line = logged(LogFormat::Text).await;
        assert!(line.contains("INFO roost_server::telemetry::tests: hello room=7 request_id=a \"b\"\n"), "{line}");
    }

    #[tokio::test]
    async fn every_json_line_of_a_request_has_its_id() {
        let line = logged(LogFormat::Json).await;
        let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(line["request_id"], "a \"b\"");
        assert_eq!(line["message"], "hello");
        assert_eq!(line["room"], 7);
        assert_eq!(line["level"], "INFO");
    }

    async fn logged(format: LogFormat) -> String {
        let written = Written::default();
        let sink = written.clone();
        let subscriber = subscriber(format, filter("info").expect("a level"), move || sink.clone());
        let id = RequestId::new("a \"b\"").expect("valid");
        let guard = tracing::subscriber::set_default(subscriber);
        request_id::within(id, async { tracing::info!(room = 7, "hello") }).await;
        drop(guard);
        let bytes = written.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
