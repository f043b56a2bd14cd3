//! Copies between two streams without keeping a buffer for either while nothing moves.
//!
//! Most long connections wait most of the time. What is read goes through memory that all connections of a thread
//! share, and only what the other side does not take at once is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are read at once.
const PIECE: usize = 64 * 1024;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// How many bytes were taken in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// By the second stream.
    pub there: u64,
    /// By the first stream.
    pub back: u64,
}

/// Copies in both directions until both have ended; the end of one is passed on, the other goes on.
///
/// `carried` is right whenever the future is not running, also after it was dropped.
///
/// # Errors
/// What a stream failed with.
pub async fn copy_both<A, B>(a: &mut A, b: &mut B, carried: &mut Carried) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut copy = Copy::default();
    poll_fn(|cx| match copy.poll(cx, a, b, carried)? {
        (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    })
    .await
}

/// Copies in both directions until one has ended and its end was passed on.
///
/// `carried` is right whenever the future is not running, also after it was dropped.
///
/// # Errors
/// What a stream failed with.
pub async fn copy_either<A, B>(a: &mut A, b: &mut B, carried: &mut Carried) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut copy = Copy::default();
    poll_fn(|cx| match copy.poll(cx, a, b, carried)? {
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        _ => Poll::Ready(Ok(())),
    })
    .await
}

#[derive(Debug, Default)]
struct Copy {
    there: Direction,
    back: Direction,
}

impl Copy {
    /// Moves what can be moved; says which directions have ended.
    fn poll<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        a: &mut A,
        b: &mut B,
        carried: &mut Carried,
    ) -> io::Result<(Poll<()>, Poll<()>)>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let there = self.there.poll(cx, a, b, &mut carried.there);
        let back = self.back.poll(cx, b, a, &mut carried.back);
        Ok((transpose(there)?, transpose(back)?))
    }
}

fn transpose(ended: Poll<io::Result<()>>) -> io::Result<Poll<()>> {
    match ended {
        Poll::Ready(result) => result.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    /// Bytes that were read and not taken by the other side, from `taken` on.
    left: Vec<u8>,
    taken: usize,
    flushed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Ending,
    Ended,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        carried: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_left(cx, to, carried))?;
            match self.stage {
                Stage::Open => {
                    if let Poll::Ready(read) = self.poll_piece(cx, from, to, carried) {
                        read?;
                        continue;
                    }
                    if self.left.is_empty() && !self.flushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.flushed = true;
                    }
                    return Poll::Pending;
                }
                Stage::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what is left, and forgets its memory.
    fn poll_left<W>(&mut self, cx: &mut Context<'_>, to: &mut W, carried: &mut u64) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.left.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.taken < self.left.len() {
            self.taken += ready!(poll_some(cx, to, &self.left[self.taken..], carried))?;
        }
        self.left = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads one piece and writes as much of it as the other side takes.
    fn poll_piece<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        carried: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SHARED.with_borrow_mut(|shared| {
            let mut piece = ReadBuf::new(shared);
            ready!(Pin::new(from).poll_read(cx, &mut piece))?;
            let mut bytes = piece.filled();
            if bytes.is_empty() {
                self.stage = Stage::Ending;
            }
            self.flushed = false;
            while !bytes.is_empty() {
                match poll_some(cx, to, bytes, carried) {
                    Poll::Ready(taken) => bytes = &bytes[taken?..],
                    Poll::Pending => {
                        self.left = bytes.to_vec();
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

fn poll_some<W>(cx: &mut Context<'_>, to: &mut W, bytes: &[u8], carried: &mut u64) -> Poll<io::Result<usize>>
where
    W: AsyncWrite + Unpin,
{
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        taken => {
            *carried += taken as u64;
            Poll::Ready(Ok(taken))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// Smaller than a piece, so that much is left.
    const PIPE: usize = 1000;

    /// Both outer ends of a copy that is under way.
    fn copying() -> (DuplexStream, DuplexStream, JoinHandle<io::Result<Carried>>) {
        let (left, mut a) = duplex(PIPE);
        let (right, mut b) = duplex(PIPE);
        let copy = tokio::spawn(async move {
            let mut carried = Carried::default();
            copy_both(&mut a, &mut b, &mut carried).await.map(|()| carried)
        });
        (left, right, copy)
    }

    #[tokio::test]
    async fn carries_everything_both_ways_at_once() {
        let (left, right, copy) = copying();
        let sent: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let talk = |end: DuplexStream| {
            let sent = sent.clone();
            async move {
                let (mut reader, mut writer) = tokio::io::split(end);
                let write = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                tokio::join!(write, async { reader.read_to_end(&mut got).await.unwrap() });
                got
            }
        };

        let (at_left, at_right) = tokio::join!(talk(left), talk(right));

        assert!(at_left == sent && at_right == sent);
        let carried = copy.await.unwrap().unwrap();
        assert_eq!(
            carried,
            Carried {
                there: 300_000,
                back: 300_000
            }
        );
    }

    #[tokio::test]
    async fn answers_come_after_the_end_of_the_question() {
        let (mut left, mut right, copy) = copying();
        left.write_all(b"question").await.unwrap();
        left.shutdown().await.unwrap();
        let mut question = String::new();
        right.read_to_string(&mut question).await.unwrap();

        right.write_all(b"answer").await.unwrap();
        drop(right);
        let mut answer = String::new();
        left.read_to_string(&mut answer).await.unwrap();

        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        copy.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_a_writer_holds_back_is_flushed() {
        let (mut left, mut a) = duplex(PIPE);
        let (mut right, b) = duplex(PIPE);
        let copy = tokio::spawn(async move {
            copy_either(&mut a, &mut BufWriter::new(b), &mut Carried::default()).await
        });

        left.write_all(b"short").await.unwrap();
        right.read_exact(&mut [0; 5]).await.unwrap();
        drop(right);

        copy.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_the_copy() {
        let (mut left, right, copy) = copying();
        drop(right);

        // The copy learns of it when it writes.
        let _ = left.write_all(b"anybody there?").await;

        assert!(copy.await.unwrap().is_err());
    }
}
