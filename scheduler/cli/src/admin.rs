//! The admin API of one scheduler, as a command asks it.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};
use roost_proto::error::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long an answer may take. A lookup of a scheduler that starts waits for 2 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One scheduler's admin listener.
#[derive(Debug)]
pub(crate) struct Admin {
    http: Client,
    base: Url,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("--admin {url}: expected a URL like http://127.0.0.1:7401")]
    Url { url: Url },
    #[error("{url}: no scheduler answers")]
    Unreachable { url: Url, source: reqwest::Error },
    #[error("{url}: status {status} is no answer of an admin listener")]
    Stranger { url: Url, status: u16 },
    #[error("{}: {}", problem.code, problem.detail)]
    Refused { problem: Box<Problem> },
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Url { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Unreachable { .. } | Self::Stranger { .. } => 4,
        }
    }

    /// What is said of it, with its causes and with what finds it in the scheduler's log.
    pub(crate) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            told.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if let Self::Refused { problem } = self
            && let Some(id) = &problem.request_id
        {
            told.push_str(&format!(" (request {id})"));
        }
        told
    }
}

impl Admin {
    pub(crate) fn new(base: Url) -> Result<Self, Failure> {
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(Failure::Url { url: base });
        }
        let built = Client::builder().timeout(ANSWER_WITHIN).build();
        let http = built.map_err(|source| Failure::Unreachable { url: base.clone(), source })?;
        Ok(Self { http, base })
    }

    /// Posts `body` to `path`, with this query.
    pub(crate) async fn post<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: &B,
    ) -> Result<A, Failure> {
        self.post_within(ANSWER_WITHIN, path, query, body).await
    }

    /// The same, where an answer may take long.
    pub(crate) async fn post_within<B: Serialize, A: DeserializeOwned>(
        &self,
        within: Duration,
        path: &str,
        query: &[(&str, String)],
        body: &B,
    ) -> Result<A, Failure> {
        let mut url = self.base.join(path).map_err(|_| Failure::Url { url: self.base.clone() })?;
        url.query_pairs_mut().extend_pairs(query);
        self.send(self.http.post(url).json(body).timeout(within)).await
    }

    async fn send<A: DeserializeOwned>(&self, request: RequestBuilder) -> Result<A, Failure> {
        let unreachable =
            |error: reqwest::Error| Failure::Unreachable { url: self.base.clone(), source: error.without_url() };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            let stranger = |_| Failure::Stranger { url: self.base.clone(), status: status.as_u16() };
            return serde_json::from_slice(&body).map_err(stranger);
        }
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => Failure::Refused { problem: Box::new(problem) },
            Err(_) => Failure::Stranger { url: self.base.clone(), status: status.as_u16() },
        })
    }
}
