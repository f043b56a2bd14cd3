//! One fault: before, while and after it.

use std::time::{Duration, Instant};

use super::dice::Dice;
use super::fault::Fault;
use super::judge::judge;
use super::ledger::{Window, millis};
use super::load::SharedLedger;
use super::report::Round;
use super::scene::Scene;
use super::whole::{GIVE_UP, await_whole};
use super::{Rules, name, recovered};

/// Load after everything works again, in which nothing may be lost.
const CALM: Duration = Duration::from_millis(1500);

/// Brings a fault about under load and waits until everything works again.
pub(super) async fn round(
    scene: &mut Scene,
    fault: Fault,
    rules: Rules,
    ledger: &SharedLedger,
    dice: &mut Dice,
) -> Round {
    scene.deployment.origin.forget();
    ledger.lock().open(Instant::now());
    let struck = scene.strike(fault, dice).await;
    let healed = Instant::now();
    ledger.lock().heal(healed);

    let whole = await_whole(scene).await;
    let service = match &whole {
        Ok(_) => recovered(ledger).await,
        Err(_) => ledger.lock().recovered(),
    };
    tokio::time::sleep(CALM).await;
    let window = ledger.lock().close(Instant::now());
    let tidied = scene.tidy();

    let since_healed = |time: &Instant| millis(time.saturating_duration_since(healed));
    let mut broken = Vec::new();
    broken.extend(struck.as_ref().err().cloned());
    broken.extend(tidied.err());
    if let Err(why) = &whole {
        broken.push(format!("does not work again by itself within {GIVE_UP:?}: {why}"));
    }
    if let Err(why) = &service {
        broken.push(format!("the load does not recover: {why}"));
    }
    let service_ms = service.as_ref().ok().map(since_healed);
    broken.extend(judge(fault, scene.paths, rules, &window, service_ms));
    let Window { tallies, examples } = window;
    let [http, websocket, stream] = tallies;
    let place = format!("{} {fault}", name(scene.paths));
    Round {
        paths: name(scene.paths),
        fault: fault.to_string(),
        note: struck.unwrap_or_default(),
        http,
        websocket,
        stream,
        service_ms,
        whole_ms: whole.as_ref().ok().map(since_healed),
        examples,
        broken: broken
            .into_iter()
            .map(|rule| format!("{place}: {rule}"))
            .collect(),
    }
}
