//! The login in front of protected services, as programs and hostile pages meet it.

use futures::StreamExt as _;
use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::origin::{Received, Seen};
use meshgate_tests::{Demo, HttpVersion, LoginForm};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE};

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn pin_and_password_open_their_services() {
    let demo = Demo::shared().await;
    for (name, field) in [("pin", "pin"), ("secret", "password")] {
        for version in HttpVersion::ALL {
            let service = demo.service(name);
            let client = demo.client_at(version, [127, 0, 1, 1]);
            let asked = "/deep/path?x=1&y=%2Fz%20a";

            let page = client.expect(&service.domain, asked, 401).await.unwrap();
            let form = LoginForm::read(&page);
            assert!(form.action.starts_with("/.meshgate/"), "{form:?}");
            assert_eq!(form.field, field);

            let wrong = form.send(&client, &service.domain, "000000-wrong").await;
            assert_eq!(wrong.status, 401, "{wrong:?}");
            assert_eq!(wrong.set_cookie, None);
            assert_eq!(LoginForm::read(&wrong.body).field, field, "the page comes again");

            let right = LoginForm::read(&wrong.body)
                .send(&client, &service.domain, service.secret())
                .await;
            assert_eq!(right.status, 303, "{right:?}");
            assert_eq!(right.location.as_deref(), Some(asked));
            let attributes = right.cookie_attributes();
            for attribute in ["httponly", "secure", "samesite=lax", "path=/"] {
                assert!(
                    attributes.iter().any(|found| found == attribute),
                    "{attribute} of {attributes:?}"
                );
            }
            assert!(
                !attributes.iter().any(|found| found.starts_with("domain")),
                "{attributes:?}"
            );
            assert!(right.cookie().starts_with("nb_session="), "{right:?}");

            let (status, body) = fetch_with(&client, &service.domain, asked, &right.cookie()).await;
            assert_eq!(status, 200, "{body}");
            let seen: Seen = serde_json::from_str(&body).unwrap();
            assert_eq!(seen.path, asked);
            assert!(
                seen.all("cookie").is_empty(),
                "the session stays at the edge: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_reaches_a_protected_service_without_a_session() {
    let demo = Demo::shared().await;
    let domain = &demo.service("pin").domain;
    for version in HttpVersion::ALL {
        let client = demo.client(version);
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();

            let answer = client
                .request(method.clone(), domain, "/data")
                .body("pin=000000")
                .send()
                .await
                .unwrap();

            assert_eq!(answer.status(), 401, "{method}");
        }
        for cookie in [
            "nb_session=",
            "nb_session=x",
            "nb_session=a.b.c",
            "nb_session=eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        ] {
            assert_eq!(fetch_with(&client, domain, "/", cookie).await.0, 401, "{cookie}");
        }
    }
    let refused = demo.websocket(domain, "/ws", None).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.contains("401")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn way_back_stays_on_the_own_host() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let client = demo.client_at(HttpVersion::H1, [127, 0, 1, 2]);
    let page = client.expect(&service.domain, "/", 401).await.unwrap();
    let form = LoginForm::read(&page);
    for evil in [
        "//evil.test/",
        "///evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "/\t/evil.test",
        "https://evil.test/",
        "https:evil.test",
        "javascript:alert(1)",
        "/.meshgate/login",
        "/x\r\nSet-Cookie: a=b",
    ] {
        let mut forged = form.clone();
        for (_, value) in &mut forged.hidden {
            evil.clone_into(value);
        }

        let login = forged.send(&client, &service.domain, service.secret()).await;

        assert_eq!(
            (login.status, login.location.as_deref()),
            (303, Some("/")),
            "{evil:?}: {login:?}"
        );
    }
}

#[tokio::test]
async fn asked_path_cannot_lead_away_either() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let client = demo.client_at(HttpVersion::H1, [127, 0, 1, 3]);

    let login = log_in(&client, &service.domain, "//evil.test/", service.secret()).await;

    assert_eq!(login.status, 303, "{login:?}");
    let location = login.location.unwrap();
    assert!(
        location.starts_with('/') && !location.starts_with("//"),
        "{location}"
    );
}

#[tokio::test]
async fn form_from_another_site_is_refused() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let client = demo.client_at(HttpVersion::H1, [127, 0, 1, 4]);
    let page = client.expect(&service.domain, "/", 401).await.unwrap();
    let form = LoginForm::read(&page);
    let own = format!("https://{}:{}", service.domain, demo.ready.https_port);
    let sibling = format!(
        "https://{}:{}",
        demo.service("whoami").domain,
        demo.ready.https_port
    );
    for (name, value, status) in [
        ("origin", own.as_str(), 303),
        ("sec-fetch-site", "same-origin", 303),
        ("sec-fetch-site", "none", 303),
        ("origin", "https://evil.test", 403),
        ("origin", "null", 403),
        ("origin", &sibling, 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ] {
        let request = client
            .post(&service.domain, &form.action)
            .header(CONTENT_TYPE, FORM)
            .header(name, value);

        let answer = request
            .body(form.filled_in(service.secret()))
            .send()
            .await
            .unwrap();

        assert_eq!(answer.status(), status, "{name}: {value}");
        assert_eq!(
            answer.headers().contains_key("set-cookie"),
            status == 303,
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn large_login_form_is_refused_while_it_is_read() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    for version in HttpVersion::ALL {
        let client = demo.client_at(version, [127, 0, 1, 5]);
        let page = client.expect(&service.domain, "/", 401).await.unwrap();
        let form = LoginForm::read(&page);
        let too_large = format!(
            "{}&filler={}",
            form.filled_in(service.secret()),
            "x".repeat(16 * 1024)
        );
        let chunks: Vec<String> = too_large
            .split_inclusive(&"x".repeat(1024))
            .map(str::to_owned)
            .collect();
        let chunks = futures::stream::iter(chunks).map(Ok::<_, std::io::Error>);
        let unannounced = reqwest::Body::wrap_stream(chunks);
        for body in [reqwest::Body::from(too_large.clone()), unannounced] {
            let request = client
                .post(&service.domain, &form.action)
                .header(CONTENT_TYPE, FORM);

            let answer = request.body(body).send().await.unwrap();

            assert_eq!(answer.status(), 413, "{version:?}");
        }
        let filler = 16 * 1024 - form.filled_in(service.secret()).len() - "&filler=".len();
        let fits = format!(
            "{}&filler={}",
            form.filled_in(service.secret()),
            "x".repeat(filler)
        );

        let request = client
            .post(&service.domain, &form.action)
            .header(CONTENT_TYPE, FORM);

        assert_eq!(
            request.body(fits).send().await.unwrap().status(),
            303,
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn client_that_still_sends_learns_that_its_form_is_too_large() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    for version in HttpVersion::ALL {
        let client = demo.client_at(version, [127, 0, 1, 9]);
        let page = client.expect(&service.domain, "/", 401).await.unwrap();
        let form = LoginForm::read(&page);
        let pieces = futures::stream::iter(0..64).map(|_| Ok::<_, std::io::Error>("x".repeat(4096)));
        let request = client
            .post(&service.domain, &form.action)
            .header(CONTENT_TYPE, FORM);

        let answer = request.body(reqwest::Body::wrap_stream(pieces)).send().await;

        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        assert!(matches!(status, Ok(413)), "{version:?}: {answer:?}");
    }
}

#[tokio::test]
async fn field_named_pin_reaches_the_application_of_an_open_service() {
    let demo = Demo::shared().await;
    let domain = &demo.service("whoami").domain;
    let body = "pin=123456&password=hunter2";
    for version in HttpVersion::ALL {
        let request = demo
            .client(version)
            .post(domain, "/login")
            .header(CONTENT_TYPE, FORM);

        let answer = request.body(body).send().await.unwrap();

        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json::<Received>().await.unwrap().length, body.len() as u64);
    }
}

#[tokio::test]
async fn field_named_pin_reaches_the_application_of_a_protected_service() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let client = demo.client_at(HttpVersion::H1, [127, 0, 1, 6]);
    let cookie = log_in(&client, &service.domain, "/", service.secret())
        .await
        .cookie();
    let body = "pin=123456";

    let request = client
        .post(&service.domain, "/login")
        .header(CONTENT_TYPE, FORM)
        .header(COOKIE, cookie);
    let answer = request.body(body).send().await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Received>().await.unwrap().length, body.len() as u64);
}

#[tokio::test]
async fn session_opens_its_own_service_only() {
    let demo = Demo::shared().await;
    let (pin, secret) = (demo.service("pin"), demo.service("secret"));
    let client = demo.client_at(HttpVersion::H2, [127, 0, 1, 7]);

    let pin_cookie = log_in(&client, &pin.domain, "/", pin.secret()).await.cookie();
    let secret_cookie = log_in(&client, &secret.domain, "/", secret.secret())
        .await
        .cookie();

    assert_eq!(fetch_with(&client, &pin.domain, "/", &pin_cookie).await.0, 200);
    assert_eq!(fetch_with(&client, &pin.domain, "/", &secret_cookie).await.0, 401);
    assert_eq!(
        fetch_with(&client, &secret.domain, "/", &secret_cookie).await.0,
        200
    );
    assert_eq!(fetch_with(&client, &secret.domain, "/", &pin_cookie).await.0, 401);
    let both = format!("{pin_cookie}; {secret_cookie}");
    assert_eq!(fetch_with(&client, &pin.domain, "/", &both).await.0, 200);
    assert_eq!(fetch_with(&client, &secret.domain, "/", &both).await.0, 200);
    let (damaged, _) = pin_cookie.split_at(pin_cookie.len() - 6);
    assert_eq!(
        fetch_with(&client, &pin.domain, "/", &format!("{damaged}AAAAAA"))
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn too_many_wrong_secrets_must_wait_but_others_get_in() {
    let demo = Demo::shared().await;
    let service = demo.service("secret");
    let guesser = demo.client_at(HttpVersion::H1, [127, 0, 9, 9]);
    let page = guesser.expect(&service.domain, "/", 401).await.unwrap();
    let form = LoginForm::read(&page);

    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) && statuses.len() < 40 {
        statuses.push(form.send(&guesser, &service.domain, "wrong").await.status);
    }

    assert_eq!(
        statuses.pop(),
        Some(429),
        "after {} wrong secrets",
        statuses.len()
    );
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    let owner = demo.client_at(HttpVersion::H1, [127, 0, 1, 8]);
    assert_eq!(
        log_in(&owner, &service.domain, "/", service.secret())
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn pages_work_without_script_and_may_not_be_framed_or_kept() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let answer = demo
        .client(HttpVersion::H1)
        .fetch(&service.domain, "/")
        .await
        .unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();

    assert!(header("content-type").starts_with("text/html"));
    assert!(header("cache-control").contains("no-store"));
    let policy = header("content-security-policy");
    assert!(
        policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"),
        "{policy}"
    );
    assert!(!answer.text().await.unwrap().contains("<script"));
}
