//! Bodies of gRPC calls, bounded in time and in what all of them hold at once.
//!
//! Most calls are opened to strangers: who calls is told by the message itself. So a message has to be whole
//! after [`MESSAGE_TIMEOUT`], and bodies larger than a normal one share a budget; whoever finds it used up is
//! refused, while small messages always pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// Time for the message of a call that brings only one.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that every body may have without asking for room.
const FREE: usize = 16 * 1024;
/// Bytes that larger bodies may hold together.
const ROOM: usize = 64 * 1024 * 1024;
/// Bytes that one permit stands for.
const UNIT: usize = 1024;

/// Calls whose messages come as they come.
const STREAMING: [&str; 3] = [
    "/management.ManagementService/Job",
    "/management.ProxyService/SyncMappings",
    "/signalexchange.SignalExchange/ConnectStream",
];

/// What all bodies share. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / UNIT)))
    }
}

impl Room {
    /// The body of a call, bounded unless its messages go on for ever.
    pub(super) fn bounded<B>(&self, path: &str, body: B) -> axum::body::Body
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if STREAMING.contains(&path) {
            return axum::body::Body::new(body);
        }
        axum::body::Body::new(OneMessage {
            body,
            deadline: Box::pin(sleep(MESSAGE_TIMEOUT)),
            room: self.clone(),
            read: 0,
            held: None,
        })
    }
}

struct OneMessage<B> {
    body: B,
    deadline: Pin<Box<Sleep>>,
    room: Room,
    read: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl<B> OneMessage<B> {
    fn hold(&mut self, more: usize) -> Result<(), Status> {
        self.read = self.read.saturating_add(more);
        let wanted = self.read.saturating_sub(FREE).div_ceil(UNIT);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&self.room.0)
            .try_acquire_many_owned(missing)
            .map_err(|_| Status::resource_exhausted("too many large messages at once, try again later"))?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

impl<B> Body for OneMessage<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(self.hold(length).map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|result| result.map_err(Into::into))),
            Poll::Pending => self.deadline.as_mut().poll(cx).map(|()| {
                let late = Status::deadline_exceeded("the message did not come in time");
                Some(Err(late.into()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::Instant;

    use super::*;

    const LOGIN: &str = "/management.ManagementService/Login";

    /// Sends `pieces` of 16 KiB and then nothing, without an end.
    fn stalled(
        pieces: usize,
    ) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static {
        let piece = || Ok(Frame::data(Bytes::from(vec![0; FREE])));
        let sent = futures::stream::iter((0..pieces).map(move |_| piece()));
        StreamBody::new(sent.chain(futures::stream::pending()).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_stalls_ends_at_the_deadline() {
        let room = Room::default();
        let start = Instant::now();

        let ended = room.bounded(LOGIN, stalled(1)).collect().await;

        assert!(ended.is_err());
        assert_eq!(start.elapsed(), MESSAGE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_of_messages_have_no_deadline() {
        let room = Room::default();

        for path in STREAMING {
            let body = room.bounded(path, stalled(1)).collect();
            assert!(tokio::time::timeout(MESSAGE_TIMEOUT * 100, body).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_share_the_room_and_small_ones_need_none() {
        let room = Room::default();
        let mut hog = room.bounded(LOGIN, stalled(ROOM / FREE + 1));
        for _ in 0..=ROOM / FREE {
            hog.frame().await.unwrap().unwrap();
        }

        let mut large = room.bounded(LOGIN, stalled(2));
        large.frame().await.unwrap().unwrap();
        assert!(large.frame().await.unwrap().is_err());
        let mut small = room.bounded(LOGIN, stalled(1));
        small.frame().await.unwrap().unwrap();
        drop(hog);
        let mut later = room.bounded(LOGIN, stalled(2));
        later.frame().await.unwrap().unwrap();
        later.frame().await.unwrap().unwrap();
    }
}
