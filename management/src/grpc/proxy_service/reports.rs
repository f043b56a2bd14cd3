//! What proxies report: how services fare, and finished requests.

use std::collections::BTreeMap;

use meshgate_proto::pb::management as pb;
use meshgate_proto::{AccessLog, AccessLogId, AccountId, ServiceStatus, StatusUpdate, UnixTime, Xid};
use tonic::Status;

use super::{ProxySide, invalid};
use crate::grpc::proxy_auth::ProxyCaller;
use crate::store::access_logs::AccessLogRow;
use crate::store::service_statuses::StatusReport;

/// Entries in one message.
const MAX_LOGS: usize = 512;
const MAX_MESSAGE: usize = 1024;
const MAX_ID: usize = 64;
const MAX_WORD: usize = 64;
const MAX_HOST: usize = 255;
const MAX_PATH: usize = 2048;
const MAX_METADATA: usize = 16;
const MAX_METADATA_TEXT: usize = 128;

/// Notes how a service fares on a proxy.
pub(super) async fn status(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: pb::SendStatusUpdateRequest,
) -> Result<pb::SendStatusUpdateResponse, Status> {
    if message.service_id.is_empty() || message.account_id.is_empty() {
        return Err(Status::invalid_argument("service_id and account_id are required"));
    }
    let update = StatusUpdate::try_from(message).map_err(invalid)?;
    let scope = caller.scope_of(&update.account_id)?;
    let message = if update.status == ServiceStatus::Active {
        String::new()
    } else {
        cut(update.error_message.unwrap_or_default(), MAX_MESSAGE)
    };
    let report = StatusReport {
        account: scope.account().clone(),
        service: update.service_id.clone(),
        status: update.status,
        message,
        certificate_issued_at: update.certificate_issued.then(|| side.state.clock.now()),
    };
    let noted = side.statuses.note(report).await;
    if noted.map_err(|error| Status::unavailable(error.to_string()))? {
        Ok(pb::SendStatusUpdateResponse {})
    } else {
        Err(Status::not_found(format!(
            "service {} not found",
            cut(update.service_id.to_string(), MAX_ID)
        )))
    }
}

/// Queues an access log entry.
pub(super) fn access_log(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: pb::SendAccessLogRequest,
) -> Result<pb::SendAccessLogResponse, Status> {
    queue(side, caller, message.log.unwrap_or_default())?;
    Ok(pb::SendAccessLogResponse {})
}

/// Queues several access log entries. One that is refused does not hold up the others.
pub(super) fn access_logs(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: pb::SendAccessLogsRequest,
) -> Result<pb::SendAccessLogsResponse, Status> {
    let sent = message.logs.len();
    if sent > MAX_LOGS {
        return Err(Status::invalid_argument(format!(
            "{sent} entries in one message; at most {MAX_LOGS} are taken"
        )));
    }
    let mut refused = 0;
    let mut first = None;
    for log in message.logs {
        if let Err(status) = queue(side, caller, log) {
            refused += 1;
            first.get_or_insert(status);
        }
    }
    match first {
        Some(status) if refused == sent => Err(status),
        _ => Ok(pb::SendAccessLogsResponse {
            refused: u32::try_from(refused).unwrap_or(u32::MAX),
        }),
    }
}

/// Entries of unknown hosts carry no account: of a proxy that serves everybody they are nobody's and are let go.
fn queue(side: &ProxySide, caller: &ProxyCaller, mut log: pb::AccessLog) -> Result<(), Status> {
    let now = side.state.clock.now();
    let account = AccountId::new(log.account_id.clone());
    if account.is_empty() && caller.account().is_none() {
        return Ok(());
    }
    caller.scope_of(&account)?;
    log.timestamp.get_or_insert_with(|| now.into());
    let log = AccessLog::try_from(log).map_err(invalid)?;
    side.access_logs.push(entry(log, now));
    Ok(())
}

/// Texts are cut to sane lengths, so that the queue's memory is bounded; a time ahead of ours becomes ours, so
/// that no entry outlives its time.
fn entry(log: AccessLog, now: UnixTime) -> AccessLogRow {
    let reason = reason(&log);
    let id = if log.id.is_empty() || log.id.as_str().len() > MAX_ID {
        AccessLogId::from(Xid::generate(now))
    } else {
        log.id
    };
    let metadata: BTreeMap<String, String> = log
        .metadata
        .into_iter()
        .take(MAX_METADATA)
        .map(|(name, value)| (cut(name, MAX_METADATA_TEXT), cut(value, MAX_METADATA_TEXT)))
        .collect();
    AccessLogRow {
        id,
        account_id: log.account_id,
        service_id: meshgate_proto::ServiceId::new(cut(log.service_id.into_string(), MAX_ID)),
        timestamp: log.timestamp.min(now),
        method: cut(log.method, MAX_WORD),
        host: cut(log.host, MAX_HOST),
        path: cut(log.path, MAX_PATH),
        duration_nanos: i64::try_from(log.duration.as_nanos()).unwrap_or(i64::MAX),
        status_code: log.response_code,
        source_ip: log
            .source_ip
            .map(|address| address.to_string())
            .unwrap_or_default(),
        reason: reason.to_owned(),
        user_id: cut(log.user_id.into_string(), MAX_HOST),
        auth_method_used: cut(log.auth_mechanism, MAX_WORD),
        country_code: String::new(),
        city_name: String::new(),
        subdivision_code: String::new(),
        bytes_upload: log.bytes_upload,
        bytes_download: log.bytes_download,
        protocol: cut(log.protocol, MAX_WORD),
        metadata,
        agent_network: log.agent_network,
    }
}

fn reason(log: &AccessLog) -> &'static str {
    if !log.auth_success {
        "Authentication failed"
    } else if log.response_code >= 400 {
        "Request failed"
    } else {
        ""
    }
}

/// At most `limit` bytes of a text, cut between characters.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aäb".to_owned(), 2), "a");
        assert_eq!(cut("aäb".to_owned(), 3), "aä");
        assert_eq!(cut("aäb".to_owned(), 4), "aäb");
        assert_eq!(cut("ä".to_owned(), 0), "");
    }

    #[test]
    fn a_huge_entry_becomes_a_small_one_of_today() {
        let long = "x".repeat(1_000_000);
        let now = UnixTime::from_secs(1_000);
        let message = pb::AccessLog {
            timestamp: Some(UnixTime::from_secs(1_000_000).into()),
            log_id: long.clone(),
            account_id: "acc".to_owned(),
            service_id: long.clone(),
            host: long.clone(),
            path: long.clone(),
            method: long.clone(),
            metadata: (0..100).map(|n| (format!("{n}{long}"), long.clone())).collect(),
            response_code: 404,
            auth_success: true,
            ..pb::AccessLog::default()
        };

        let row = entry(AccessLog::try_from(message).unwrap(), now);

        assert_eq!(row.id.as_str().len(), 20);
        assert_eq!(row.timestamp, now);
        assert_eq!(row.reason, "Request failed");
        let texts = row.host.len() + row.path.len() + row.method.len() + row.service_id.as_str().len();
        assert!(texts < 3_000);
        assert_eq!(row.metadata.len(), 16);
    }
}
