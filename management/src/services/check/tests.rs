use meshgate_proto::Secret;

use super::*;
use crate::services::input::{
    BearerInput, HeaderInput, OptionsInput, PasswordInput, RestrictionsInput, TargetInput,
};

/// A name and what is done wrong.
type Case<T> = (&'static str, fn(&mut T));

#[test]
fn the_least_that_is_needed_is_enough() {
    let checked = check(http()).unwrap();

    assert_eq!(checked.mode, ServiceMode::Http);
    assert_eq!(checked.domain.as_str(), "web.proxy.test");
    assert_eq!(checked.targets[0].protocol, TargetProtocol::Http);
}

#[test]
fn domains_are_folded_and_checked() {
    let mut input = http();
    input.domain = "WEB.Proxy.Test".to_owned();
    assert_eq!(check(input).unwrap().domain.as_str(), "web.proxy.test");

    for domain in ["", "bad domain.proxy.test", "*.proxy.test", "a..b", "a/b"] {
        let mut input = http();
        input.domain = domain.to_owned();
        refused(input, domain);
    }
}

#[test]
fn each_wrong_field_of_a_service_is_refused() {
    let cases: &[Case<ServiceInput>] = &[
        ("no name", |s| s.name.clear()),
        ("long name", |s| s.name = "x".repeat(256)),
        ("mode", |s| s.mode = "ftp".to_owned()),
        ("listen port", |s| s.listen_port = 8080),
        ("no targets", |s| s.targets.clear()),
        ("many targets", |s| s.targets = vec![peer(); 257]),
        ("private without groups", |s| s.private = true),
        ("private with bearer", |s| {
            s.private = true;
            s.access_groups = vec!["g".to_owned()];
            s.auth = Some(AuthInput {
                bearer_auth: Some(BearerInput {
                    enabled: true,
                    distribution_groups: Vec::new(),
                }),
                ..AuthInput::default()
            });
        }),
        ("long password", |s| s.auth = Some(password(&"x".repeat(4097)))),
        ("header name", |s| s.auth = Some(header("X K", "v"))),
        ("header host", |s| s.auth = Some(header("Host", "v"))),
        ("five secrets of one header", |s| {
            let mut auth = header("X-K", "v");
            auth.header_auths.extend(header("x-k", "w").header_auths);
            auth.header_auths.extend(auth.header_auths.clone());
            auth.header_auths.extend(header("X-k", "z").header_auths);
            s.auth = Some(auth);
        }),
        ("header value", |s| s.auth = Some(header("X-K", "a\r\nb"))),
    ];
    for (name, spoil) in cases {
        let mut input = http();
        spoil(&mut input);
        refused(input, name);
    }
}

#[test]
fn each_wrong_field_of_a_target_is_refused() {
    let cases: &[Case<TargetInput>] = &[
        ("no id", |t| t.target_id.clear()),
        ("type", |t| t.target_type = "cloud".to_owned()),
        ("port 0", |t| t.port = 0),
        ("port 70000", |t| t.port = 70_000),
        ("protocol ftp", |t| t.protocol = "ftp".to_owned()),
        ("protocol tcp", |t| t.protocol = "tcp".to_owned()),
        ("path without slash", |t| t.path = "api".to_owned()),
        ("path with query", |t| t.path = "/a?b".to_owned()),
        ("subnet without host", |t| t.target_type = "subnet".to_owned()),
        ("cluster without host", |t| {
            t.target_type = "cluster".to_owned();
            options(t).direct_upstream = true;
        }),
        ("cluster without direct", |t| {
            t.target_type = "cluster".to_owned();
            t.host = "127.0.0.1".to_owned();
        }),
        ("direct host with port", |t| {
            t.target_type = "cluster".to_owned();
            t.host = "127.0.0.1:80".to_owned();
            options(t).direct_upstream = true;
        }),
        ("proxy protocol", |t| options(t).proxy_protocol = true),
        ("path rewrite", |t| options(t).path_rewrite = "drop".to_owned()),
        ("timeout", |t| options(t).request_timeout = "soon".to_owned()),
        ("negative timeout", |t| {
            options(t).session_idle_timeout = "-1s".to_owned();
        }),
        ("host header", |t| set_header(t, "Host", "x")),
        ("hop header", |t| set_header(t, "Proxy-Authorization", "x")),
        ("our header", |t| set_header(t, "x-forwarded-for", "x")),
        ("header with line break", |t| set_header(t, "X-A", "a\r\nb")),
        ("header twice", |t| {
            set_header(t, "X-A", "1");
            set_header(t, "x-a", "2");
        }),
        ("many headers", |t| {
            for number in 0..17 {
                set_header(t, &format!("X-{number}"), "1");
            }
        }),
    ];
    for (name, spoil) in cases {
        let mut input = http();
        spoil(&mut input.targets[0]);
        refused(input, name);
    }
}

#[test]
fn services_below_http_have_rules_of_their_own() {
    let cases: &[Case<ServiceInput>] = &[
        ("two targets", |s| s.targets.push(peer())),
        ("path", |s| s.targets[0].path = "/x".to_owned()),
        ("headers", |s| set_header(&mut s.targets[0], "X-A", "1")),
        ("skip tls", |s| options(&mut s.targets[0]).skip_tls_verify = true),
        ("auth", |s| s.auth = Some(password("p"))),
        ("port too high", |s| s.listen_port = 70_000),
        ("negative port", |s| s.listen_port = -1),
        ("tls without port", |s| {
            s.mode = "tls".to_owned();
            s.listen_port = 0;
        }),
        ("udp with proxy protocol", |s| {
            s.mode = "udp".to_owned();
            options(&mut s.targets[0]).proxy_protocol = true;
        }),
        ("private", |s| {
            s.private = true;
            s.access_groups = vec!["g".to_owned()];
        }),
    ];
    for (name, spoil) in cases {
        let mut input = tcp();
        spoil(&mut input);
        refused(input, name);
    }
}

#[test]
fn a_target_below_http_is_always_enabled() {
    let mut input = tcp();
    input.targets[0].enabled = false;
    options(&mut input.targets[0]).proxy_protocol = true;

    let checked = check(input).unwrap();

    assert!(checked.targets[0].enabled);
    assert_eq!(checked.targets[0].protocol, TargetProtocol::Tcp);
    assert_eq!(checked.listen_port, 15_432);
}

#[test]
fn restrictions_are_checked_and_countries_are_capitals() {
    let good = RestrictionsInput {
        allowed_cidrs: vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()],
        allowed_countries: vec!["de".to_owned()],
        crowdsec_mode: "observe".to_owned(),
        ..RestrictionsInput::default()
    };
    let mut input = http();
    input.access_restrictions = Some(good.clone());
    let checked = check(input).unwrap();
    assert_eq!(checked.restrictions.allowed_countries, ["DE"]);
    assert!(checked.restrictions.to_rules().is_some());

    let cases: &[Case<RestrictionsInput>] = &[
        ("host bits", |r| r.blocked_cidrs = vec!["10.0.0.1/8".to_owned()]),
        ("no prefix", |r| r.blocked_cidrs = vec!["10.0.0.1".to_owned()]),
        ("no range", |r| r.allowed_cidrs = vec!["nonsense/8".to_owned()]),
        ("many ranges", |r| {
            r.allowed_cidrs = vec!["10.0.0.0/8".to_owned(); 201];
        }),
        ("country", |r| r.blocked_countries = vec!["DEU".to_owned()]),
        ("many countries", |r| {
            r.blocked_countries = vec!["DE".to_owned(); 51];
        }),
        ("crowdsec", |r| r.crowdsec_mode = "maybe".to_owned()),
    ];
    for (name, spoil) in cases {
        let mut restrictions = good.clone();
        spoil(&mut restrictions);
        let mut input = http();
        input.access_restrictions = Some(restrictions);
        refused(input, name);
    }
}

#[test]
fn an_error_names_the_target() {
    let mut input = http();
    input.targets.push(TargetInput { port: 0, ..peer() });

    let error = check(input).unwrap_err().to_string();

    assert!(error.starts_with("target 1: port"), "{error}");
}

fn refused(input: ServiceInput, name: &str) {
    match check(input) {
        Err(UseCaseError::Invalid(_)) => {}
        other => panic!("{name}: {other:?}"),
    }
}

fn http() -> ServiceInput {
    ServiceInput {
        name: "web".to_owned(),
        domain: "web.proxy.test".to_owned(),
        enabled: true,
        targets: vec![peer()],
        ..ServiceInput::default()
    }
}

fn tcp() -> ServiceInput {
    ServiceInput {
        mode: "tcp".to_owned(),
        listen_port: 15_432,
        ..http()
    }
}

fn peer() -> TargetInput {
    TargetInput {
        target_id: "p".to_owned(),
        target_type: "peer".to_owned(),
        port: 8000,
        enabled: true,
        ..TargetInput::default()
    }
}

fn options(target: &mut TargetInput) -> &mut OptionsInput {
    target.options.get_or_insert_default()
}

fn set_header(target: &mut TargetInput, name: &str, value: &str) {
    let headers = &mut options(target).custom_headers;
    headers.insert(name.to_owned(), value.to_owned());
}

fn password(text: &str) -> AuthInput {
    AuthInput {
        password_auth: Some(PasswordInput {
            enabled: true,
            password: Secret::from(text),
        }),
        ..AuthInput::default()
    }
}

fn header(name: &str, value: &str) -> AuthInput {
    AuthInput {
        header_auths: vec![HeaderInput {
            enabled: true,
            header: name.to_owned(),
            value: Secret::from(value),
        }],
        ..AuthInput::default()
    }
}
