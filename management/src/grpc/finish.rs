//! Calls that run to their end although their callers go away.

use tokio_util::task::TaskTracker;
use tonic::Status;

use super::status::internal;

/// Runs what writes and then tells of it in a task of its own: a call that is cancelled between the two would
/// leave the reconcilers without the news.
pub(crate) async fn finish<T: Send + 'static>(
    tracker: &TaskTracker,
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tracker
        .spawn(work)
        .await
        .unwrap_or_else(|error| Err(internal(&error)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_is_finished_without_its_caller() {
        let tracker = TaskTracker::new();
        let (commit, committed) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut call = Box::pin(finish(&tracker, async move {
            committed.await.unwrap();
            tell.send("news").unwrap();
            Ok(())
        }));

        assert!((&mut call).now_or_never().is_none());
        drop(call);
        commit.send(()).unwrap();

        assert_eq!(told.await, Ok("news"));
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_ours() {
        let tracker = TaskTracker::new();

        let ended = finish::<()>(&tracker, async { panic!("on purpose") }).await;

        assert_eq!(ended.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
