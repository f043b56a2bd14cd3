//! One of two nodes that hold many connections between them; `scripts/bench idle` starts both.
//!
//! `idle serve PORT` answers on port 7 of 100.64.0.1 and knows no endpoint of the other node, as after a restart.
//! `idle dial PORT` takes one order per line on standard input and answers each with one line:
//!
//! - `hold N BYTES`: open N more connections, get BYTES over each, keep them; answers with the seconds it took
//! - `close`: close all that are held and wait until they are gone; answers with the seconds it took
//! - `stream BYTES`: get BYTES over one more connection; answers with the seconds it took
//! - `reach`: dial until one request is answered; answers with the seconds it took
//!
//! A request is 96 bytes long and begins with the number of bytes wanted.

#![expect(clippy::print_stdout, reason = "standard output is what the bench reads")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use meshgate_netstack::{
    Cidr, Config, FirewallRule, Inbound, ListenSpec, Netstack, Path, PeerConfig, Ports, PrivateKey, Protocol,
    TcpStream, Verdict,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const PORT: u16 = 7;
const REQUEST: usize = 96;
/// Bytes that are written or read at once.
const PIECE: usize = 64 * 1024;
/// Connections that are being opened at a time.
const OPENING: usize = 64;
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks, or two attempts.
const PAUSE: Duration = Duration::from_millis(10);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(port.parse()?).await,
        ["dial", port] => take_orders(port.parse()?).await,
        _ => Err("usage: idle serve PORT | idle dial PORT".into()),
    }
}

async fn serve(port: u16) -> Outcome<()> {
    let net = start(SERVER, Some(port), CLIENT)?;
    net.set_firewall(vec![FirewallRule {
        source: "0.0.0.0/0".parse()?,
        protocol: Protocol::All,
        ports: Ports::All,
        verdict: Verdict::Accept,
    }]);
    let mut listener = net.listen(ListenSpec::Port(PORT))?;
    println!("ready");
    // The end of the starting program ends this one.
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            incoming = listener.accept() => {
                let stream = incoming?.stream;
                tokio::spawn(async move {
                    // A connection that breaks is the other node's to report.
                    let _ = answer(stream).await;
                });
            }
            line = orders.next_line() => if line?.is_none() {
                return Ok(());
            }
        }
    }
}

/// Answers requests until the connection ends.
async fn answer(mut stream: TcpStream) -> Outcome<()> {
    loop {
        let mut request = [0; REQUEST];
        stream.read_exact(&mut request).await?;
        let (wanted, _) = request.split_first_chunk().ok_or("a request is longer")?;
        let mut left = usize::try_from(u64::from_be_bytes(*wanted))?;
        while left > 0 {
            left -= stream.write(&ZEROS[..left.min(PIECE)]).await?;
        }
    }
}

static ZEROS: [u8; PIECE] = [0; PIECE];

async fn take_orders(port: u16) -> Outcome<()> {
    let net = start(CLIENT, None, SERVER)?;
    net.set_path(
        &key(SERVER).public_key(),
        Path::Direct(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    );
    let mut held = Vec::new();
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        let begin = Instant::now();
        match order.split(' ').collect::<Vec<_>>()[..] {
            ["hold", count, bytes] => held.append(&mut open(&net, count.parse()?, bytes.parse()?).await?),
            ["close"] => {
                held = Vec::new();
                while net.stats().connections > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            ["stream", bytes] => {
                let mut stream = net.connect((SERVER, PORT).into(), DIAL_DEADLINE).await?;
                fetch(&mut stream, bytes.parse()?).await?;
            }
            ["reach"] => {
                while let Err(error) = reach(&net).await {
                    eprintln!("after {:?}: {error}", begin.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
            }
            _ => return Err(format!("no such order: {order}").into()),
        }
        println!("{}", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn open(net: &Netstack, count: usize, bytes: usize) -> Outcome<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for begun in 0..count + OPENING {
        if begun >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
        }
        if begun < count {
            let net = net.clone();
            opening.spawn(async move {
                let mut stream = net.connect((SERVER, PORT).into(), DIAL_DEADLINE).await?;
                fetch(&mut stream, bytes).await?;
                Outcome::Ok(stream)
            });
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

async fn reach(net: &Netstack) -> Outcome<()> {
    let mut stream = net.connect((SERVER, PORT).into(), DIAL_DEADLINE).await?;
    fetch(&mut stream, 1).await
}

async fn fetch(stream: &mut TcpStream, bytes: usize) -> Outcome<()> {
    let mut request = [0; REQUEST];
    request[..8].copy_from_slice(&u64::try_from(bytes)?.to_be_bytes());
    stream.write_all(&request).await?;
    if bytes <= REQUEST {
        stream.read_exact(&mut request[..bytes]).await?;
        return Ok(());
    }
    let mut piece = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(PIECE);
        match stream.read(&mut piece[..size]).await? {
            0 => return Err("the stream ended early".into()),
            read => left -= read,
        }
    }
    Ok(())
}

/// A node at an address of the tunnel that knows one other.
fn start(own: Ipv4Addr, port: Option<u16>, other: Ipv4Addr) -> Outcome<Netstack> {
    let mut config = Config::new(key(own), vec![IpAddr::V4(own)]);
    config.udp_bind = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0))));
    config.inbound = Inbound::Firewall;
    let net = Netstack::start(config)?;
    net.upsert_peer(PeerConfig {
        public_key: key(other).public_key(),
        preshared_key: None,
        allowed_ips: vec![Cidr::host(IpAddr::V4(other))],
        keepalive: Some(Duration::from_secs(25)),
    });
    Ok(net)
}

/// Both nodes know each other's key without a word.
fn key(of: Ipv4Addr) -> PrivateKey {
    let [.., last] = of.octets();
    PrivateKey::from_bytes([last; 32])
}
