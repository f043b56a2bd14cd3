use meshgate_proto::MappingBatch;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::error::CallError;

/// Messages of a mapping stream, from either call.
#[derive(Debug)]
pub(crate) struct MappingStream {
    pub(super) incoming: Incoming,
    pub(super) address: String,
}

#[derive(Debug)]
pub(super) enum Incoming {
    Sync {
        messages: Streaming<pb::SyncMappingsResponse>,
        outgoing: mpsc::Sender<pb::SyncMappingsRequest>,
    },
    Update(Streaming<pb::GetMappingUpdateResponse>),
}

impl MappingStream {
    /// The next message; `None` when management ended the stream without a reason. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<MappingBatch>, CallError> {
        let batch = match &mut self.incoming {
            Incoming::Sync { messages, .. } => {
                messages.message().await.map(|message| message.map(Into::into))
            }
            Incoming::Update(messages) => messages.message().await.map(|message| message.map(Into::into)),
        };
        batch.map_err(|status| CallError::new(&self.address, &status))
    }

    /// Says that the last message is applied, where management wants to know.
    pub(crate) async fn acknowledge(&mut self) {
        match &self.incoming {
            Incoming::Sync { outgoing, .. } => {
                let ack = pb::SyncMappingsRequest {
                    msg: Some(Msg::Ack(pb::SyncMappingsAck {})),
                };
                // A closed channel means a stream that has ended; the next message says so.
                let _ = outgoing.send(ack).await;
            }
            Incoming::Update(_) => {}
        }
    }
}
