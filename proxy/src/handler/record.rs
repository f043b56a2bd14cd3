//! Notes on one request, from which its line in the access log is made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use meshgate_proto::{AccessLog, AccessLogId, AccountId, ServiceId, UnixTime, UserId};
use tokio::time::Instant;

use super::path::RequestPath;
use crate::access::Permitted;
use crate::routing::Route;
use crate::upstream::Target;

/// Longest text of a client in a line.
const MAX_TEXT: usize = 1024;

/// Status of a request that ended without an answer, as nginx made it common.
const CLIENT_GONE: u16 = 499;

/// Notes on one request.
#[derive(Debug)]
pub(crate) struct Record {
    id: AccessLogId,
    begun: Instant,
    host: String,
    path: String,
    method: String,
    account: AccountId,
    service: ServiceId,
    user: UserId,
    wanted: bool,
    turned_away: bool,
    /// The client, as the edge believes it.
    pub(crate) source_ip: Option<IpAddr>,
    /// Scheme or rule that decided.
    pub(crate) mechanism: String,
    /// Status of the answer; 0 while there is none.
    pub(crate) status: u16,
    /// Body bytes from the client.
    pub(crate) upload: u64,
    /// Body bytes to the client.
    pub(crate) download: u64,
}

impl Record {
    /// Notes on a request that begins now.
    pub(crate) fn new(id: AccessLogId) -> Self {
        Self {
            id,
            begun: Instant::now(),
            host: String::new(),
            path: String::new(),
            method: String::new(),
            account: AccountId::new(""),
            service: ServiceId::new(""),
            user: UserId::new(""),
            wanted: true,
            turned_away: false,
            source_ip: None,
            mechanism: String::new(),
            status: 0,
            upload: 0,
            download: 0,
        }
    }

    /// The id of the request.
    pub(crate) fn id(&self) -> &AccessLogId {
        &self.id
    }

    /// Host and port as asked; empty while unknown.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The service, once there is one.
    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(super) fn note_head(&mut self, head: &Parts) {
        self.method = shortened(head.method.as_str());
        self.path = shortened(head.uri.path());
    }

    pub(super) fn note_asked(&mut self, authority: &Authority, path: &RequestPath) {
        authority.as_str().clone_into(&mut self.host);
        if self.path != path.as_sent() {
            self.path = shortened(path.as_sent());
        }
    }

    pub(super) fn note_route(&mut self, route: &Route) {
        self.account = route.account_id.clone();
        self.service = route.service_id.clone();
    }

    pub(super) fn note_permit(&mut self, permitted: &Permitted) {
        permitted.mechanism().clone_into(&mut self.mechanism);
        self.user = permitted.user_id();
    }

    /// The login answered instead of the service.
    pub(super) fn note_turned_away(&mut self) {
        self.turned_away = true;
    }

    pub(super) fn note_target(&mut self, target: &Target) {
        self.wanted = !target.spec().options.disable_access_log;
    }

    /// The line, unless the target wants none.
    pub(super) fn into_line(self, now: UnixTime) -> Option<AccessLog> {
        self.wanted.then(|| AccessLog {
            timestamp: now,
            id: self.id,
            account_id: self.account,
            service_id: self.service,
            host: host_only(&self.host).to_owned(),
            path: self.path,
            duration: self.begun.elapsed(),
            method: self.method,
            response_code: match self.status {
                0 => CLIENT_GONE,
                status => status,
            },
            source_ip: self.source_ip,
            auth_mechanism: self.mechanism,
            user_id: self.user,
            auth_success: !self.turned_away && !matches!(self.status, 401 | 403),
            bytes_upload: self.upload,
            bytes_download: self.download,
            protocol: "http".to_owned(),
            metadata: BTreeMap::new(),
            agent_network: false,
        })
    }
}

fn host_only(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use meshgate_proto::Xid;

    use super::*;

    fn line(status: u16, turned_away: bool) -> AccessLog {
        let now = UnixTime::from_secs(1);
        let mut record = Record::new(AccessLogId::from(Xid::generate(now)));
        record.status = status;
        if turned_away {
            record.note_turned_away();
        }
        record.into_line(now).unwrap()
    }

    #[test]
    fn a_guess_that_has_to_wait_is_no_success() {
        assert!(!line(429, true).auth_success);
        assert!(!line(401, true).auth_success);
        assert!(line(429, false).auth_success);
    }

    #[test]
    fn a_request_without_an_answer_has_a_status() {
        assert_eq!(line(0, false).response_code, 499);
    }
}
