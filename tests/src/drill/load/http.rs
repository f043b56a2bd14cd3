//! Requests with an answer at once.

use std::time::Instant;

use bytes::Bytes;

use super::{Log, PACE, Target, patiently};
use crate::Payload;
use crate::client::shorten;
use crate::origin::{Received, Seen};

/// Bytes of a small body.
const BODY: u64 = 1024;

/// Gets one path after the other and compares what the origin saw.
pub(super) async fn get(log: Log, target: Target) {
    for count in 0_u64.. {
        let begun = Instant::now();
        let path = format!("/get/{count}");
        let asked = patiently(async {
            let text = answer(target.client.get(&target.domain, &path)).await?;
            let seen: Seen = parse(&text)?;
            if seen.path == path {
                Ok(())
            } else {
                Err(format!("the answer to {} instead of {path}", seen.path))
            }
        });
        log.end(begun, asked.await, PACE).await;
    }
}

/// Posts small bodies and compares what the origin received.
pub(super) async fn post(log: Log, target: Target) {
    for count in 0_u64.. {
        let begun = Instant::now();
        let payload = Payload::new(count, BODY);
        let body: Vec<u8> = payload.chunks().flat_map(Bytes::into_iter).collect();
        let posted = patiently(async {
            let request = target.client.post(&target.domain, "/post").body(body);
            received(&answer(request).await?, payload)
        });
        log.end(begun, posted.await, PACE).await;
    }
}

/// The body of an answer whose status is 200.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<String, String> {
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let status = answer.status();
    let headers = answer.headers().clone();
    let text = answer.text().await.map_err(|error| chain(&error))?;
    if status == 200 {
        Ok(text)
    } else if text.is_empty() {
        Err(format!("{status}: {headers:?}"))
    } else {
        Err(format!("{status}: {}", shorten(&text)))
    }
}

/// Compares what the origin received with what was sent.
pub(super) fn received(text: &str, sent: Payload) -> Result<(), String> {
    let received: Received = parse(text)?;
    if received.sha256 == sent.sha256() {
        Ok(())
    } else {
        Err(format!(
            "another body arrived, of {} bytes: {sent:?}",
            received.length
        ))
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {}", shorten(text)))
}

/// An error and what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
