//! Names that do not fit, and services that cannot be served: only what is wrong suffers.

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use meshgate_tests::raw::{self, exchange, status};
use meshgate_tests::{Access, Deployment, HttpVersion, eventually};
use rustls::AlertDescription;

#[tokio::test]
async fn server_name_outside_the_domain_gets_a_tls_alert() {
    let deployment = Deployment::shared().await;
    deployment.publish("sni", Access::Open).await;
    // The last one is an address: the handshake then names no server.
    for name in [
        "unknown.test",
        "sni.proxy.test.evil.test",
        "test",
        "notproxy.test",
        "127.0.0.1",
    ] {
        let refused = raw::tls(
            &deployment.ca_file(),
            deployment.edge(),
            name,
            &["h2", "http/1.1"],
        )
        .await;

        let error = refused.expect_err(name);
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let alert = matches!(
            cause,
            Some(rustls::Error::AlertReceived(
                AlertDescription::UnrecognisedName | AlertDescription::AccessDenied
            ))
        );
        assert!(alert, "{name}: {error:?}");
    }
}

#[tokio::test]
async fn unknown_name_below_the_domain_gets_a_page_that_says_so() {
    let deployment = Deployment::shared().await;
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        for name in ["unknown.proxy.test", "a.b.unknown.proxy.test", "proxy.test"] {
            let page = client.expect(name, "/", 404).await;
            assert!(
                page.as_ref().is_ok_and(|page| page.contains("No service")),
                "{name}: {page:?}"
            );
        }
    }
}

#[tokio::test]
async fn server_name_is_the_same_in_any_case() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("case", Access::Open).await;
    let upper = service.domain.to_uppercase();
    for host in [&upper, &format!("{}.", service.domain)] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");

        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &upper,
            request.as_bytes(),
        )
        .await;

        assert_eq!(status(&answer), Some(200), "{host}: {answer:.300}");
    }
}

#[tokio::test]
async fn unknown_host_gets_a_page_that_says_so() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("host", Access::Open).await;
    for host in ["unknown.proxy.test", "evil.test", "localhost", "127.0.0.1"] {
        let request = format!(
            "GET /unknown-host HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        );

        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &service.domain,
            request.as_bytes(),
        )
        .await;

        assert_eq!(status(&answer), Some(404), "{host}: {answer:.300}");
        assert!(
            answer.contains("<h1") && answer.contains("</html>"),
            "a page for people: {answer}"
        );
    }
    assert_eq!(deployment.origin.hits("/unknown-host"), 0);
}

#[tokio::test]
async fn host_of_another_service_than_the_server_name_is_misdirected() {
    let deployment = Deployment::shared().await;
    let open = deployment.publish("front", Access::Open).await;
    let pin = deployment.publish("fronted", Access::Pin("223606")).await;
    for (name, host) in [(&open, &pin), (&pin, &open)] {
        let request = format!(
            "GET /fronted HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            host.domain
        );
        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &name.domain,
            request.as_bytes(),
        )
        .await;
        assert_eq!(status(&answer), Some(421), "{answer:.300}");

        let mut connection = h2_connection(&deployment, &name.domain).await;
        assert_eq!(h2_status(&mut connection, &host.domain, "/fronted").await, 421);
        let own = if name.domain == open.domain { 200 } else { 401 };
        assert_eq!(
            h2_status(&mut connection, &name.domain, "/").await,
            own,
            "the connection lives on"
        );
        assert_eq!(
            h2_status(&mut connection, "unknown.proxy.test", "/fronted").await,
            404
        );
    }
    assert_eq!(deployment.origin.hits("/fronted"), 0);
}

#[tokio::test]
async fn second_name_in_an_h2_request_changes_nothing() {
    let deployment = Deployment::shared().await;
    let own = deployment.publish("one-name", Access::Open).await;
    let other = deployment.publish("other-name", Access::Open).await;
    let mut connection = h2_connection(&deployment, &own.domain).await;

    let request = Request::get(format!("https://{}/two-names", own.domain)).header("host", &other.domain);
    let (answer, _) = connection.send_request(request.body(()).unwrap(), true).unwrap();
    let status = answer.await.map(|answer| answer.status().as_u16());

    let seen = deployment.origin.seen();
    let seen = seen.iter().filter(|seen| seen.path == "/two-names");
    let confused = seen
        .filter(|seen| format!("{seen:?}").contains("other-name"))
        .count();
    assert_eq!(confused, 0, "the origin hears of the asked name alone");
    assert!(matches!(status, Ok(200 | 400 | 421) | Err(_)), "{status:?}");
}

#[tokio::test]
async fn h2_body_longer_than_announced_never_becomes_a_request() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("longer", Access::Open).await;
    let mut connection = h2_connection(&deployment, &service.domain).await;
    let whole = deployment.origin.uploads().len();
    let body = "abc GET /smuggled HTTP/1.1";

    let request = Request::post(format!("https://{}/longer", service.domain)).header("content-length", 3);
    let (answer, mut stream) = connection.send_request(request.body(()).unwrap(), false).unwrap();
    stream
        .send_data(Bytes::from_static(body.as_bytes()), true)
        .unwrap();
    let answer = answer.await;

    let refused = answer
        .as_ref()
        .map_or(true, |answer| answer.status().is_client_error());
    assert!(refused, "{answer:?}");
    let uploads = deployment.origin.uploads();
    assert!(
        uploads[whole..]
            .iter()
            .all(|upload| !upload.excerpt.contains("smuggled")),
        "{uploads:?}"
    );
    let client = deployment.client(HttpVersion::H2);
    assert!(client.expect(&service.domain, "/", 200).await.is_ok());
}

#[tokio::test]
async fn service_that_this_proxy_cannot_serve_is_reported_and_hurts_no_other() {
    let deployment = Deployment::shared().await;
    let good = deployment.publish("good", Access::Open).await;
    let rest = deployment.rest();
    let mut request = deployment.service_request("broken", Access::Open).await;
    request["mode"] = "tls".into();
    request["listen_port"] = 22_022.into();
    request["targets"][0]["protocol"] = "tcp".into();
    request.as_object_mut().unwrap().remove("auth");
    let broken = rest
        .post("/api/reverse-proxies/services", &request)
        .await
        .unwrap();
    let path = format!("/api/reverse-proxies/services/{}", broken["id"].as_str().unwrap());

    eventually("management is told about the broken service", async || {
        let service = rest.get(&path).await?;
        if service["meta"]["status"] == "error" {
            Ok(())
        } else {
            Err(service.to_string())
        }
    })
    .await;

    let next = deployment.publish("next", Access::Open).await;
    for service in [&good, &next] {
        for version in HttpVersion::ALL {
            let answer = deployment.client(version).expect(&service.domain, "/", 200).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    rest.delete(&path).await.unwrap();
}

#[tokio::test]
async fn service_with_rules_that_cannot_be_checked_stays_shut() {
    let deployment = Deployment::shared().await;
    let client = deployment.client(HttpVersion::H1);
    for (name, restrictions, status) in [
        ("country", serde_json::json!({ "blocked_countries": ["ZZ"] }), 403),
        ("crowdsec", serde_json::json!({ "crowdsec_mode": "enforce" }), 403),
        (
            "blocked",
            serde_json::json!({ "blocked_cidrs": ["127.0.0.0/8"] }),
            403,
        ),
        (
            "elsewhere",
            serde_json::json!({ "allowed_cidrs": ["203.0.113.0/24"] }),
            403,
        ),
        (
            "allowed",
            serde_json::json!({ "allowed_cidrs": ["127.0.0.0/8"] }),
            200,
        ),
    ] {
        let mut request = deployment.service_request(name, Access::Open).await;
        request["access_restrictions"] = restrictions;
        let service = deployment
            .rest()
            .post("/api/reverse-proxies/services", &request)
            .await
            .unwrap();
        let domain = service["domain"].as_str().unwrap();

        eventually(&format!("{name} answers {status}"), async || {
            client.expect(domain, "/ruled", status).await
        })
        .await;
    }
    assert_eq!(
        deployment.origin.hits("/ruled"),
        1,
        "only the allowed one was let through"
    );
}

#[tokio::test]
async fn ports_that_the_agent_does_not_allow_are_closed() {
    let deployment = Deployment::shared().await;
    let other = meshgate_tests::Origin::start().await;
    let mut request = deployment.service_request("forbidden-port", Access::Open).await;
    request["targets"][0]["port"] = other.address().port().into();
    let service = deployment
        .rest()
        .post("/api/reverse-proxies/services", &request)
        .await
        .unwrap();
    let domain = service["domain"].as_str().unwrap();
    let client = deployment.client(HttpVersion::H1);

    eventually("the edge says that nothing listens", async || {
        client.expect(domain, "/", 502).await
    })
    .await;

    assert!(other.seen().is_empty(), "an allow list is not a suggestion");
}

async fn h2_connection(deployment: &Deployment, name: &str) -> SendRequest<Bytes> {
    let stream = raw::tls(&deployment.ca_file(), deployment.edge(), name, &["h2"])
        .await
        .expect("the edge takes it");
    let (sender, connection) = h2::client::handshake(stream)
        .await
        .expect("the edge speaks HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("the connection is open")
}

async fn h2_status(connection: &mut SendRequest<Bytes>, host: &str, path: &str) -> u16 {
    let request = Request::get(format!("https://{host}{path}"))
        .body(())
        .expect("it is a request");
    let (answer, _) = connection
        .send_request(request, true)
        .expect("the connection is open");
    answer.await.expect("the edge answers").status().as_u16()
}
