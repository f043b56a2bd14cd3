//! Long answers and bodies: events, downloads and uploads.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use reqwest::{Body, Response};
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;

use super::http::{answer, chain, received};
use super::{Log, Target, patiently};
use crate::Payload;

/// Channel of the origin's events.
pub(super) const CHANNEL: &str = "drill";

/// Between two events.
const TICK: Duration = Duration::from_millis(50);

/// Bytes of a download: at its pace it takes a second.
const DOWNLOAD: u64 = 1 << 20;

/// Bytes of an upload: at its pace it takes a quarter of a second.
const UPLOAD: u64 = 1 << 18;

/// Bytes a second of downloads and uploads.
const RATE: f64 = (1 << 20) as f64;

/// A long answer may take as long as it likes, if something comes now and then.
const NO_END: Duration = Duration::from_hours(24);

/// Sends numbered events to whoever listens.
pub(super) async fn tick(events: broadcast::Sender<String>) {
    let mut ticks = tokio::time::interval(TICK);
    for number in 0_u64.. {
        ticks.tick().await;
        // Nobody listens while the agent is away.
        let _ = events.send(number.to_string());
    }
}

/// Listens to events and looks for gaps in their numbers. What breaks is opened again.
pub(super) async fn events(log: Log, target: Target) {
    loop {
        let mut begun = Instant::now();
        let path = format!("/events/{CHANNEL}");
        let mut source = match patiently(open(&target, &path)).await {
            Ok(answer) => Events::new(answer),
            Err(why) => {
                log.end(begun, Err::<(), _>(why), Duration::ZERO).await;
                continue;
            }
        };
        loop {
            let next = patiently(source.next()).await;
            if log.end(begun, next, Duration::ZERO).await.is_none() {
                break;
            }
            begun = Instant::now();
        }
    }
}

/// Gets one long body after the other, slowly, and compares its hash.
pub(super) async fn download(log: Log, target: Target) {
    for seed in 0_u64.. {
        let begun = Instant::now();
        let result = download_once(&log, &target, Payload::new(seed, DOWNLOAD), seed).await;
        log.end(begun, result, Duration::ZERO).await;
    }
}

async fn download_once(log: &Log, target: &Target, payload: Payload, seed: u64) -> Result<(), String> {
    let begun = Instant::now();
    let answer = patiently(open(target, &format!("/bytes/{seed}/{DOWNLOAD}"))).await?;
    let mut chunks = answer.bytes_stream();
    let mut hash = Sha256::new();
    loop {
        let next = patiently(async { Ok(chunks.next().await) });
        let Some(chunk) = next.await? else { break };
        let chunk = chunk.map_err(|error| chain(&error))?;
        log.progress(begun);
        hash.update(&chunk);
        tokio::time::sleep(time_for(chunk.len())).await;
    }
    if format!("{:x}", hash.finalize()) == payload.sha256() {
        Ok(())
    } else {
        Err(format!("another body than {payload:?}"))
    }
}

/// Sends one long body after the other, slowly, and compares the hash that the origin found.
pub(super) async fn upload(log: Log, target: Target) {
    for seed in 0_u64.. {
        let begun = Instant::now();
        let payload = Payload::new(seed, UPLOAD);
        let chunks = stream::iter(payload.chunks()).then(|chunk| async {
            tokio::time::sleep(time_for(chunk.len())).await;
            Ok::<_, std::io::Error>(chunk)
        });
        let request = target
            .client
            .post(&target.domain, "/upload")
            .body(Body::wrap_stream(chunks));
        let uploaded = patiently(async { received(&answer(request).await?, payload) });
        log.end(begun, uploaded.await, Duration::ZERO).await;
    }
}

async fn open(target: &Target, path: &str) -> Result<Response, String> {
    let request = target.client.get(&target.domain, path).timeout(NO_END);
    let answer = request.send().await.map_err(|error| chain(&error))?;
    match answer.status().as_u16() {
        200 => Ok(answer),
        status => Err(format!("{status} instead of 200: {:?}", answer.headers())),
    }
}

fn time_for(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs_f64(f64::from(bytes) / RATE)
}

/// Numbered server-sent events.
struct Events {
    answer: Response,
    buffer: Vec<u8>,
    last: Option<u64>,
}

impl Events {
    fn new(answer: Response) -> Self {
        Self {
            answer,
            buffer: Vec::new(),
            last: None,
        }
    }

    /// The next event; an error when it is not the one that follows.
    async fn next(&mut self) -> Result<(), String> {
        let number = loop {
            if let Some(line) = self.line() {
                match line.strip_prefix("data: ") {
                    Some(number) => break number.parse::<u64>().map_err(|error| error.to_string())?,
                    None => continue,
                }
            }
            let chunk = self.answer.chunk().await.map_err(|error| chain(&error))?;
            self.buffer.extend_from_slice(&chunk.ok_or("the events ended")?);
        };
        let last = self.last.replace(number);
        match last {
            Some(last) if number != last + 1 => Err(format!("event {number} after {last}")),
            _ => Ok(()),
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}
