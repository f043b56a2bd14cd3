//! The recorded mappings of NetBird's management are the reference: the services behind them are built here,
//! and what comes out must be the same bytes. Ids, keys, hashes and tokens are taken from the recording.

use std::collections::BTreeMap;
use std::time::Duration;

use meshgate_proto::pb::management as pb;
use meshgate_proto::{
    AccountId, DomainName, GroupId, MappingBatch, MappingChange, ServiceId, ServiceStatus, TargetId, UnixTime,
};
use prost::Message as _;

use super::*;
use crate::store::service_records::{
    BearerAuth, ServiceSource, StoredHeader, StoredOptions, StoredRestrictions, StoredSecret,
};

const PEER: &str = "peer-1";

#[test]
fn the_mappings_are_those_of_netbird_to_the_byte() {
    let mut compared = 0;
    for (name, bytes) in recorded() {
        let message = pb::SyncMappingsResponse::decode(bytes.as_slice()).unwrap();
        for mapping in &message.mapping {
            if mapping.r#type() == pb::ProxyMappingUpdateType::UpdateTypeRemoved {
                continue;
            }
            let ours = change(&name, mapping);
            let ours = MappingBatch {
                changes: vec![ours],
                ..MappingBatch::default()
            };
            let ours = pb::SyncMappingsResponse::from(ours);
            assert_eq!(ours, message, "{name}");
            assert_eq!(ours.encode_to_vec(), bytes, "{name}");
            compared += 1;
        }
    }

    assert_eq!(compared, 20);
}

#[test]
fn proxies_get_only_what_they_can_serve() {
    let private = ServiceRow {
        private: true,
        ..row(&http("priv.proxy.test"))
    };
    let port = |mode| ServiceRow {
        mode,
        listen_port: 5000,
        ..row(&http("l4.proxy.test"))
    };
    let gets = |service: ServiceRow, capabilities| {
        let record = ServiceRecord {
            service,
            targets: Vec::new(),
        };
        desired_mapping(
            &record,
            &hosts(),
            &ProxyView {
                capabilities,
                ..view()
            },
        )
        .is_some()
    };
    let silent = ProxyCapabilities::default();
    let says_no = ProxyCapabilities {
        custom_ports: Some(false),
        private_services: Some(false),
        ..silent
    };
    let says_yes = ProxyCapabilities {
        custom_ports: Some(true),
        private_services: Some(true),
        ..silent
    };

    assert_eq!(
        [silent, says_no, says_yes].map(|c| gets(private.clone(), c)),
        [false, false, true]
    );
    assert_eq!(
        [silent, says_no, says_yes].map(|c| gets(port(ServiceMode::Tcp), c)),
        [false, true, true]
    );
    assert_eq!(
        [silent, says_no, says_yes].map(|c| gets(port(ServiceMode::Tls), c)),
        [true, true, true]
    );
}

#[test]
fn what_is_off_foreign_or_broken_is_not_served() {
    let service = row(&http("a.proxy.test"));
    let broken_rules = StoredRestrictions {
        allowed_cidrs: vec!["10.0.0.1/8".to_owned()],
        ..Default::default()
    };
    let cases = [
        ServiceRow {
            enabled: false,
            ..service.clone()
        },
        ServiceRow {
            terminated: true,
            ..service.clone()
        },
        ServiceRow {
            proxy_cluster: "other.test".to_owned(),
            ..service.clone()
        },
        ServiceRow {
            session_public_key: "AAAA".to_owned(),
            ..service.clone()
        },
        ServiceRow {
            restrictions: broken_rules,
            ..service.clone()
        },
    ];

    for service in cases {
        let record = ServiceRecord {
            service,
            targets: Vec::new(),
        };
        assert!(desired_mapping(&record, &hosts(), &view()).is_none());
    }
    let record = ServiceRecord {
        service,
        targets: Vec::new(),
    };
    let foreign = ProxyView {
        account: Some(AccountId::new("other")),
        ..view()
    };
    assert!(desired_mapping(&record, &hosts(), &foreign).is_none());
    assert!(desired_mapping(&record, &hosts(), &view()).is_some());
}

#[test]
fn targets_without_a_peer_or_switched_off_are_left_out() {
    let mapping = http("a.proxy.test");
    let gone = TargetRow {
        target_id: "gone".to_owned(),
        ..target("/gone", TargetProtocol::Http, 80)
    };
    let off = TargetRow {
        enabled: false,
        ..target("/off", TargetProtocol::Http, 80)
    };
    let v6 = TargetRow {
        target_type: TargetType::Subnet,
        host: "2001:db8::1".to_owned(),
        ..target("", TargetProtocol::Http, 8080)
    };
    let record = ServiceRecord {
        service: row(&mapping),
        targets: vec![gone, off, v6],
    };

    let mapping = desired_mapping(&record, &hosts(), &view()).unwrap();

    let paths: Vec<_> = mapping
        .paths
        .iter()
        .map(|path| (path.path.as_str(), path.target.as_str()))
        .collect();
    assert_eq!(paths, [("/", "http://[2001:db8::1]:8080/")]);
}

/// The change that the service behind a recorded mapping makes.
fn change(name: &str, recorded: &pb::ProxyMapping) -> MappingChange {
    let record = service(name, recorded);
    let mut mapping = desired_mapping(&record, &hosts(), &view()).unwrap();
    mapping.auth_token = recorded.auth_token.clone().into();
    match recorded.r#type() {
        pb::ProxyMappingUpdateType::UpdateTypeModified => MappingChange::Modified(Box::new(mapping)),
        _ => MappingChange::Created(Box::new(mapping)),
    }
}

#[expect(clippy::too_many_lines, reason = "a table of recorded services")]
fn service(name: &str, recorded: &pb::ProxyMapping) -> ServiceRecord {
    use TargetProtocol::{Http, Https, Tcp, Udp};
    let mut service = row(recorded);
    let mut targets = vec![target("/", Http, 7777)];
    let on = || {
        Some(StoredSecret {
            enabled: true,
            hash: "h".to_owned(),
        })
    };
    let below_http = |protocol, port| vec![target("", protocol, port)];
    match (name, recorded.domain.as_str()) {
        (_, "two.proxy.test") => {
            service.pass_host_header = true;
            service.rewrite_redirects = true;
            let options = StoredOptions {
                skip_tls_verify: true,
                request_timeout: seconds(30),
                preserve_path: true,
                custom_headers: BTreeMap::from([("X-One".to_owned(), "1".to_owned())]),
                ..StoredOptions::default()
            };
            targets.push(TargetRow {
                options,
                ..target("/api", Https, 8443)
            });
        }
        ("proxy_mappings_modify_disable_delete 19", "pin.proxy.test") => {
            service.auth.password = on();
            service.auth.pin = on();
        }
        (_, "pin.proxy.test") => {
            service.auth.password = Some(StoredSecret {
                enabled: false,
                hash: String::new(),
            });
            service.auth.pin = on();
        }
        (_, "pw.proxy.test") => service.auth.password = on(),
        (_, "hdr.proxy.test") => {
            let recorded = recorded.auth.as_ref().unwrap().header_auths.iter();
            let header = |header: &pb::HeaderAuth, enabled| StoredHeader {
                enabled,
                header: header.header.clone(),
                hash: header.hashed_value.clone(),
            };
            service.auth.headers = recorded.clone().map(|h| header(h, true)).collect();
            service.auth.headers.extend(recorded.map(|h| header(h, false)));
        }
        (_, "sso.proxy.test") => {
            service.auth.bearer = Some(BearerAuth {
                enabled: true,
                groups: vec![GroupId::new("g")],
            });
        }
        (_, "priv.proxy.test") => service.private = true,
        (_, "privc.proxy.test") => {
            service.private = true;
            let options = StoredOptions {
                direct_upstream: true,
                ..StoredOptions::default()
            };
            targets = vec![TargetRow {
                options,
                ..resource(TargetType::Cluster, "10.99.2.2", Http, 7777)
            }];
        }
        (_, "tcp.proxy.test") => {
            (service.mode, service.listen_port) = (ServiceMode::Tcp, 15_432);
            let options = StoredOptions {
                request_timeout: seconds(10),
                proxy_protocol: true,
                session_idle_timeout: seconds(120),
                ..StoredOptions::default()
            };
            targets = vec![TargetRow {
                options,
                ..target("", Tcp, 7777)
            }];
        }
        (_, "tls.proxy.test") => {
            (service.mode, service.listen_port) = (ServiceMode::Tls, 8443);
            targets = below_http(Tcp, 443);
        }
        (_, "udp.proxy.test") => {
            (service.mode, service.listen_port) = (ServiceMode::Udp, 15_353);
            let options = StoredOptions {
                session_idle_timeout: seconds(30),
                ..StoredOptions::default()
            };
            targets = vec![TargetRow {
                options,
                ..target("", Udp, 53)
            }];
        }
        (_, "tcp0.proxy.test") => {
            (service.mode, service.listen_port) = (ServiceMode::Tcp, 19_117);
            targets = below_http(Tcp, 22);
        }
        (_, "th.proxy.test") => targets = vec![resource(TargetType::Host, "172.20.6.9/32", Http, 80)],
        (_, "td.proxy.test") => targets = vec![resource(TargetType::Domain, "app.internal.test", Https, 443)],
        (_, "ts.proxy.test") => targets = vec![resource(TargetType::Subnet, "172.20.5.7", Http, 8080)],
        (_, "res.proxy.test") => {
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            service.restrictions = StoredRestrictions {
                allowed_cidrs: texts(&["10.0.0.0/8"]),
                blocked_cidrs: texts(&["10.1.0.0/16"]),
                allowed_countries: texts(&["DE", "CH"]),
                blocked_countries: texts(&["US"]),
                crowdsec_mode: "off".to_owned(),
            };
        }
        ("proxy_mappings_modify_disable_delete 0", "open.proxy.test") => {
            targets.push(target("/x", Http, 7777));
        }
        ("proxy_mappings_modify_disable_delete 8", "open2.proxy.test") => targets[0].enabled = false,
        (_, "open.proxy.test" | "open2.proxy.test") => {}
        other => panic!("no service for {other:?}"),
    }
    ServiceRecord { service, targets }
}

fn seconds(seconds: u64) -> u64 {
    u64::try_from(Duration::from_secs(seconds).as_nanos()).unwrap()
}

fn recorded() -> Vec<(String, Vec<u8>)> {
    let lines = include_str!("../../../../tests/fixtures/recorded_mappings.jsonl").lines();
    lines
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = format!("{} {}", row["file"].as_str().unwrap(), row["seq"]);
            (name, bytes(row["hex"].as_str().unwrap()))
        })
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn view() -> ProxyView {
    ProxyView {
        account: None,
        cluster: "proxy.test".to_owned(),
        capabilities: ProxyCapabilities {
            custom_ports: Some(true),
            private_services: Some(true),
            ..ProxyCapabilities::default()
        },
    }
}

fn hosts() -> TargetHosts {
    let mut hosts = TargetHosts::default();
    hosts.insert(PEER.to_owned(), "100.118.36.8".parse().unwrap());
    hosts
}

fn http(domain: &str) -> pb::ProxyMapping {
    let auth = pb::Authentication {
        session_key: STANDARD.encode([1; 32]),
        ..pb::Authentication::default()
    };
    pb::ProxyMapping {
        domain: domain.to_owned(),
        auth: Some(auth),
        ..pb::ProxyMapping::default()
    }
}

fn row(recorded: &pb::ProxyMapping) -> ServiceRow {
    ServiceRow {
        id: ServiceId::new(&*recorded.id),
        account_id: AccountId::new(&*recorded.account_id),
        name: "service".to_owned(),
        domain: DomainName::new(&recorded.domain).unwrap(),
        proxy_cluster: "proxy.test".to_owned(),
        enabled: true,
        terminated: false,
        pass_host_header: false,
        rewrite_redirects: false,
        auth: ServiceAuth::default(),
        restrictions: StoredRestrictions::default(),
        created_at: UnixTime::EPOCH,
        certificate_issued_at: None,
        status: ServiceStatus::Pending,
        status_message: String::new(),
        last_renewed_at: None,
        session_private_key: String::new(),
        session_public_key: recorded.auth.as_ref().unwrap().session_key.clone(),
        source: ServiceSource::Permanent,
        source_peer: None,
        mode: ServiceMode::Http,
        listen_port: 0,
        port_auto_assigned: false,
        private: false,
        access_groups: Vec::new(),
    }
}

fn target(path: &str, protocol: TargetProtocol, port: u16) -> TargetRow {
    TargetRow {
        id: TargetId::new("target"),
        account_id: AccountId::new("account"),
        service_id: ServiceId::new("service"),
        path: path.to_owned(),
        host: String::new(),
        port,
        protocol,
        target_id: PEER.to_owned(),
        target_type: TargetType::Peer,
        enabled: true,
        options: StoredOptions::default(),
    }
}

fn resource(target_type: TargetType, host: &str, protocol: TargetProtocol, port: u16) -> TargetRow {
    TargetRow {
        target_type,
        host: host.to_owned(),
        ..target("/", protocol, port)
    }
}
