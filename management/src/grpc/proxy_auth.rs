//! Who calls the proxy service: bearer tokens, and a limit on callers who fail.
//!
//! The token is looked up before anything is limited, so a known token always opens: bad neighbours behind the
//! same address only use up the tries of further bad tokens.

mod known;

use std::collections::HashMap;
use std::convert::Infallible;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, header};
use meshgate_proto::token::{InvalidToken, Token, TokenKind};
use meshgate_proto::{AccountId, TokenId, UnixTime};
use parking_lot::Mutex;
use tonic::Status;
use tonic::server::NamedService;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use crate::actor::Scope;
use crate::state::State;
use crate::store::StoreError;
use crate::throttle::{Rate, Throttle, source_network};
use known::KnownTokens;

const FAILURES: Rate = Rate {
    burst: 5,
    refill: Duration::from_secs(12),
};
const MAX_SOURCES: usize = 10_000;
/// A use is noted at most this often.
const TOUCH: Duration = Duration::from_mins(1);

/// A proxy that has proved who it is.
#[derive(Clone, Debug)]
pub struct ProxyCaller {
    token: TokenId,
    account: Option<AccountId>,
    address: IpAddr,
}

impl ProxyCaller {
    /// The token it called with.
    pub fn token(&self) -> &TokenId {
        &self.token
    }

    /// The account its token is confined to.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// Where it calls from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The scope of an account, if the token opens it.
    pub fn scope_of(&self, account: &AccountId) -> Result<Scope, Status> {
        match &self.account {
            Some(own) if own != account => Err(Status::permission_denied(
                "account-scoped token cannot act for another account",
            )),
            _ if account.is_empty() => Err(Status::invalid_argument("account_id is required")),
            Some(_) | None => Ok(Scope::authenticated(account.clone())),
        }
    }
}

/// Checks bearer tokens.
#[derive(Debug)]
pub struct ProxyAuth {
    state: Arc<State>,
    known: KnownTokens,
    failures: Mutex<Throttle<IpAddr>>,
    touched: Mutex<HashMap<TokenId, UnixTime>>,
}

impl ProxyAuth {
    /// Nobody has failed yet.
    pub fn new(state: Arc<State>) -> Self {
        Self {
            known: KnownTokens::new(&state.changes),
            state,
            failures: Mutex::new(Throttle::new(FAILURES, MAX_SOURCES)),
            touched: Mutex::default(),
        }
    }

    /// Finds out who calls.
    pub async fn authenticate(&self, headers: &HeaderMap, address: IpAddr) -> Result<ProxyCaller, Status> {
        let now = self.state.clock.now();
        let token = bearer(headers).map_err(|refusal| self.failed(address, now, refusal))?;
        let row = self
            .known
            .find(&self.state.store, token.hash())
            .await
            .map_err(unavailable)?;
        let Some(row) = row else {
            return Err(self.failed(address, now, Status::unauthenticated("invalid token")));
        };
        if !row.is_valid(now) {
            return Err(self.failed(address, now, Status::unauthenticated("token expired or revoked")));
        }
        self.touch(&row.id, row.last_used, now).await;
        Ok(ProxyCaller {
            token: row.id,
            account: row.account_id,
            address,
        })
    }

    /// Whether a token that opened before still does.
    pub async fn still_valid(&self, token: &TokenId) -> Result<bool, StoreError> {
        let row = self.state.store.proxy_token_anywhere(token).await?;
        Ok(row.is_some_and(|row| row.is_valid(self.state.clock.now())))
    }

    fn failed(&self, address: IpAddr, now: UnixTime, refusal: Status) -> Status {
        match self.failures.lock().take(source_network(address), now) {
            Ok(()) => refusal,
            Err(wait) => Status::resource_exhausted(format!(
                "too many failed authentications from this address; try again in {} s ({})",
                wait.as_secs().max(1),
                refusal.message(),
            )),
        }
    }

    async fn touch(&self, token: &TokenId, last_used: Option<UnixTime>, now: UnixTime) {
        let noted = |last: UnixTime| now.since(last) < TOUCH;
        if last_used.is_some_and(noted) {
            return;
        }
        {
            let mut touched = self.touched.lock();
            if touched.get(token).copied().is_some_and(noted) {
                return;
            }
            touched.retain(|_, last| noted(*last));
            touched.insert(token.clone(), now);
        }
        if let Err(error) = self.note_use(token, now).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Could not note the use of a proxy token"
            );
        }
    }

    async fn note_use(&self, token: &TokenId, now: UnixTime) -> Result<(), StoreError> {
        let mut tx = self.state.store.begin().await?;
        tx.touch_proxy_token_anywhere(token, now).await?;
        tx.commit().await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn unavailable(error: StoreError) -> Status {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "Could not look up a proxy token"
    );
    Status::unavailable("tokens cannot be checked at the moment; try again")
}

/// Reads `authorization: Bearer nbx_…`; the scheme's case matters, as in the reference.
fn bearer(headers: &HeaderMap) -> Result<Token, Status> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Status::unauthenticated("missing authorization header"))?;
    let text = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let text =
        text.ok_or_else(|| Status::unauthenticated("invalid authorization format, expected: Bearer nbx_…"))?;
    Token::parse(TokenKind::Proxy, text).map_err(|invalid| Status::unauthenticated(explain(invalid)))
}

fn explain(invalid: InvalidToken) -> String {
    match invalid {
        InvalidToken::Kind { found: "nbp_", .. } => {
            "invalid token format: this is a personal access token (nbp_…); \
             a proxy needs a proxy token (nbx_…), made with `meshgate admin token create` or \
             POST /api/reverse-proxies/proxy-tokens"
                .to_owned()
        }
        InvalidToken::Kind { .. } | InvalidToken::Form(_) | InvalidToken::Checksum => {
            format!("invalid token format: {invalid}")
        }
    }
}

/// Lets a gRPC service see authenticated calls only; they carry a [`ProxyCaller`] in their extensions.
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    inner: S,
    auth: Arc<ProxyAuth>,
}

impl<S> Authenticated<S> {
    /// Guards a service.
    pub fn new(inner: S, auth: Arc<ProxyAuth>) -> Self {
        Self { inner, auth }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<http::Request<B>> for Authenticated<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let next = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, next);
        let auth = Arc::clone(&self.auth);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let address = client_address(&parts.extensions);
            match auth.authenticate(&parts.headers, address).await {
                Ok(caller) => {
                    parts.extensions.insert(caller);
                    ready.call(http::Request::from_parts(parts, body)).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// The address at the other end of the connection; all callers without one count as one.
fn client_address(extensions: &Extensions) -> IpAddr {
    let connect_info = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let tcp = || {
        extensions
            .get::<TcpConnectInfo>()
            .and_then(TcpConnectInfo::remote_addr)
    };
    connect_info
        .or_else(tcp)
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

#[cfg(test)]
mod tests;
