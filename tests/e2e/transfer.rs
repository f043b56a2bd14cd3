//! Much data and long connections through the tunnel.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use meshgate_tests::origin::{CLOSE_CODE, Received};
use meshgate_tests::{Access, Demo, Deployment, HttpVersion, Part, Payload, eventually, raw};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

const HUNDRED_MEGABYTES: u64 = 100_000_000;

/// More than this would mean that a part keeps what passes through it.
const MEMORY_GROWTH: u64 = 60 << 20;

/// Longer than any wait of the edge for a part of a request.
const LONG_LIVED: Duration = Duration::from_secs(13);

/// Longest wait for a whole transfer on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test]
async fn hundred_megabytes_down_arrive_whole_with_flat_memory() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let service = deployment.publish("down", Access::Open).await;
    let payload = Payload::new(seed(), HUNDRED_MEGABYTES);
    let expected = payload.sha256();
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        let path = format!("/bytes/{}/{HUNDRED_MEGABYTES}", seed());
        let mut memory = Memory::start(&deployment);
        let begin = Instant::now();

        let answer = client
            .get(&service.domain, &path)
            .timeout(PATIENCE)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, version.name())
        );
        let mut hash = Sha256::new();
        let mut body = answer.bytes_stream();
        while let Some(chunk) = body.next().await {
            hash.update(chunk.unwrap());
            memory.look(&deployment);
        }

        println!("{version:?} down: {:?}", begin.elapsed());
        assert_eq!(format!("{:x}", hash.finalize()), expected, "seed {}", seed());
        memory.assert_flat(&format!("{version:?} down"));
    }
}

#[tokio::test]
async fn hundred_megabytes_up_arrive_whole_with_flat_memory() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let service = deployment.publish("up", Access::Open).await;
    let payload = Payload::new(seed(), HUNDRED_MEGABYTES);
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        let mut memory = Memory::start(&deployment);
        let body = reqwest::Body::wrap_stream(futures::stream::iter(
            payload.chunks().map(Ok::<_, std::io::Error>),
        ));
        let begin = Instant::now();

        let request = client
            .post(&service.domain, "/upload")
            .timeout(PATIENCE)
            .body(body)
            .send();
        tokio::pin!(request);
        let answer = loop {
            tokio::select! {
                answer = &mut request => break answer.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(50)) => memory.look(&deployment),
            }
        };

        println!("{version:?} up: {:?}", begin.elapsed());
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, version.name())
        );
        let received: Received = answer.json().await.unwrap();
        assert_eq!(
            (received.length, received.sha256),
            (HUNDRED_MEGABYTES, payload.sha256()),
            "seed {}",
            seed()
        );
        memory.assert_flat(&format!("{version:?} up"));
    }
}

#[tokio::test]
async fn reader_that_stops_reading_is_not_stored_for() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let service = deployment.publish("stalled", Access::Open).await;
    let mut memory = Memory::start(&deployment);
    let path = format!("/bytes/{}/{HUNDRED_MEGABYTES}", seed());
    let mut stalled = Vec::new();
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        let answer = client
            .get(&service.domain, &path)
            .timeout(PATIENCE)
            .send()
            .await
            .unwrap();
        stalled.push((client, answer));
    }

    // What others ask for flows on, long enough for a part that stores to have stored everything.
    let client = deployment.client(HttpVersion::H1);
    for round in 0..20 {
        let answer = client
            .expect(&service.domain, &format!("/bytes/{round}/1000000"), 200)
            .await;
        assert!(answer.is_ok(), "{answer:?}");
        memory.look(&deployment);
    }

    memory.assert_flat("two stalled readers");
}

#[tokio::test]
async fn demo_carries_hundred_megabytes() {
    let _turn = meshgate_tests::turn::alone().await;
    let demo = Demo::start().await;
    let domain = &demo.service("whoami").domain;
    let client = demo.client(HttpVersion::H2);
    let before = demo.process().rss();
    let path = format!("/bytes/{HUNDRED_MEGABYTES}");

    let answer = client.get(domain, &path).timeout(PATIENCE).send().await.unwrap();
    let mut length = 0;
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().len() as u64;
    }
    let payload = Payload::new(seed(), HUNDRED_MEGABYTES);
    let body = reqwest::Body::wrap_stream(payload.stream());
    let answer = client
        .post(domain, "/")
        .timeout(PATIENCE)
        .body(body)
        .send()
        .await
        .unwrap();

    assert_eq!(length, HUNDRED_MEGABYTES);
    let received: Received = answer.json().await.unwrap();
    assert_eq!(
        (received.length, received.sha256),
        (HUNDRED_MEGABYTES, payload.sha256())
    );
    let growth = demo.process().rss().saturating_sub(before);
    assert!(growth < 2 * MEMORY_GROWTH, "memory grew by {growth} bytes");
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("events", Access::Open).await;
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        let channel = format!("one-by-one-{version:?}");
        let answer = client
            .fetch(&service.domain, &format!("/events/{channel}"))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.bytes_stream();
        let mut text = String::new();
        for number in 0..20 {
            // The origin sends an event only now, when the one before has been read.
            assert!(deployment.origin.send_event(&channel, &format!("event {number}")) > 0);
            let line = format!("data: event {number}\n\n");
            while !text.contains(&line) {
                let chunk = tokio::time::timeout(Duration::from_secs(20), body.next()).await;
                let chunk = chunk.unwrap_or_else(|_| panic!("{version:?}: event {number} is held back"));
                text.push_str(&String::from_utf8_lossy(&chunk.unwrap().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn events_of_the_demo_arrive_while_they_are_sent() {
    let demo = Demo::shared().await;
    let domain = &demo.service("whoami").domain;
    for version in HttpVersion::ALL {
        let answer = demo.client(version).get(domain, "/events").send().await.unwrap();
        let mut arrivals = Vec::new();
        let mut text = String::new();
        let mut body = answer.bytes_stream();
        while let Some(chunk) = body.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
            arrivals.resize(text.matches("data: tick").count(), Instant::now());
        }

        assert_eq!(arrivals.len(), 10, "{text}");
        let spread = arrivals[9].duration_since(arrivals[0]);
        assert!(
            spread > Duration::from_millis(900),
            "{version:?}: ten events within {spread:?}"
        );
    }
}

#[tokio::test]
async fn websocket_carries_text_binary_and_large_messages() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("echo", Access::Open).await;
    let mut socket = deployment
        .websocket(&service.domain, "/socket?room=1")
        .await
        .unwrap();
    let large: Vec<u8> = Payload::new(seed(), 1 << 20).chunks().flatten().collect();
    for message in [
        Message::text("häfen"),
        Message::binary(vec![0, 255, 13, 10]),
        Message::text(""),
        Message::binary(large),
        Message::text("x".repeat(70_000)),
    ] {
        socket.echo(message).await.unwrap();
    }
    socket.close().await.unwrap();

    assert_eq!(deployment.origin.hits("/socket"), 1);
}

#[tokio::test]
async fn websocket_can_be_closed_by_the_server() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("close", Access::Open).await;
    let mut socket = deployment.websocket(&service.domain, "/").await.unwrap();
    socket.echo(Message::text("hello")).await.unwrap();

    socket.send(Message::text("close")).await.unwrap();

    let Some(Message::Close(Some(frame))) = socket.receive().await.unwrap() else {
        panic!("no closing frame")
    };
    assert_eq!(
        (frame.code, frame.reason.as_str()),
        (CloseCode::from(CLOSE_CODE), "as asked")
    );
    assert_eq!(
        socket.receive().await.unwrap(),
        None,
        "the connection ends after the handshake"
    );
}

#[tokio::test]
async fn websocket_of_a_protected_service_opens_with_a_session() {
    let demo = Demo::shared().await;
    let service = demo.service("pin");
    let client = demo.client_at(HttpVersion::H1, [127, 0, 2, 1]);
    let cookie = meshgate_tests::login::log_in(&client, &service.domain, "/", service.secret())
        .await
        .cookie();

    let mut socket = demo
        .websocket(&service.domain, "/ws", Some(&cookie))
        .await
        .unwrap();

    socket.echo(Message::text("hello")).await.unwrap();
    socket.close().await.unwrap();
}

#[tokio::test]
async fn connection_in_use_is_kept() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("kept", Access::Open).await;
    let stream = raw::tls(
        &deployment.ca_file(),
        deployment.edge(),
        &service.domain,
        &["http/1.1"],
    )
    .await
    .unwrap();
    let mut stream = tokio::io::BufStream::new(stream);
    let request = format!("GET /kept HTTP/1.1\r\nHost: {}\r\n\r\n", service.domain);
    let begin = Instant::now();
    let mut answers = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    while begin.elapsed() < LONG_LIVED {
        pace.tick().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();

        let answer = raw::read_answer(&mut stream).await;

        assert_eq!(
            answer,
            Some(200),
            "after {answers} answers and {:?}",
            begin.elapsed()
        );
        answers += 1;
    }
    assert_eq!(deployment.origin.hits("/kept"), answers);
}

#[tokio::test]
async fn client_that_leaves_ends_the_request_at_the_origin() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("leave", Access::Open).await;
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        let channel = format!("leave-{version:?}");
        let answer = client
            .fetch(&service.domain, &format!("/events/{channel}"))
            .await
            .unwrap();
        assert_eq!(deployment.origin.send_event(&channel, "hello"), 1);

        drop(answer);

        eventually(
            "the origin learns that the client left",
            async || match deployment.origin.send_event(&channel, "anybody there?") {
                0 => Ok(()),
                listeners => Err(format!("{version:?}: {listeners} still listen")),
            },
        )
        .await;
    }
}

/// Memory of the parts that carry data.
struct Memory {
    start: [u64; 2],
    peak: [u64; 2],
}

const CARRIERS: [Part; 2] = [Part::Proxy, Part::Agent];

impl Memory {
    fn start(deployment: &Deployment) -> Self {
        let start = CARRIERS.map(|part| deployment.process(part).rss());
        Self { start, peak: start }
    }

    fn look(&mut self, deployment: &Deployment) {
        for (peak, part) in self.peak.iter_mut().zip(CARRIERS) {
            *peak = (*peak).max(deployment.process(part).rss());
        }
    }

    fn assert_flat(&self, what: &str) {
        for ((start, peak), part) in self.start.iter().zip(self.peak).zip(CARRIERS) {
            let growth = peak.saturating_sub(*start);
            println!(
                "{what}: {part} grew by {} MiB from {} MiB",
                growth >> 20,
                start >> 20
            );
            assert!(growth < MEMORY_GROWTH, "{what}: {part} grew by {growth} bytes");
        }
    }
}

/// One seed for the test run, printed by the assertions that depend on it.
fn seed() -> u64 {
    u64::from(std::process::id())
}
