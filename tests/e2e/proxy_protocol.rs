//! Load balancers in front of the edge that say with the PROXY protocol who the client is.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use meshgate_tests::client::Visitor;
use meshgate_tests::deployment::CLUSTER;
use meshgate_tests::origin::Seen;
use meshgate_tests::raw::client_config;
use meshgate_tests::{Access, Client, Deployment, HttpVersion, Part, Process, eventually, ports};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// The load balancer that the edge trusts.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Anybody else.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Where Debian puts it.
const HAPROXY: &str = "/usr/sbin/haproxy";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[tokio::test]
async fn announced_clients_reach_applications_decisions_and_the_log() {
    let behind = Behind::shared().await;
    let mut request = behind.deployment.service_request("announced", Access::Open).await;
    request["access_restrictions"] = json!({ "allowed_cidrs": ["192.0.2.0/24", "2001:db8::/32"] });
    let rest = behind.deployment.rest();
    rest.post("/api/reverse-proxies/services", &request)
        .await
        .unwrap();
    let host = format!("announced.{CLUSTER}");
    let line = b"PROXY TCP4 192.0.2.44 198.51.100.1 4711 443\r\n";

    let (_, body) = eventually("the service answers", async || {
        let (status, body) = behind.fetch(TRUSTED, line, &host, "/v1").await?;
        (status == 200)
            .then_some((status, body))
            .ok_or(format!("{status}"))
    })
    .await;
    assert_eq!(forwarded_for(&body), "192.0.2.44");
    let v2 = behind.fetch(TRUSTED, &version_2(), &host, "/v2").await.unwrap();
    assert_eq!((v2.0, forwarded_for(&v2.1).as_str()), (200, "2001:db8::7"));
    let elsewhere = b"PROXY TCP4 198.51.100.9 198.51.100.1 4711 443\r\n";
    for (from, header) in [
        (TRUSTED, &elsewhere[..]),
        (TRUSTED, b"PROXY UNKNOWN\r\n"),
        (STRANGER, line),
    ] {
        let (status, _) = behind.fetch(from, header, &host, "/").await.unwrap();
        assert_eq!(status, 403, "{from} {}", header.escape_ascii());
    }

    for (path, client) in [("/v1", "192.0.2.44"), ("/v2", "2001:db8::7")] {
        eventually(&format!("{path} is logged"), async || {
            let page = rest
                .get(&format!("/api/events/proxy?host={host}&path={path}"))
                .await?;
            let found = page["data"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|entry| entry["source_ip"] == client);
            found.then_some(()).ok_or(page.to_string())
        })
        .await;
    }
}

#[tokio::test]
async fn trusted_proxies_must_announce_and_others_are_not_believed() {
    let behind = Behind::shared().await;
    let host = behind.deployment.publish("obliged", Access::Open).await.domain;
    let line = b"PROXY TCP4 192.0.2.44 198.51.100.1 4711 443\r\n";
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();

    for (from, header, expected) in [
        (STRANGER, &line[..], STRANGER),
        (STRANGER, &version_2(), STRANGER),
        (STRANGER, b"", STRANGER),
        (TRUSTED, b"PROXY UNKNOWN\r\n", TRUSTED),
        (TRUSTED, &local, TRUSTED),
    ] {
        let (status, body) = behind.fetch(from, header, &host, "/").await.unwrap();
        let found = (status, forwarded_for(&body));
        assert_eq!(
            found,
            (200, expected.to_string()),
            "{from} {}",
            header.escape_ascii()
        );
    }
    for bytes in [
        &b"\x16\x03\x01\x02\0"[..],
        b"PROXY TCP4 192.0.2",
        b"PROXY TCP4 nonsense\r\n",
    ] {
        let mut stream = behind.connect(TRUSTED).await;
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "{}",
            bytes.escape_ascii()
        );
    }
    let mut stream = behind.connect(TRUSTED).await;
    stream.write_all(&[&line[..], line].concat()).await.unwrap();
    assert_eq!(
        stream.read_u8().await.unwrap(),
        21,
        "the second header is answered with a TLS alert"
    );
}

#[tokio::test]
async fn a_real_load_balancer_is_understood() {
    let behind = Behind::shared().await;
    let host = behind.deployment.publish("balanced", Access::Open).await.domain;
    let (v1, v2) = (ports::reserve(), ports::reserve());
    let _haproxy = start_haproxy(behind, v1, v2);
    let visitor = |version| Visitor {
        version,
        address: Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))),
    };

    for port in [v1, v2] {
        for version in HttpVersion::ALL {
            let front = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let client = Client::new(&behind.deployment.ca_file(), front, visitor(version));
            let body = eventually("HAProxy passes requests on", async || {
                client.expect(&host, "/", 200).await
            })
            .await;
            assert_eq!(forwarded_for(&body), "127.0.0.9", "{port} {version:?}");
        }
    }
}

/// A deployment whose proxy expects load balancers in front of it.
struct Behind {
    deployment: Deployment,
    proxy: Process,
}

impl Behind {
    /// The one that tests share. It ends with the test run.
    async fn shared() -> &'static Self {
        static SHARED: OnceCell<Behind> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let mut deployment = Deployment::set_up().await;
        deployment.launch(Part::Management);
        deployment.up(Part::Management).await;
        let mut proxy = start_proxy(&deployment);
        deployment.launch(Part::Agent);
        deployment.up(Part::Agent).await;
        let rest = deployment.rest();
        eventually("the cluster is online", async || {
            proxy.check();
            let clusters = rest.get("/api/reverse-proxies/clusters").await?;
            let mut all = clusters.as_array().into_iter().flatten();
            let online = all.any(|cluster| cluster["address"] == CLUSTER && cluster["online"] == true);
            online.then_some(()).ok_or(clusters.to_string())
        })
        .await;
        Self { deployment, proxy }
    }

    async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket can be had");
        let bound = socket.bind(SocketAddr::from((from, 0)));
        bound.expect("every loopback address is ours");
        socket.set_nodelay(true).expect("the socket takes the option");
        let connected = socket.connect(self.deployment.edge()).await;
        connected.expect("the edge listens")
    }

    /// Sends a header byte by byte, then one request over TLS; returns status and body of the answer.
    async fn fetch(
        &self,
        from: Ipv4Addr,
        header: &[u8],
        host: &str,
        path: &str,
    ) -> Result<(u16, String), String> {
        let mut stream = self.connect(from).await;
        for byte in header {
            stream
                .write_all(&[*byte])
                .await
                .map_err(|error| error.to_string())?;
        }
        let config = client_config(&self.deployment.ca_file(), &["http/1.1"]);
        let name = ServerName::try_from(host.to_owned()).expect("it is a host name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let mut tls = tls.map_err(|error| format!("{error}\n{}", self.proxy.log_tail()))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer)
            .await
            .map_err(|error| error.to_string())?;
        let status = meshgate_tests::raw::status(&answer).ok_or("no status")?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        Ok((status, body.to_owned()))
    }
}

fn start_proxy(deployment: &Deployment) -> Process {
    let folder = deployment.folder();
    let (ca, state) = (folder.argument("ca"), folder.argument("proxy"));
    let (management, edge) = (deployment.management_url(), deployment.edge().to_string());
    let trusted = TRUSTED.to_string();
    let args = [
        "proxy",
        "--mgmt",
        &management,
        "--addr",
        &edge,
        "--domain",
        CLUSTER,
        "--ca-dir",
        &ca,
        "--state-dir",
        &state,
        "--health-addr",
        "off",
        "--proxy-protocol",
        "--trusted-proxies",
        &trusted,
    ];
    let env = [
        ("NB_PROXY_TOKEN", deployment.keys.proxy_token.as_str()),
        ("NB_PROXY_ALLOW_INSECURE", "true"),
    ];
    Process::start("proxy", folder.path(), &args, &env)
}

/// A real load balancer on two ports, speaking to the edge from the trusted address in version 1 and 2.
fn start_haproxy(behind: &Behind, v1: u16, v2: u16) -> Process {
    let program = Path::new(HAPROXY);
    assert!(program.exists(), "{HAPROXY} is missing: apt-get install haproxy");
    let edge = behind.deployment.edge();
    let settings = format!(
        "global\n  maxconn 100\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen v1\n  bind 127.0.0.1:{v1}\n  server edge {edge} source {TRUSTED} send-proxy\n\
         listen v2\n  bind 127.0.0.1:{v2}\n  server edge {edge} source {TRUSTED} send-proxy-v2 \
         proxy-v2-options crc32c\n"
    );
    let folder = behind.deployment.folder();
    std::fs::write(folder.join("haproxy.cfg"), settings).expect("the folder is ours");
    let file = folder.argument("haproxy.cfg");
    Process::start_program("haproxy", folder.path(), program, &["-db", "-f", &file])
}

/// A header of version 2 with a field that nobody needs behind the addresses.
fn version_2() -> Vec<u8> {
    let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets();
    let field = [4, 0, 3, 1, 2, 3];
    let length = [0, 36 + 6];
    let ports = [0x12, 0x67, 1, 187];
    let addresses = [client, Ipv6Addr::LOCALHOST.octets()].concat();
    [SIGNATURE, &[0x21, 0x21], &length, &addresses, &ports, &field].concat()
}

/// What the application was told.
fn forwarded_for(body: &str) -> String {
    let seen: Seen = serde_json::from_str(body).expect("the application answers with what it saw");
    seen.all("x-forwarded-for").join(" | ")
}
