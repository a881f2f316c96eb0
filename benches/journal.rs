//! The journal alone: records made durable by 1, 8, 64 and 256 tasks, beside a raw group-committed append.
//!
//! `cargo bench --bench journal [-- --quick]`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[path = "rig/append.rs"]
mod append;
#[path = "rig/figures.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod figures;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar::access::{Access, Action, Grounds, Resource, Role, Scopes, Workload};
use bursar::audit::{Durability, Journal, LogId, Mode, Operation, Record, Settings, Start};
use bursar::crypto::{Digest, SystemRandom};
use bursar::secret::allocator::ZeroOnFree;
use bursar::time::{SystemClock, Wall};
use tokio::task::LocalSet;

use append::Append;
use figures::{median, print_table};

#[global_allocator]
static ALLOCATOR: ZeroOnFree = ZeroOnFree::new();

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, long) = if quick { (3, Duration::from_millis(300)) } else { (11, Duration::from_millis(700)) };
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let append = Append::start(&disk.path().join("raw")).unwrap();
    let [disk_journal, os_journal] = [(Durability::Disk, "disk"), (Durability::Os, "os")]
        .map(|(durability, name)| open(&disk.path().join(name), durability));
    let mut rows =
        vec![["tasks", "raw append/s", "journal/s", "× raw (of rounds)", "journal, os/s"].map(str::to_owned).to_vec()];
    for tasks in [1, 8, 64, 256] {
        let measured: Vec<[f64; 3]> = (0..rounds)
            .map(|_| {
                let raw = raw(&append, tasks, long);
                [raw, records(&disk_journal, tasks, long), records(&os_journal, tasks, long)]
            })
            .collect();
        let of = |figure: fn(&[f64; 3]) -> f64| median(measured.iter().map(figure));
        rows.push(vec![
            tasks.to_string(),
            format!("{:.0}", of(|[raw, _, _]| *raw)),
            format!("{:.0}", of(|[_, journal, _]| *journal)),
            format!("{:.2}", of(|[raw, journal, _]| journal / raw)),
            format!("{:.0}", of(|[_, _, os]| *os)),
        ]);
    }
    print_table(&rows);
}

fn open(dir: &Path, durability: Durability) -> Journal {
    let settings = Settings { dir: dir.to_owned(), durability, segment_bytes: 256 << 20, reserve_bytes: 16 << 20 };
    let start = Start {
        log: LogId::make(&SystemRandom).unwrap(),
        agent: "bench",
        host: "host",
        boot: "00000000-0000-0000-0000-000000000000",
        version: env!("CARGO_PKG_VERSION"),
        mode: Mode::Agent,
        pid: std::process::id(),
        uid: 0,
        policy: None,
    };
    Journal::open(&settings, &start, Arc::new(SystemClock)).unwrap()
}

fn raw(append: &Append, tasks: usize, long: Duration) -> f64 {
    let line = [b'r'; 512];
    let append = append.clone();
    per_second(tasks, long, move || {
        let append = append.clone();
        async move { append.append(&line).await }
    })
}

fn records(journal: &Journal, tasks: usize, long: Duration) -> f64 {
    let facts: Arc<[_]> = Arc::new([("uid", "1000".into()), ("unit", "checkout.service".into())]);
    let who = Workload { name: "checkout".parse().unwrap(), role: Role::Workload, uid: 1_000, facts };
    let access = Access {
        who: Arc::new(who),
        action: Action::Token,
        resource: Resource::Provider("stripe".parse().unwrap()),
        scopes: Scopes::parse("charges:read charges:write").unwrap(),
        audience: Default::default(),
    };
    let grounds = Grounds {
        minute: Wall::from_micros(1_795_240_800_000_000).minute(),
        policies: Arc::new(["checkout-charges".into()]),
        snapshot: Digest::of(b"policies"),
    };
    let (journal, asked) = (journal.clone(), Rc::new((access, grounds)));
    per_second(tasks, long, move || {
        let (journal, asked) = (journal.clone(), Rc::clone(&asked));
        async move {
            let (access, grounds) = &*asked;
            let operation = Operation { access, grounds, result: "ok", detail: "version 3" };
            drop(journal.append(&Record::Operation(operation)).await.unwrap());
        }
    })
}

/// How often a second `tasks` tasks on one thread do `act`.
#[expect(clippy::cast_precision_loss, reason = "a count")]
fn per_second<F: Future<Output = ()> + 'static>(tasks: usize, long: Duration, act: impl Fn() -> F + 'static) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (act, began) = (Rc::new(act), Instant::now());
    let set = LocalSet::new();
    let counts: Vec<_> = (0..tasks)
        .map(|_| {
            let act = Rc::clone(&act);
            set.spawn_local(async move {
                let mut count = 0_u64;
                while began.elapsed() < long {
                    act().await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    runtime.block_on(set);
    let counts = counts.into_iter().map(|count| runtime.block_on(count).unwrap());
    counts.sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}
