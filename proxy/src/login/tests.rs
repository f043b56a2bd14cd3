use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE, UPGRADE};
use meshgate_proto::{
    AccountId, HeaderAuth, ManualClock, Mapping, Secret, ServiceId, SessionPublicKey, UnixTime,
};

use super::session::tests::{claims_at, guarded_route, key, token};
use super::*;
use crate::access::Identity;
use crate::routing::tests::{NoNetwork, mapping};
use crate::routing::{compile, unavailable};

const NOW: i64 = 1_800_000_000;

/// Checks nothing.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(
        &self,
        _: &ServiceId,
        _: &AccountId,
        _: Credential,
    ) -> Result<Option<Secret<String>>, CheckError> {
        Err(CheckError::Unreachable)
    }
}

/// Knows one secret, as management would, and counts how often it was asked.
#[derive(Debug, Default)]
struct Management {
    asked: AtomicUsize,
    failure: Option<CheckError>,
    token: Option<String>,
}

#[async_trait]
impl Authenticator for Management {
    async fn authenticate(
        &self,
        _: &ServiceId,
        _: &AccountId,
        credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let (method, secret) = match credential.shown {
            Shown::Password(secret) => ("password", secret),
            Shown::Pin(secret) => ("pin", secret),
            Shown::Header { value, .. } => ("header", value),
        };
        let token = self.token.clone().unwrap_or_else(|| {
            let mut claims = claims_at("app.test", NOW);
            claims["method"] = method.into();
            token(&claims)
        });
        Ok((secret.expose() == "1234").then(|| Secret::new(token)))
    }
}

struct Bench {
    login: Login,
    management: Arc<Management>,
    route: Route,
}

struct Pieces(VecDeque<Result<Bytes, BodyError>>);

#[async_trait]
impl BodySource for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.0.pop_front().transpose()
    }
}

impl Bench {
    fn new(management: Management) -> Self {
        let management = Arc::new(management);
        let clock = ManualClock::new(UnixTime::from_secs(NOW));
        let login = Login::new(Arc::<Management>::clone(&management), Arc::new(clock));
        Self {
            login,
            management,
            route: guarded_route(&key()),
        }
    }

    fn with(change: impl FnOnce(&mut Mapping)) -> Self {
        let mut mapping = mapping("s1", "app.test");
        mapping.auth.session_key = Some(SessionPublicKey(key().verifying_key().to_bytes()));
        change(&mut mapping);
        Self {
            route: compile(&mapping, 1, &NoNetwork).unwrap(),
            ..Self::new(Management::default())
        }
    }

    async fn post(&self, headers: &HeaderMap, pieces: &[&str]) -> Answer {
        let mut body = Pieces(
            pieces
                .iter()
                .map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes())))
                .collect(),
        );
        self.login
            .handle(
                &self.route,
                &request(&Method::POST, LOGIN_PATH, headers),
                &mut body,
            )
            .await
    }

    async fn get(&self, path: &str, headers: &HeaderMap) -> Verdict {
        self.login
            .authorize(&self.route, &request(&Method::GET, path, headers))
            .await
    }

    fn asked(&self) -> usize {
        self.management.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_stranger_gets_the_login_page_with_the_way_back() {
    let bench = Bench::new(Management::default());

    let Verdict::Answer(answer) = bench.get("/a?b=%22c", &HeaderMap::new()).await else {
        panic!("must answer");
    };

    let page = String::from_utf8(answer.response.body().to_vec()).unwrap();
    assert_eq!(answer.response.status(), 401);
    assert!(page.contains("name=\"pin\"") && page.contains("action=\"/.meshgate/login\""));
    assert!(page.contains("value=\"/a?b=%22c\""));
    assert_eq!(answer.response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn the_right_secret_begins_a_session_and_leads_back() {
    let bench = Bench::new(Management::default());

    let answer = bench
        .post(&form_headers(), &["return_to=%2Fa%3Fb%3D", "1&pin=1234"])
        .await;

    assert_eq!(answer.response.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.response.headers()[LOCATION], "/a?b=1");
    assert_eq!(answer.mechanism, "pin");
    let cookie = answer.response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=60"),
        "{cookie}"
    );

    let mut headers = HeaderMap::new();
    let pair = cookie.split(';').next().unwrap();
    headers.insert(COOKIE, format!("nb_session=planted; {pair}").parse().unwrap());
    let Verdict::Permit {
        permitted,
        set_cookie,
    } = bench.get("/", &headers).await
    else {
        panic!("must permit");
    };
    assert!(matches!(permitted.identity(), Identity::User(user) if user.id.as_str() == "u1"));
    assert!(set_cookie.is_none());
}

#[tokio::test]
async fn a_wrong_secret_shows_the_page_again() {
    let bench = Bench::new(Management::default());

    let answer = bench.post(&form_headers(), &["pin=0000"]).await;

    assert_eq!(answer.response.status(), 401);
    assert!(!answer.response.headers().contains_key(SET_COOKIE));
    assert!(String::from_utf8_lossy(answer.response.body()).contains("That PIN is not right"));
}

#[tokio::test]
async fn a_method_that_is_off_is_never_asked_about() {
    let bench = Bench::new(Management::default());

    let answer = bench.post(&form_headers(), &["password=1234"]).await;

    assert_eq!(answer.response.status(), 401);
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn other_sites_cannot_log_in() {
    let bench = Bench::new(Management::default());
    let mut headers = form_headers();
    headers.insert(ORIGIN, HeaderValue::from_static("https://evil.test"));

    let answer = bench.post(&headers, &["pin=1234"]).await;

    assert_eq!(answer.response.status(), 403);
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn bodies_are_counted_while_they_are_read() {
    let bench = Bench::new(Management::default());
    let piece = "a".repeat(9000);

    assert_eq!(
        bench
            .post(&form_headers(), &["pin=1234&x=", &piece, &piece])
            .await
            .response
            .status(),
        413
    );
    assert_eq!(
        bench
            .post(&HeaderMap::new(), &["pin=1234"])
            .await
            .response
            .status(),
        415
    );
    let mut cut = Pieces(VecDeque::from([
        Ok(Bytes::from_static(b"pin=1234")),
        Err(BodyError::TimedOut),
    ]));
    let headers = form_headers();
    let request = request(&Method::POST, LOGIN_PATH, &headers);
    let answer = bench.login.handle(&bench.route, &request, &mut cut).await;
    assert_eq!(answer.response.status(), 408);
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn without_management_nobody_gets_in_and_the_page_says_why() {
    for (failure, status) in [
        (CheckError::Unreachable, 503),
        (CheckError::Refused, 503),
        (CheckError::Exhausted, 429),
    ] {
        let bench = Bench::new(Management {
            failure: Some(failure),
            ..Management::default()
        });

        let answer = bench.post(&form_headers(), &["pin=1234"]).await;

        assert_eq!(answer.response.status(), status, "{failure}");
        assert!(!answer.response.headers().contains_key(SET_COOKIE));
    }
}

#[tokio::test]
async fn a_session_that_does_not_verify_begins_nothing() {
    let foreign = token(&claims_at("other.test", NOW));
    let bench = Bench::new(Management {
        token: Some(foreign),
        ..Management::default()
    });

    let answer = bench.post(&form_headers(), &["pin=1234"]).await;

    assert_eq!(answer.response.status(), 503);
    assert!(!answer.response.headers().contains_key(SET_COOKIE));
}

#[tokio::test]
async fn guessing_is_slowed_before_management_is_asked() {
    let bench = Bench::new(Management::default());

    for _ in 0..10 {
        assert_eq!(
            bench.post(&form_headers(), &["pin=0000"]).await.response.status(),
            401
        );
    }
    let answer = bench.post(&form_headers(), &["pin=1234"]).await;

    assert_eq!(answer.response.status(), 429);
    assert!(answer.response.headers().contains_key(RETRY_AFTER));
    assert_eq!(bench.asked(), 10);
}

#[tokio::test]
async fn outages_do_not_count_as_guesses() {
    let bench = Bench::new(Management {
        failure: Some(CheckError::Unreachable),
        ..Management::default()
    });

    for _ in 0..30 {
        assert_eq!(
            bench.post(&form_headers(), &["pin=1234"]).await.response.status(),
            503
        );
    }
}

#[tokio::test]
async fn the_way_back_never_leaves_the_host() {
    let bench = Bench::new(Management::default());

    let answer = bench
        .post(&form_headers(), &["return_to=%2F%2Fevil.test%2F&pin=1234"])
        .await;

    assert_eq!(answer.response.headers()[LOCATION], "/");
}

#[tokio::test]
async fn programs_get_short_answers() {
    let bench = Bench::new(Management::default());
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));

    let Verdict::Answer(answer) = bench.get("/", &headers).await else {
        panic!("must answer");
    };

    assert_eq!(answer.response.status(), 401);
    assert_eq!(answer.response.headers()[CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn paths_of_ours_are_answered_here() {
    let bench = Bench::new(Management::default());
    let open = Bench::with(|_| {});
    let none = HeaderMap::new();
    let ask = async |bench: &Bench, method: Method, path: &str| {
        let mut body = Pieces(VecDeque::new());
        let answer = bench
            .login
            .handle(&bench.route, &request(&method, path, &none), &mut body)
            .await;
        answer.response.status().as_u16()
    };

    assert_eq!(ask(&bench, Method::GET, "/.meshgate/login?x").await, 401);
    assert_eq!(ask(&bench, Method::DELETE, "/.meshgate/login").await, 405);
    assert_eq!(ask(&bench, Method::GET, "/.meshgate/other").await, 404);
    assert_eq!(ask(&open, Method::GET, "/.meshgate/login").await, 303);
    assert_eq!(
        open.post(&form_headers(), &["pin=1"]).await.response.status(),
        303
    );
}

#[tokio::test]
async fn a_header_secret_opens_without_a_detour() {
    let bench = Bench::with(|mapping| {
        mapping.auth.header_auths = vec![HeaderAuth {
            header: "X-Api-Key".into(),
            hashed_value: String::new(),
        }];
    });
    let sent = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static(value));
        headers
    };

    let Verdict::Permit { set_cookie, .. } = bench.get("/", &sent("1234")).await else {
        panic!("must permit");
    };
    assert!(set_cookie.is_some());
    for headers in [sent("0000"), HeaderMap::new()] {
        let Verdict::Answer(answer) = bench.get("/", &headers).await else {
            panic!("must answer");
        };
        assert_eq!(answer.response.status(), 401);
    }
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn pages_of_other_sites_cannot_open_a_websocket_with_the_cookie() {
    let guarded = Bench::new(Management::default());
    let open = Bench::with(|_| {});
    let cookie = format!("nb_session={}", token(&claims_at("app.test", NOW)));
    let upgrade = |origin: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(COOKIE, cookie.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    };

    for origin in ["https://evil.test", "https://other.app.test:8443", "null"] {
        let Verdict::Answer(answer) = guarded.get("/", &upgrade(Some(origin))).await else {
            panic!("must refuse {origin}");
        };
        assert_eq!(answer.response.status(), 403, "{origin}");
        assert!(matches!(
            open.get("/", &upgrade(Some(origin))).await,
            Verdict::Permit { .. }
        ));
    }
    for origin in [None, Some("https://app.test:8443")] {
        let verdict = guarded.get("/", &upgrade(origin)).await;
        assert!(matches!(verdict, Verdict::Permit { .. }), "{origin:?}");
    }
}

#[tokio::test]
async fn single_sign_on_alone_stays_closed() {
    let bench = Bench::with(|mapping| mapping.auth.oidc = true);

    let Verdict::Answer(answer) = bench.get("/", &HeaderMap::new()).await else {
        panic!("must answer");
    };

    assert_eq!(answer.response.status(), 503);
}

#[tokio::test]
async fn restrictions_come_before_logins() {
    let bench = Bench::with(|mapping| {
        mapping.auth.pin = true;
        mapping.restrictions.blocked_cidrs = vec!["192.0.2.0/24".parse().unwrap()];
    });

    let answer = bench.post(&form_headers(), &["pin=1234"]).await;

    assert_eq!(answer.response.status(), 403);
    assert_eq!(answer.mechanism, "ip_restricted");
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn an_unavailable_service_answers_so_everywhere() {
    let route = &Bench::with(|_| {}).route;
    let broken = unavailable(
        route.service_id.clone(),
        route.account_id.clone(),
        route.domain.clone(),
        "bad".into(),
    );
    let bench = Bench {
        route: broken,
        ..Bench::new(Management::default())
    };

    let Verdict::Answer(answer) = bench.get("/", &HeaderMap::new()).await else {
        panic!("must answer");
    };

    assert_eq!(answer.response.status(), 503);
    assert_eq!(
        bench.post(&form_headers(), &["pin=1234"]).await.response.status(),
        503
    );
}

fn request<'a>(method: &'a Method, path_and_query: &'a str, headers: &'a HeaderMap) -> LoginRequest<'a> {
    LoginRequest {
        method,
        path_and_query,
        authority: "app.test:8443",
        headers,
        client_ip: "192.0.2.1".parse().unwrap(),
        request_id: "r1",
    }
}

fn form_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ORIGIN, HeaderValue::from_static("https://app.test:8443"));
    headers
}
