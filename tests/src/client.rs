//! An HTTP client as visitors have it: every name leads to the edge, the authority of the test is trusted.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder, Response};

/// Longest wait for a whole answer, unless a request says otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1 alone.
    H1,
    /// HTTP/2, agreed on by ALPN.
    H2,
}

impl HttpVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::H1, Self::H2];

    /// How an answer of this version calls itself.
    pub fn name(self) -> http::Version {
        match self {
            Self::H1 => http::Version::HTTP_11,
            Self::H2 => http::Version::HTTP_2,
        }
    }
}

/// Talks to services behind one edge. It follows no redirect and keeps no cookie.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    edge: SocketAddr,
}

/// Where a client is and what it speaks.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// Version.
    pub version: HttpVersion,
    /// Own address, when another one than the system's choice is wanted.
    pub address: Option<IpAddr>,
}

impl Client {
    /// A client that trusts the authority in `ca_file`.
    ///
    /// # Panics
    /// When the authority's file cannot be used.
    pub fn new(ca_file: &Path, edge: SocketAddr, visitor: Visitor) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pem = std::fs::read(ca_file).expect("the authority's certificate is there");
        let authority = Certificate::from_pem(&pem).expect("the authority's certificate is PEM");
        let mut builder = ClientBuilder::new()
            .tls_certs_only([authority])
            .dns_resolver(Arc::new(ToEdge(edge)))
            .no_proxy()
            .redirect(Policy::none())
            .local_address(visitor.address)
            .timeout(PATIENCE);
        builder = match visitor.version {
            HttpVersion::H1 => builder.http1_only(),
            HttpVersion::H2 => builder,
        };
        Self {
            inner: builder.build().expect("the settings of the client fit"),
            edge,
        }
    }

    /// URL of a path of a service.
    pub fn url(&self, domain: &str, path: &str) -> String {
        format!("https://{domain}:{}{path}", self.edge.port())
    }

    /// Begins a request.
    pub fn request(&self, method: Method, domain: &str, path: &str) -> RequestBuilder {
        self.inner.request(method, self.url(domain, path))
    }

    /// Begins a GET.
    pub fn get(&self, domain: &str, path: &str) -> RequestBuilder {
        self.request(Method::GET, domain, path)
    }

    /// Begins a POST.
    pub fn post(&self, domain: &str, path: &str) -> RequestBuilder {
        self.request(Method::POST, domain, path)
    }

    /// Gets a path and returns the answer whatever its status.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn fetch(&self, domain: &str, path: &str) -> Result<Response, String> {
        self.get(domain, path)
            .send()
            .await
            .map_err(|error| format!("{error:?}"))
    }

    /// Gets a path and returns the body when the status is the right one.
    ///
    /// # Errors
    /// Tells what came instead.
    pub async fn expect(&self, domain: &str, path: &str, status: u16) -> Result<String, String> {
        let answer = self.fetch(domain, path).await?;
        let found = answer.status().as_u16();
        let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
        if found == status {
            Ok(body)
        } else {
            Err(format!("{found} instead of {status}: {}", shorten(&body)))
        }
    }
}

/// What a failure message needs of a body: of a page the text for people, else the beginning.
pub fn shorten(body: &str) -> String {
    let text = body.split_once("</style>").map_or(body, |(_, text)| text);
    let mut tags = 0_u32;
    let visible = text.chars().filter(|character| {
        match character {
            '<' => tags += 1,
            '>' => tags = tags.saturating_sub(1),
            _ => return tags == 0,
        }
        false
    });
    let text = if body.trim_start().starts_with('<') {
        visible.collect()
    } else {
        text.to_owned()
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}

/// Resolves every name to the edge.
#[derive(Debug)]
struct ToEdge(SocketAddr);

impl Resolve for ToEdge {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(std::iter::once(self.0));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}
