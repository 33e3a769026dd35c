//! Two schedulers that keep the shared state in their own memory, by mistake behind one address.

use std::time::Duration;

use roost_proto::lookup::Outcome;
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::wait;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::standup_with_anna;
use crate::run;

const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_second_embedded_scheduler_is_refused_by_the_agents_as_long_as_the_first_lives() {
    run(async {
        let mut cluster = Cluster::start(Plan { nodes: Vec::new(), ..Plan::small() }).await?;
        let address = Address::leading_to(&cluster.schedulers[0].cluster).await?;
        let uplink = Some(format!("http://{}", address.own));
        let node = NodePlan { uplink, ..NodePlan::new("fra-1", "eu/central") };
        let node = cluster.start_node(&node).await?;
        cluster.nodes.push(node);
        cluster.settled().await?;
        cluster.watched().await?;
        let (before, mut anna) = standup_with_anna(&cluster).await?;

        let second = cluster.start_scheduler(1, None).await?;
        address.lead_to(&second.cluster);
        wait::until("the agent says what is wrong", WITHIN, || async {
            cluster.nodes[0].process.log_tail().contains("is a second scheduler").then_some(())
        })
        .await?;
        let nodes = cluster.admin(&second, "/v1/nodes").await?;
        assert_eq!(nodes["items"].as_array().map(Vec::len), Some(0), "{nodes}");

        address.lead_to(&cluster.schedulers[0].cluster);
        let again = wait::until("the room is found again", WITHIN, || async {
            let found = cluster.lookup_from("eu/central", "standup").await.ok()?;
            (found.outcome == Outcome::Existing).then_some(found)
        })
        .await?;
        assert_eq!(again.node, before.node);
        assert!(again.epoch >= before.epoch, "epochs only grow");

        // The first is gone: the second may have the nodes.
        cluster.schedulers[0].process.kill().await?;
        address.lead_to(&second.cluster);
        cluster.schedulers[0] = second;
        cluster.settled().await?;
        let taken = cluster.lookup_from("eu/central", "standup").await?;
        assert_eq!((taken.outcome, &taken.node), (Outcome::Existing, &before.node));
        anna.ask("changeDisplayName", serde_json::json!({"displayName": "Anne"})).await?;
        cluster.stop().await
    });
}

/// An address on loopback that leads to one server or another.
struct Address {
    own: String,
    leads_to: watch::Sender<String>,
    accepting: JoinHandle<()>,
}

impl Address {
    async fn leading_to(server: &str) -> Result<Self, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.to_string();
        let (leads_to, mut led) = watch::channel(server.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = led.borrow_and_update().clone();
                let mut led = led.clone();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = led.changed() => {}
                    }
                });
            }
        });
        Ok(Self { own, leads_to, accepting })
    }

    /// Cuts what there is; the next connection goes there.
    fn lead_to(&self, server: &str) {
        self.leads_to.send_replace(server.to_owned());
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
