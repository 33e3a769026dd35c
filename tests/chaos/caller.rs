//! A client as it should be: it keeps a connection to each scheduler, and asks another one, once, when the first fails.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use roost_tests::Trouble;
use roost_tests::cluster::Cluster;
use roost_tests::connection::{Connection, post};

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What a lookup was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) node: String,
    pub(crate) epoch: u64,
    pub(crate) ticket: String,
    /// Why the first scheduler's answer did not do.
    pub(crate) retried: Option<String>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Caller {
    addresses: Arc<[String]>,
    connections: Vec<Option<Connection>>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    node: Node<'a>,
    epoch: u64,
    ticket: &'a str,
}

#[derive(Deserialize)]
struct Node<'a> {
    id: &'a str,
}

/// The addresses of the schedulers' public listeners.
pub(crate) fn addresses(cluster: &Cluster) -> Arc<[String]> {
    cluster.schedulers.iter().map(|scheduler| scheduler.public.clone()).collect()
}

impl Caller {
    pub(crate) fn new(addresses: &Arc<[String]>) -> Self {
        Self { addresses: addresses.clone(), connections: addresses.iter().map(|_| None).collect() }
    }

    /// Looks a room up at scheduler `first`, and if that fails at the next one.
    pub(crate) async fn look_up(&mut self, first: usize, room: &str, body: &str) -> Result<Told, Trouble> {
        let request = post(&format!("/v1/namespaces/default/rooms/{room}/lookup"), body);
        let count = self.addresses.len();
        match self.ask(first % count, &request).await {
            Ok(told) => Ok(told),
            Err(trouble) => match self.ask((first + 1) % count, &request).await {
                Ok(told) => Ok(Told { retried: Some(trouble.to_string()), ..told }),
                Err(again) => Err(format!("{room}: {trouble}, then: {again}").into()),
            },
        }
    }

    /// Looks a room up at scheduler `at`, and nowhere else.
    pub(crate) async fn look_up_once(&mut self, at: usize, room: &str, body: &str) -> Result<Told, Trouble> {
        let request = post(&format!("/v1/namespaces/default/rooms/{room}/lookup"), body);
        self.ask(at % self.addresses.len(), &request).await
    }

    async fn ask(&mut self, at: usize, request: &[u8]) -> Result<Told, Trouble> {
        let kept = self.connections[at].take().filter(Connection::is_open);
        let address = &self.addresses[at];
        let asked = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            let answer = connection.ask(request).await?;
            if answer.status != 200 {
                let problem: serde_json::Value = serde_json::from_str(answer.body)?;
                return Err(format!("{} {}", answer.status, problem["code"]).into());
            }
            let Reply { node, epoch, ticket } = serde_json::from_str(answer.body)?;
            let told = Told { node: node.id.to_owned(), epoch, ticket: ticket.to_owned(), retried: None };
            Ok::<_, Trouble>((told, connection))
        };
        let (told, connection) = timeout(ANSWERS_WITHIN, asked).await.map_err(|_| "no answer")??;
        self.connections[at] = Some(connection);
        Ok(told)
    }
}
