use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_proto::{
    AccountId, Authentication, DomainName, Mapping, PathMapping, Restrictions, Secret, ServiceId,
    ServiceMode, TargetOptions,
};

use super::*;
use crate::upstream::{DialError, Dialer, Io, UpstreamAddress};

#[test]
fn a_published_route_is_found_by_host_and_path() {
    let mut table = RouteTable::default();
    table.put(route("s1", "app.test"), LiveConnections::Cut);

    assert!(table.shared().load().host("app.test").is_none());
    table.publish();

    let snapshot = table.shared().load_full();
    let found = snapshot.host("app.test").unwrap();
    assert_eq!(found.service_id.as_str(), "s1");
    assert_eq!(found.target("/x").unwrap().1, "");
    assert_eq!(snapshot.revision(), 1);
    assert_eq!(snapshot.routes().count(), 1);
}

#[test]
fn connections_end_only_after_the_new_snapshot_is_there() {
    let mut table = RouteTable::default();
    table.put(route("s1", "app.test"), LiveConnections::Cut);
    table.publish();
    let old = std::sync::Arc::clone(table.shared().load().host("app.test").unwrap());

    table.put(route("s1", "app.test"), LiveConnections::Keep);
    table.publish();
    assert!(!old.closed.is_cancelled());

    table.put(route("s1", "app.test"), LiveConnections::Cut);
    assert!(!old.closed.is_cancelled());
    table.publish();
    assert!(old.closed.is_cancelled());

    let new = std::sync::Arc::clone(table.shared().load().host("app.test").unwrap());
    assert!(!new.closed.is_cancelled());
    table.remove(&ServiceId::new("s1"));
    table.publish();
    assert!(new.closed.is_cancelled());
    assert!(table.shared().load().host("app.test").is_none());
}

#[test]
fn the_earlier_of_two_services_keeps_the_host_until_it_goes() {
    let mut table = RouteTable::default();
    let domain = DomainName::new("app.test").unwrap();
    table.put(route("s1", "app.test"), LiveConnections::Cut);
    table.put(route("s2", "app.test"), LiveConnections::Cut);
    table.publish();

    assert_eq!(
        table
            .shared()
            .load()
            .host("app.test")
            .unwrap()
            .service_id
            .as_str(),
        "s1"
    );
    assert_eq!(
        table.rival(&ServiceId::new("s2"), &domain),
        Some(&ServiceId::new("s1"))
    );
    assert_eq!(table.rival(&ServiceId::new("s1"), &domain), None);

    table.put(route("s1", "other.test"), LiveConnections::Cut);
    table.publish();

    let snapshot = table.shared().load_full();
    assert_eq!(snapshot.host("app.test").unwrap().service_id.as_str(), "s2");
    assert_eq!(snapshot.host("other.test").unwrap().service_id.as_str(), "s1");
}

#[test]
fn one_change_among_ten_thousand_hosts_copies_a_hundredth_at_most() {
    let mut table = RouteTable::default();
    for number in 0..10_000 {
        table.put(
            route(&format!("s{number}"), &format!("s{number}.test")),
            LiveConnections::Cut,
        );
    }
    table.publish();
    let mut before = table.shared().load_full();
    assert_eq!(before.routes().count(), 10_000);

    let changes: [fn(&mut RouteTable); 3] = [
        |table| table.put(route("new", "new.test"), LiveConnections::Cut),
        |table| table.put(route("s77", "s77.test"), LiveConnections::Keep),
        |table| table.remove(&ServiceId::new("s77")),
    ];
    for change in changes {
        change(&mut table);
        table.publish();
        let after = table.shared().load_full();
        let copied = after.copied_since(&before);
        assert!((1..=100).contains(&copied), "{copied}");
        before = after;
    }

    assert_eq!(before.routes().count(), 10_000);
    assert!(before.host("new.test").is_some() && before.host("s77.test").is_none());
}

#[test]
fn heirs_of_a_host_are_named_once() {
    let mut table = RouteTable::default();
    table.put(route("s1", "app.test"), LiveConnections::Cut);
    table.put(route("s2", "app.test"), LiveConnections::Cut);
    assert!(table.publish().is_empty());

    table.remove(&ServiceId::new("s1"));

    assert_eq!(table.publish(), [ServiceId::new("s2")]);
    assert!(table.publish().is_empty());
}

#[test]
fn modes_below_http_are_refused_by_name() {
    for mode in [ServiceMode::Tcp, ServiceMode::Udp, ServiceMode::Tls] {
        let mapping = Mapping {
            mode,
            ..mapping("s1", "app.test")
        };

        let error = compile(&mapping, 1, &NoNetwork).unwrap_err();

        assert_eq!(
            error.to_string(),
            format!("{} services are not supported yet", mode.as_str())
        );
    }
}

#[test]
fn a_bad_target_or_path_is_named() {
    let mut bad_target = mapping("s1", "app.test");
    bad_target.paths[0].target = "ftp://10.0.0.1/".into();
    let mut bad_path = mapping("s1", "app.test");
    bad_path.paths[0].path = "/a/../b".into();

    assert!(
        compile(&bad_target, 1, &NoNetwork)
            .unwrap_err()
            .to_string()
            .starts_with("path \"/\": ")
    );
    assert!(matches!(
        compile(&bad_path, 1, &NoNetwork),
        Err(Unservable::Path(_))
    ));
}

#[test]
fn a_service_without_paths_is_known_and_leads_nowhere() {
    let mapping = Mapping {
        paths: Vec::new(),
        ..mapping("s1", "app.test")
    };

    let route = compile(&mapping, 1, &NoNetwork).unwrap();

    assert!(route.target("/").is_none());
    assert_eq!(route.state, RouteState::Ready);
}

/// An open service with one target.
pub(crate) fn mapping(id: &str, domain: &str) -> Mapping {
    Mapping {
        id: ServiceId::new(id),
        account_id: AccountId::new("a1"),
        domain: DomainName::new(domain).unwrap(),
        mode: ServiceMode::Http,
        listen_port: 0,
        paths: vec![PathMapping {
            path: "/".into(),
            target: "http://100.64.0.1:8080/".into(),
            options: TargetOptions {
                custom_headers: BTreeMap::new(),
                ..TargetOptions::default()
            },
        }],
        auth_token: Secret::from("token"),
        auth: Authentication {
            max_session_age: Duration::from_hours(24),
            ..Authentication::default()
        },
        restrictions: Restrictions::default(),
        pass_host_header: false,
        rewrite_redirects: false,
        private: false,
    }
}

/// The route of [`mapping`].
pub(crate) fn route(id: &str, domain: &str) -> Route {
    compile(&mapping(id, domain), 1, &NoNetwork).unwrap()
}

/// Reaches nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoNetwork;

impl DialerSource for NoNetwork {
    fn dialer(&self, _: &AccountId, _: Network) -> std::sync::Arc<dyn Dialer> {
        std::sync::Arc::new(Self)
    }
}

#[async_trait]
impl Dialer for NoNetwork {
    async fn dial(&self, _: &UpstreamAddress, _: Duration) -> Result<Box<dyn Io>, DialError> {
        Err(DialError::NoRoute)
    }
}
