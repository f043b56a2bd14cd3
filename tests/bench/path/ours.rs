//! Management, proxy and agent, set up as a user would, with the origin published to everybody.

use anyhow::{Context as _, anyhow};
use meshgate_tests::deployment::{Access, Deployment, Part};
use meshgate_tests::{HttpVersion, Process, eventually};

use super::load::HOST;
use super::origin::Origin;
use crate::usage::Usage;

/// The first label of [`HOST`].
const SERVICE: &str = "bench";

/// Our three programs.
#[derive(Debug)]
pub(super) struct Ours {
    deployment: Deployment,
    agent: Process,
}

impl Ours {
    /// Starts them and waits until the origin answers through the tunnel.
    pub(super) async fn start(origin: &Origin) -> anyhow::Result<Self> {
        let mut deployment = Deployment::set_up().await;
        for part in [Part::Management, Part::Proxy] {
            deployment.launch(part);
            deployment.up(part).await;
        }
        let agent = deployment.start_agent(origin.port());
        let mut service = deployment.service_request(SERVICE, Access::Open).await;
        let target = service.pointer_mut("/targets/0/port");
        *target.context("the request names a target")? = origin.port().into();
        let created = deployment
            .rest()
            .post("/api/reverse-proxies/services", &service)
            .await;
        created.map_err(|error| anyhow!("the service was not created: {error}"))?;
        let client = deployment.client(HttpVersion::H1);
        eventually("the service answers", async || {
            client.expect(HOST, "/small", 200).await
        })
        .await;
        Ok(Self { deployment, agent })
    }

    /// Port of the edge.
    pub(super) fn port(&self) -> u16 {
        self.deployment.edge().port()
    }

    /// What the edge has used.
    pub(super) fn edge(&self) -> Usage {
        Usage::of(self.deployment.process(Part::Proxy).pid())
    }

    /// What the agent has used.
    pub(super) fn agent(&self) -> Usage {
        Usage::of(self.agent.pid())
    }
}
