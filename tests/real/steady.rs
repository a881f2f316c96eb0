//! Many rotations under a steady load of readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bursar::rotation::{Engine, Plan, State, keep_turning};

use crate::matrix::{House, Subject};

const ROTATIONS: u32 = 50;
/// How long a reader may hold what it has read.
const GRACE: Duration = Duration::from_millis(150);

/// Rotates 50 times, while readers fetch what is Current and use it: none of them fails within the grace period.
pub(crate) async fn no_reader_fails(subject: &Subject) {
    let house = Arc::new(House::new());
    let plan = Plan { grace: GRACE, ..subject.plan() };
    let engine = house.engine_by(plan, Arc::clone(&subject.rotator), house.store.clone());
    let turning = tokio::spawn(keep_turning(Arc::clone(&engine)));
    engine.rotate(&house.name(), false).await.unwrap();

    let (uses, failed, over) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (house, works) = (Arc::clone(&house), Arc::clone(&subject.works));
            let (uses, failed, over) = (Arc::clone(&uses), Arc::clone(&failed), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let (began, (_, value)) = (Instant::now(), house.current().await);
                    let works = works(value).await;
                    // Who holds it for longer than it was told to is not promised anything.
                    if began.elapsed() < GRACE {
                        uses.fetch_add(1, Ordering::Relaxed);
                        failed.fetch_add(u32::from(!works), Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    let mut versions = std::collections::BTreeSet::new();
    for _ in 0..ROTATIONS {
        until_idle(&engine).await;
        engine.rotate(&house.name(), false).await.unwrap();
        versions.insert(house.current().await.0);
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    until_idle(&engine).await;
    turning.abort();
    let (uses, failed) = (uses.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!("{}: {ROTATIONS} rotations, {uses} uses, {failed} failed", subject.rotator.kind());
    assert_eq!(versions.len(), ROTATIONS as usize, "each rotation serves another version");
    assert!(uses > ROTATIONS && failed == 0, "{failed} of {uses} uses failed");
}

async fn until_idle(engine: &Engine) {
    while engine.status().remove(0).state != State::Idle {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
