//! Whatever happens on the way, what comes out is what went in.

use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::line::*;
use crate::Buffers;
use crate::tcp::{Read, Written};

#[derive(Debug, Clone)]
struct Weather {
    lots: Vec<u8>,
    delay: u64,
    mtu: u16,
    receive: usize,
    transmit: usize,
    sizes: [usize; 2],
    chunks: [usize; 2],
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn both_streams_come_whole(weather in weather()) {
        let mut line = Line::new(Settings {
            delay: Duration::from_micros(weather.delay),
            mtu: weather.mtu,
            buffers: Buffers { receive: weather.receive, transmit: weather.transmit },
            speed: None,
        });
        let lots = weather.lots.clone();
        let mut number = 0;
        line.judge = Box::new(move |_| {
            number += 1;
            match lots.get(number) {
                Some(0..40) => Lot::Lost,
                Some(late @ 40..80) => Lot::Late(Duration::from_micros(u64::from(*late) * 500)),
                Some(80..90) => Lot::Twice,
                _ => Lot::Arrives,
            }
        });
        let streams = weather.sizes.map(pattern);
        let mut written = [0; 2];
        let mut received = [Vec::new(), Vec::new()];
        let mut ended = [false; 2];
        line.run_until(Duration::from_mins(10), |line| {
            for side in [A, B] {
                let Some(end) = &mut line.ends[side] else { continue };
                let rest = &streams[side][written[side]..];
                let chunk = &rest[..rest.len().min(weather.chunks[side])];
                match end.write(chunk, Waker::noop()) {
                    Written::Bytes(len) => written[side] += len,
                    Written::Pending | Written::Broken => {}
                }
                if written[side] == streams[side].len() {
                    end.close();
                }
                let got = &mut received[side];
                loop {
                    match end.read(weather.chunks[side], Waker::noop(), |piece| got.extend_from_slice(piece)) {
                        Read::Finished => ended[side] = true,
                        Read::Broken => panic!("it broke"),
                        Read::Data(_) => continue,
                        Read::Pending => {}
                    }
                    break;
                }
            }
            ended == [true; 2]
        });
        prop_assert!(received[B] == streams[A] && received[A] == streams[B]);
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    (
        prop::collection::vec(any::<u8>(), 0..300),
        100..60_000_u64,
        prop::sample::select(vec![576_u16, 1280, 1420]),
        2000..300_000_usize,
        2000..300_000_usize,
        [1..100_000_usize, 1..60_000],
        [200..70_000_usize, 200..70_000],
    )
        .prop_map(|(lots, delay, mtu, receive, transmit, sizes, chunks)| Weather {
            lots,
            delay,
            mtu,
            receive,
            transmit,
            sizes,
            chunks,
        })
}
