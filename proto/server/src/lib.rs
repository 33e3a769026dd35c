//! What all our processes do the same way at their doors: configuration, the client's address, keys and tickets,
//! errors, WebSocket closing, TLS, listeners, health, logs and metrics.

pub mod bearer;
pub mod client_address;
pub mod config;
pub mod guard;
pub mod health;
pub mod keys;
pub mod listen;
pub mod media;
pub mod metrics;
pub mod origin;
pub mod problem;
pub mod request_id;
pub mod secret;
pub mod signals;
pub mod socket;
pub mod stamp;
pub mod telemetry;
pub mod ticket;
pub mod tls;

pub use client_address::{ClientAddress, TrustedHeader};
pub use config::{ApiKey, ConfigError, Shared};
pub use health::Readiness;
pub use keys::ClusterKeys;
pub use media::MediaSettings;
pub use metrics::Metrics;
pub use origin::AllowedOrigins;
pub use problem::{ApiError, JsonBody};
pub use stamp::Stamp;
pub use telemetry::LogFormat;
pub use ticket::Ticket;
