//! Status updates and access logs.

use futures::StreamExt as _;
use meshgate_proto::ServiceStatus;
use meshgate_proto::pb::management as pb;
use tonic::Code;

use super::harness::{PATIENCE, Plane, account_text};
use crate::grpc::proxy_service::ProxySettings;

#[tokio::test]
async fn status_message_and_certificate_are_kept() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let record = plane.service(&account, "a.proxy.test", &peer);
    plane.store(&record).await;
    let token = plane.token(Some(&account)).await;
    let mut client = plane.client(&token.text);
    let update = |status: pb::ProxyStatus| pb::SendStatusUpdateRequest {
        service_id: record.service.id.to_string(),
        account_id: account_text(&account),
        status: status.into(),
        ..Default::default()
    };
    let stored = || async {
        let record = plane
            .world
            .state
            .store
            .service(&account.scope, &record.service.id)
            .await
            .unwrap()
            .unwrap();
        (
            record.service.status,
            record.service.status_message,
            record.service.certificate_issued_at,
        )
    };

    let mut failed = update(pb::ProxyStatus::CertificateFailed);
    failed.error_message = Some("boom".to_owned());
    client.send_status_update(failed).await.unwrap();
    assert_eq!(
        stored().await,
        (ServiceStatus::CertificateFailed, "boom".to_owned(), None)
    );
    let mut active = update(pb::ProxyStatus::Active);
    active.certificate_issued = true;
    client.send_status_update(active).await.unwrap();
    assert_eq!(
        stored().await,
        (ServiceStatus::Active, String::new(), Some(plane.world.now()))
    );

    let unknown = pb::SendStatusUpdateRequest {
        service_id: "nope".to_owned(),
        ..update(pb::ProxyStatus::Active)
    };
    assert_eq!(
        client.send_status_update(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
    let empty = pb::SendStatusUpdateRequest {
        service_id: String::new(),
        ..update(pb::ProxyStatus::Active)
    };
    assert_eq!(
        client.send_status_update(empty).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_flood_of_access_logs_is_written_in_few_transactions() {
    const ENTRIES: usize = 10_000;
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let token = plane.token(Some(&account)).await;
    let client = plane.client(&token.text);
    let log = |n: usize| pb::AccessLog {
        log_id: format!("log-{n}"),
        account_id: account_text(&account),
        service_id: "svc".to_owned(),
        host: "a.proxy.test".to_owned(),
        path: "/".to_owned(),
        method: "GET".to_owned(),
        response_code: 200,
        source_ip: "192.0.2.1".to_owned(),
        auth_success: true,
        protocol: "http".to_owned(),
        ..Default::default()
    };

    let flood = futures::stream::iter(0..ENTRIES).for_each_concurrent(64, |n| {
        let mut client = client.clone();
        let log = Some(log(n));
        async move {
            client
                .send_access_log(pb::SendAccessLogRequest { log })
                .await
                .unwrap();
        }
    });
    let api = async {
        for _ in 0..50 {
            plane
                .world
                .state
                .store
                .proxy_tokens(&account.scope)
                .await
                .unwrap();
            plane.token(None).await;
        }
    };
    tokio::join!(flood, api);
    let logs = plane.side.access_logs();
    let written = async {
        while logs.stats().written < logs.stats().accepted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();

    let stats = logs.stats();
    assert_eq!(stats.accepted + stats.dropped, ENTRIES as u64);
    assert_eq!((stats.failed, stats.dropped), (0, 0));
    assert!(stats.transactions * 10 <= ENTRIES as u64, "{stats:?}");
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM access_log_entries WHERE account_id = $1")
        .bind(account_text(&account))
        .fetch_one(plane.world.state.store.reader())
        .await
        .unwrap();
    assert_eq!(usize::try_from(rows), Ok(ENTRIES));
}

#[tokio::test]
async fn entries_of_nobody_are_let_go_and_nonsense_is_refused() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let shared = plane.token(None).await;
    let mut client = plane.client(&shared.text);

    client
        .send_access_log(pb::SendAccessLogRequest {
            log: Some(pb::AccessLog::default()),
        })
        .await
        .unwrap();
    assert_eq!(plane.side.access_logs().stats().accepted, 0);

    let bad = pb::AccessLog {
        account_id: account_text(&account),
        source_ip: "nonsense".to_owned(),
        ..Default::default()
    };
    let refused = client
        .send_access_log(pb::SendAccessLogRequest { log: Some(bad) })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn entries_that_come_together_are_taken_or_refused_each_for_itself() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let shared = plane.token(None).await;
    let mut client = plane.client(&shared.text);
    let good = pb::AccessLog {
        account_id: account_text(&account),
        ..Default::default()
    };
    let bad = pb::AccessLog {
        source_ip: "nonsense".to_owned(),
        ..good.clone()
    };
    let mut send = async |logs: Vec<pb::AccessLog>| {
        let sent = client.send_access_logs(pb::SendAccessLogsRequest { logs }).await;
        sent.map(|answer| answer.into_inner().refused)
            .map_err(|status| status.code())
    };

    assert_eq!(send(vec![good.clone(), bad.clone(), good.clone()]).await, Ok(1));
    assert_eq!(send(vec![bad.clone(), bad]).await, Err(Code::InvalidArgument));
    assert_eq!(send(vec![]).await, Ok(0));
    assert_eq!(send(vec![good; 513]).await, Err(Code::InvalidArgument));
    assert_eq!(plane.side.access_logs().stats().accepted, 2);
}

#[tokio::test]
async fn language_model_calls_are_not_there() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;
    let mut client = plane.client(&token.text);

    let check = client
        .check_llm_policy_limits(pb::CheckLlmPolicyLimitsRequest::default())
        .await
        .unwrap_err();
    let record = client
        .record_llm_usage(pb::RecordLlmUsageRequest::default())
        .await
        .unwrap_err();

    assert_eq!(
        (check.code(), record.code()),
        (Code::Unimplemented, Code::Unimplemented)
    );
}
