//! Lines of the access log.

use std::time::Duration;

use super::InvalidMessage;
use super::time::unix_time;
use crate::pb::management as pb;
use crate::{AccessLog, AccessLogId, AccountId, ServiceId, UserId};

impl TryFrom<pb::AccessLog> for AccessLog {
    type Error = InvalidMessage;

    fn try_from(log: pb::AccessLog) -> Result<Self, InvalidMessage> {
        let timestamp = log
            .timestamp
            .ok_or_else(|| InvalidMessage::missing("log.timestamp"))?;
        let source_ip = match log.source_ip.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|e| InvalidMessage::because("log.source_ip", e))?,
            ),
        };
        Ok(Self {
            timestamp: unix_time("log.timestamp", &timestamp)?,
            id: AccessLogId::new(log.log_id),
            account_id: AccountId::new(log.account_id),
            service_id: ServiceId::new(log.service_id),
            host: log.host,
            path: log.path,
            duration: Duration::from_millis(count("log.duration_ms", log.duration_ms)?),
            method: log.method,
            response_code: u16::try_from(log.response_code)
                .map_err(|_| InvalidMessage::new("log.response_code", "is not a status code"))?,
            source_ip,
            auth_mechanism: log.auth_mechanism,
            user_id: UserId::new(log.user_id),
            auth_success: log.auth_success,
            bytes_upload: count("log.bytes_upload", log.bytes_upload)?,
            bytes_download: count("log.bytes_download", log.bytes_download)?,
            protocol: log.protocol,
            metadata: log.metadata.into_iter().collect(),
            agent_network: log.agent_network,
        })
    }
}

impl From<AccessLog> for pb::AccessLog {
    fn from(log: AccessLog) -> Self {
        Self {
            timestamp: Some(log.timestamp.into()),
            log_id: log.id.into_string(),
            account_id: log.account_id.into_string(),
            service_id: log.service_id.into_string(),
            host: log.host,
            path: log.path,
            duration_ms: i64::try_from(log.duration.as_millis()).unwrap_or(i64::MAX),
            method: log.method,
            response_code: i32::from(log.response_code),
            source_ip: log.source_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            auth_mechanism: log.auth_mechanism,
            user_id: log.user_id.into_string(),
            auth_success: log.auth_success,
            bytes_upload: i64::try_from(log.bytes_upload).unwrap_or(i64::MAX),
            bytes_download: i64::try_from(log.bytes_download).unwrap_or(i64::MAX),
            protocol: log.protocol,
            metadata: log.metadata.into_iter().collect(),
            agent_network: log.agent_network,
        }
    }
}

fn count(field: &'static str, value: i64) -> Result<u64, InvalidMessage> {
    u64::try_from(value).map_err(|_| InvalidMessage::new(field, "is negative"))
}
