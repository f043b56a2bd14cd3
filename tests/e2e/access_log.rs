//! What management keeps of the requests that visitors made.

use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::{Access, Deployment, HttpVersion, Rest, eventually};
use reqwest::Method;
use serde_json::Value;

#[tokio::test]
async fn requests_are_logged_without_their_query() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("logged", Access::Open).await;
    let client = deployment.client(HttpVersion::H2);
    for (method, path) in [
        (Method::GET, "/report?token=s3cret"),
        (Method::PUT, "/upload/file?x=1"),
    ] {
        let answer = client
            .request(method, &service.domain, path)
            .body("12345")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }

    let rest = deployment.rest();
    let got = entry(&rest, &service.domain, "/report", "GET").await;
    let put = entry(&rest, &service.domain, "/upload/file", "PUT").await;

    assert_eq!(
        (&got["status_code"], &got["service_id"]),
        (&200.into(), &service.id.as_str().into()),
        "{got}"
    );
    assert_eq!(
        (&got["source_ip"], &got["protocol"]),
        (&"127.0.0.1".into(), &"http".into()),
        "{got}"
    );
    assert!(
        got["bytes_download"].as_u64().is_some_and(|bytes| bytes > 0),
        "{got}"
    );
    assert_eq!(put["bytes_upload"], 5, "{put}");
    assert!(
        got["duration_ms"].is_u64() && got["timestamp"].is_string() && got["id"].is_string(),
        "{got}"
    );
    assert!(!got.to_string().contains("s3cret"), "{got}");
}

#[tokio::test]
async fn logins_are_logged_with_their_method_and_failures_counted() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("logged-pin", Access::Pin("244948")).await;
    let client = deployment.client(HttpVersion::H1);
    for _ in 0..3 {
        assert_eq!(
            log_in(&client, &service.domain, "/vault", "wrong").await.status,
            401
        );
    }
    let session = log_in(&client, &service.domain, "/vault", "244948")
        .await
        .cookie();
    assert_eq!(
        fetch_with(&client, &service.domain, "/vault", &session).await.0,
        200
    );

    let rest = deployment.rest();
    eventually("three wrong PINs are logged", async || {
        let found = entries(&rest, &format!("host={}&status=failed", service.domain)).await?;
        let wrong = found
            .iter()
            .filter(|entry| entry["method"] == "POST" && entry["auth_method_used"] == "pin");
        match wrong.count() {
            3 => Ok(()),
            count => Err(format!("{count} in {found:?}")),
        }
    })
    .await;
    let failed = entries(&rest, &format!("host={}&status=failed", service.domain))
        .await
        .unwrap();
    assert!(
        failed
            .iter()
            .all(|entry| entry["reason"] == "Authentication failed"),
        "{failed:?}"
    );
    let passed = eventually("the request with a session is logged", async || {
        let found = entries(&rest, &format!("host={}&status_code=200", service.domain)).await?;
        found.first().cloned().ok_or("not yet".to_owned())
    })
    .await;
    assert_eq!(
        (&passed["auth_method_used"], &passed["path"]),
        (&"pin".into(), &"/vault".into()),
        "{passed}"
    );
    assert!(!format!("{failed:?}{passed}").contains("244948"));
}

#[tokio::test]
async fn answers_of_the_edge_itself_are_logged_with_their_status() {
    let deployment = Deployment::shared().await;
    let mut request = deployment.service_request("logged-502", Access::Open).await;
    let nobody = meshgate_tests::ports::reserve();
    request["targets"][0]["port"] = nobody.into();
    let service = deployment
        .rest()
        .post("/api/reverse-proxies/services", &request)
        .await
        .unwrap();
    let domain = service["domain"].as_str().unwrap();
    let client = deployment.client(HttpVersion::H1);

    eventually("the edge says that nothing listens", async || {
        client.expect(domain, "/gone", 502).await
    })
    .await;

    let entry = entry(&deployment.rest(), domain, "/gone", "GET").await;
    assert_eq!(
        (&entry["status_code"], &entry["reason"]),
        (&502.into(), &"Request failed".into()),
        "{entry}"
    );
}

#[tokio::test]
async fn log_is_paged_and_newest_first() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("logged-pages", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let rest = deployment.rest();
    for number in 0..7 {
        let path = format!("/page/{number}");
        client.expect(&service.domain, &path, 200).await.unwrap();
        entry(&rest, &service.domain, &path, "GET").await;
    }

    let filter = format!("host={}&path=/page/&page_size=3", service.domain);
    let first = rest.get(&format!("/api/events/proxy?{filter}")).await.unwrap();
    let last = rest
        .get(&format!("/api/events/proxy?{filter}&page=3"))
        .await
        .unwrap();

    assert_eq!(
        (&first["total_records"], &first["total_pages"]),
        (&7.into(), &3.into()),
        "{first}"
    );
    assert_eq!(
        (&first["page"], &first["page_size"]),
        (&1.into(), &3.into()),
        "{first}"
    );
    assert_eq!(first["data"][0]["path"], "/page/6", "{first}");
    assert_eq!(
        (&last["data"][0]["path"], &last["data"][1]),
        (&"/page/0".into(), &Value::Null),
        "{last}"
    );
}

/// The entries that a query finds.
async fn entries(rest: &Rest, query: &str) -> Result<Vec<Value>, String> {
    let page = rest
        .get(&format!("/api/events/proxy?page_size=100&{query}"))
        .await?;
    page["data"].as_array().cloned().ok_or_else(|| page.to_string())
}

/// The entry of a request; entries are written in batches, so it may take a moment.
async fn entry(rest: &Rest, host: &str, path: &str, method: &str) -> Value {
    eventually(&format!("{method} {path} is logged"), async || {
        let found = entries(rest, &format!("host={host}&method={method}")).await?;
        let entry = found.iter().find(|entry| entry["path"] == path).cloned();
        entry.ok_or_else(|| format!("{found:?}"))
    })
    .await
}
