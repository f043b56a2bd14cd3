//! Keeps the membership: login once, then maps for as long as the client lives.

use std::sync::Arc;
use std::time::Instant;

use meshgate_proto::network_map::{LoginRequest, LoginResponse, PostureFiles, SyncUpdate, SystemMeta};
use meshgate_proto::{Secret, WgPrivateKey};
use tokio::sync::mpsc;
use tonic::Code;

use crate::board::Board;
use crate::guard::Backoff;
use crate::management::{Management, ManagementError, Maps};
use crate::system_meta;
use crate::trust::Trust;
use crate::{Hop, ManagementUrl, PermanentFailure};

/// A setup key that is refused as "failed precondition" (used up in a race, labels not allowed) is shown this often.
const PRECONDITION_TRIES: u32 = 3;

/// News from management.
#[derive(Debug)]
pub(crate) enum SyncEvent {
    /// We are in.
    LoggedIn(Box<LoginResponse>),
    /// A new stream of maps begins.
    StreamOpened,
    /// A message of the stream.
    Update(Box<SyncUpdate>),
}

/// Keeps the membership.
#[derive(Debug)]
pub(crate) struct SyncTask {
    pub(crate) url: ManagementUrl,
    pub(crate) trust: Arc<Trust>,
    pub(crate) key: WgPrivateKey,
    pub(crate) setup_key: Option<Secret<String>>,
    pub(crate) meta: SystemMeta,
    pub(crate) dns_labels: Vec<String>,
    pub(crate) board: Board,
    pub(crate) events: mpsc::Sender<SyncEvent>,
}

/// How an attempt ended.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Permanent(#[from] PermanentFailure),
    #[error(transparent)]
    Passing(#[from] ManagementError),
    #[error("the client is stopping")]
    Stopping,
}

impl SyncTask {
    /// Runs until the client stops, or for ever refused.
    pub(crate) async fn run(mut self) -> Result<(), PermanentFailure> {
        self.board.connecting(Hop::Management, &self.url.to_string());
        let mut connection = None;
        let mut backoff = Backoff::default();
        let mut membership = Membership::default();
        loop {
            let hop = if membership.logged_in {
                Hop::Sync
            } else {
                Hop::Management
            };
            match self.attempt(&mut connection, &mut membership, &mut backoff).await {
                Trouble::Permanent(failure) => return Err(failure),
                Trouble::Stopping => return Ok(()),
                Trouble::Passing(error) => {
                    if !error.leaves_channel_usable() {
                        connection = None;
                    }
                    self.board.failed(hop, &error.to_string());
                    if membership.logged_in && connection.is_none() {
                        self.board.failed(Hop::Management, &error.to_string());
                    }
                }
            }
            let pause = backoff.failed(Instant::now(), &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection from its start to its end.
    async fn attempt(
        &mut self,
        connection: &mut Option<Management>,
        membership: &mut Membership,
        backoff: &mut Backoff,
    ) -> Trouble {
        match self.try_attempt(connection, membership, backoff).await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn try_attempt(
        &mut self,
        connection: &mut Option<Management>,
        membership: &mut Membership,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Trouble> {
        let management = match connection {
            Some(management) => management,
            None => {
                connection.insert(Management::connect(&self.url.to_string(), &self.trust, &self.key).await?)
            }
        };
        if !membership.logged_in {
            let response = self.join(management, membership).await?;
            membership.logged_in = true;
            self.send(SyncEvent::LoggedIn(Box::new(response))).await?;
        }
        self.board.connecting(Hop::Sync, &self.url.to_string());
        let maps = match management.sync(self.meta.clone()).await {
            Err(error) if error.code() == Some(Code::PermissionDenied) => return Err(self.removed(&error)),
            result => result?,
        };
        self.board.up(Hop::Management);
        self.send(SyncEvent::StreamOpened).await?;
        let mut management = management.clone();
        self.follow(&mut management, maps, backoff).await
    }

    /// First without the setup key: a known peer never shows it.
    async fn join(
        &self,
        management: &mut Management,
        membership: &mut Membership,
    ) -> Result<LoginResponse, Trouble> {
        let refusal = match management.login(self.request(None)).await {
            Err(error) if error.code() == Some(Code::PermissionDenied) => error,
            result => return Ok(result?),
        };
        let url = self.url.to_string();
        let Some(setup_key) = self.setup_key.clone() else {
            return Err(PermanentFailure::NotAdmitted {
                management: url,
                reason: refusal.reason(),
            }
            .into());
        };
        let error = match management.login(self.request(Some(setup_key))).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let final_word = match error.code() {
            Some(Code::PermissionDenied | Code::InvalidArgument | Code::NotFound) => true,
            Some(Code::FailedPrecondition) => {
                membership.precondition_failures += 1;
                membership.precondition_failures >= PRECONDITION_TRIES
            }
            _ => false,
        };
        if final_word {
            return Err(PermanentFailure::SetupKeyRefused {
                management: url,
                reason: error.reason(),
            }
            .into());
        }
        Err(error.into())
    }

    async fn follow(
        &mut self,
        management: &mut Management,
        mut maps: Maps,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Trouble> {
        let mut checked: Vec<PostureFiles> = Vec::new();
        let mut is_up = false;
        loop {
            let update = match maps.next().await {
                Ok(update) => update,
                Err(error) if error.code() == Some(Code::PermissionDenied) => {
                    return Err(self.removed(&error));
                }
                Err(error @ (ManagementError::Invalid(_) | ManagementError::Sealed(_))) => {
                    tracing::warn!(error = %error, "Left a map out that cannot be understood");
                    self.board
                        .update(|status| status.map_problems = vec![error.to_string()]);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !is_up {
                is_up = true;
                backoff.connected(Instant::now());
                self.board.up(Hop::Sync);
            }
            if update.checks != checked {
                checked.clone_from(&update.checks);
                self.meta.files = inspect(&checked).await;
                management.sync_meta(self.meta.clone()).await?;
            }
            self.send(SyncEvent::Update(Box::new(update))).await?;
        }
    }

    fn request(&self, setup_key: Option<Secret<String>>) -> LoginRequest {
        LoginRequest {
            setup_key,
            jwt: None,
            meta: self.meta.clone(),
            ssh_public_key: String::new(),
            wg_public_key: Some(self.key.public()),
            dns_labels: self.dns_labels.clone(),
        }
    }

    fn removed(&self, error: &ManagementError) -> Trouble {
        Trouble::Permanent(PermanentFailure::Removed {
            management: self.url.to_string(),
            reason: error.reason(),
        })
    }

    async fn send(&self, event: SyncEvent) -> Result<(), Trouble> {
        self.events.send(event).await.map_err(|_| Trouble::Stopping)
    }
}

/// What is remembered from one connection to the next.
#[derive(Debug, Default)]
struct Membership {
    logged_in: bool,
    precondition_failures: u32,
}

async fn inspect(checks: &[PostureFiles]) -> Vec<meshgate_proto::network_map::FileState> {
    let mut paths: Vec<_> = checks
        .iter()
        .flat_map(|check| check.files.iter().cloned())
        .collect();
    paths.sort();
    paths.dedup();
    tokio::task::spawn_blocking(move || system_meta::inspect(&paths))
        .await
        .unwrap_or_default()
}
