//! What the proxy says of itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::Deployment;

impl Deployment {
    /// Where the proxy tells how it fares.
    pub fn health_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.health))
    }

    /// A page of the proxy's health address.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn health(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://127.0.0.1:{}{path}", self.ports.health);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build();
        let answer = client.map_err(|error| error.to_string())?.get(url).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| format!("{error:?}"))?))
    }

    /// Sum of the samples of a metric of the proxy, whatever their labels; none when it has no sample.
    ///
    /// # Panics
    /// When the proxy does not answer.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.health("/metrics").await.expect("the proxy shows metrics");
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let whole_name = rest.starts_with(['{', ' ']);
            whole_name
                .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())
                .flatten()
        });
        samples.reduce(|sum, sample| sum + sample)
    }
}
