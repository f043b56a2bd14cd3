use async_trait::async_trait;
use futures::stream::{BoxStream, Stream, StreamExt as _};
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use meshgate_proto::{MappingBatch, ProxyHello};
use tokio::sync::mpsc;
use tonic::Status;

use super::error::CallError;

/// Opens mapping streams.
#[async_trait]
pub(crate) trait Opener: Send + Sync + std::fmt::Debug {
    /// Opens the stream that wants acknowledgements.
    async fn sync_mappings(&self, hello: ProxyHello) -> Result<MappingStream, CallError>;
    /// Opens the older stream.
    async fn mapping_updates(&self, hello: ProxyHello) -> Result<MappingStream, CallError>;
    /// The server, for people.
    fn address(&self) -> &str;
}

/// Messages of a mapping stream, from either call.
pub(crate) struct MappingStream {
    messages: BoxStream<'static, Result<MappingBatch, Status>>,
    /// Takes the acknowledgements, where management wants them.
    outgoing: Option<mpsc::Sender<pb::SyncMappingsRequest>>,
    address: String,
}

impl std::fmt::Debug for MappingStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappingStream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl MappingStream {
    /// A stream of these messages.
    pub(super) fn new<M: Into<MappingBatch>>(
        messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
        outgoing: Option<mpsc::Sender<pb::SyncMappingsRequest>>,
        address: &str,
    ) -> Self {
        Self {
            messages: messages.map(|message| message.map(Into::into)).boxed(),
            outgoing,
            address: address.to_owned(),
        }
    }

    /// The next message; `None` when management ended the stream without a reason. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<MappingBatch>, CallError> {
        let batch = self.messages.next().await.transpose();
        batch.map_err(|status| CallError::new(&self.address, &status))
    }

    /// Says that the last message is applied, where management wants to know.
    pub(crate) async fn acknowledge(&mut self) {
        if let Some(outgoing) = &self.outgoing {
            let ack = pb::SyncMappingsRequest {
                msg: Some(Msg::Ack(pb::SyncMappingsAck {})),
            };
            // A closed channel means a stream that has ended; the next message says so.
            let _ = outgoing.send(ack).await;
        }
    }
}
