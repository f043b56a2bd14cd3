//! Registration of a proxy's WireGuard peer.

use std::sync::Arc;

use meshgate_proto::pb::management as pb;
use meshgate_proto::{AccountId, ServiceId, WgPublicKey};
use tonic::Status;

use super::{ProxySide, refused};
use crate::grpc::finish::finish;
use crate::grpc::proxy_auth::ProxyCaller;
use crate::one_time_tokens::Grant;
use crate::peers::registration::register_proxy_peer;

/// Registers the peer that a one-time token opens. The cluster is that of the mapping's stream, whatever the
/// message says. A key that is known already is no error.
pub(super) async fn create(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: pb::CreateProxyPeerRequest,
) -> Result<pb::CreateProxyPeerResponse, Status> {
    let account = AccountId::new(message.account_id);
    let scope = caller.scope_of(&account)?;
    let key: WgPublicKey = message
        .wireguard_public_key
        .parse()
        .map_err(|error| Status::invalid_argument(format!("wireguard_public_key: {error}")))?;
    let service = ServiceId::new(message.service_id);
    let grant = side.tokens.consume(&message.token, side.state.clock.now());
    let opens = |grant: &Grant| {
        grant.service == service && grant.account == account && grant.proxy_token == *caller.token()
    };
    let grant = grant.filter(opens).ok_or_else(|| {
        Status::unauthenticated(
            "one-time token is unknown, used, too old, or for another service; get a new mapping",
        )
    })?;
    let (state, token) = (Arc::clone(&side.state), caller.token().clone());
    finish(&side.streams, async move {
        let registered = register_proxy_peer(&state, scope.account(), key, &grant.cluster, &token).await;
        registered.map_err(refused)
    })
    .await?;
    Ok(pb::CreateProxyPeerResponse {
        success: true,
        error_message: None,
    })
}
