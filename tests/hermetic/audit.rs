//! The book: what happens to records when the disk fails or the process dies, and what readers find.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bursar::audit::form::Line;
use bursar::audit::journal::{HANGS_AFTER, Journal};
use bursar::audit::layout::SegmentName;
use bursar::audit::query::{Filter, Follow, find, query};
use bursar::audit::segment::Files;
use bursar::audit::verify::{Verified, verify};
use bursar::audit::*;
use bursar::name::Name;
use bursar::time::{Boot, Clock, ManualClock, Moment, Wall};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A log in a directory of its own, under a clock that stands still.
struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    segment_bytes: u64,
    durability: Durability,
}

impl Bench {
    fn new() -> Self {
        let now = Moment { wall: Wall::from_micros(1_795_240_800_000_000), boot: Boot::default() };
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(now)),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            segment_bytes: 1 << 20,
            durability: Durability::Disk,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open_through<S: Sink>(&self, wrap: impl FnOnce(Files) -> S) -> Result<Journal, AuditError> {
        let settings = Settings {
            dir: self.path().to_owned(),
            durability: self.durability,
            segment_bytes: self.segment_bytes,
            reserve_bytes: 4_096,
        };
        Journal::open_through(&settings, &start(), self.clock.clone(), wrap)
    }

    fn open(&self) -> Journal {
        self.open_through(|files| files).unwrap()
    }

    fn stop(&self, journal: &Journal) {
        self.runtime.block_on(journal.stop("test")).unwrap();
    }

    fn append(&self, journal: &Journal, record: &Record<'_>) -> Result<DecisionId, NotDurable> {
        self.runtime.block_on(journal.append(record)).map(|receipt| receipt.decision())
    }

    fn lines(&self) -> Vec<Line> {
        query(self.path(), Filter::default()).unwrap().map(Result::unwrap).collect()
    }

    fn verified(&self) -> Verified {
        let verified = verify(self.path()).unwrap();
        assert!(verified.holds(), "{verified:#?}");
        verified
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let segments = entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        segments.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }
}

fn start() -> Start<'static> {
    Start {
        log: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap(),
        agent: "host-7",
        host: "host-7",
        boot: "2f1c5a2e",
        version: "0.1.0",
        mode: Mode::Agent,
        pid: std::process::id(),
        uid: 0,
        policy: None,
    }
}

fn refusal(detail: &str) -> Refusal<'_> {
    let (asked, grounds, why) = (None, None, None);
    Refusal { code: "unidentified", who: None, uid: Some(7), asked, grounds, why, detail, trace: None }
}

fn refused(detail: &str) -> Record<'_> {
    Record::Refusal(refusal(detail))
}

/// What stands for a release here: nothing of it remains if it does not become durable.
fn intent(provider: &Name) -> Record<'_> {
    static NONE: std::sync::LazyLock<(bursar::access::Scopes, bursar::access::Audiences)> =
        std::sync::LazyLock::new(Default::default);
    let effect = Effect::Mint { provider, scopes: &NONE.0, audience: &NONE.1 };
    Record::Intent(Intent { actor: Actor::Bursar, effect })
}

/// How a call to the disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// Nothing happens but the error.
    Failed(i32),
    /// It takes place, and an error is returned all the same.
    FailedButApplied(i32),
    /// A part of the bytes is written, and then there is an error.
    Torn(i32),
    /// A part of the bytes is written, and that is said.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Create,
    Append,
    Sync,
    Reserve,
}

/// Files whose calls go wrong: from the `nth` of a kind on, `times` times.
#[derive(Clone)]
struct Plan {
    call: Call,
    how: How,
    nth: u32,
    times: u32,
    seen: Arc<Mutex<u32>>,
}

impl Plan {
    fn strikes(&self, call: Call) -> bool {
        let mut seen = self.seen.lock().unwrap();
        *seen += u32::from(call == self.call);
        call == self.call && (self.nth..self.nth + self.times).contains(&*seen)
    }
}

struct Faulty {
    files: Files,
    dir: PathBuf,
    plan: Plan,
}

fn faulty(bench: &Bench, files: Files, plan: Plan) -> Faulty {
    Faulty { files, dir: bench.path().to_owned(), plan }
}

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl Sink for Faulty {
    fn create(&mut self, name: SegmentName, reserve: u64) -> io::Result<()> {
        if !self.plan.strikes(Call::Create) {
            return self.files.create(name, reserve);
        }
        match self.plan.how {
            How::Failed(errno) | How::Torn(errno) => error(errno),
            // The file is there, and stays empty: the former one is still appended to.
            How::FailedButApplied(errno) => {
                std::fs::File::create_new(self.dir.join(name.to_string())).and_then(|_| error(errno))
            }
            How::Short => self.files.create(name, 0),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let strikes = self.plan.strikes(Call::Append);
        let half = &bytes[..bytes.len().div_ceil(2)];
        if !strikes {
            return self.files.append(bytes);
        }
        match self.plan.how {
            How::Failed(errno) => error(errno),
            How::FailedButApplied(errno) => self.files.append(bytes).and_then(|_| error(errno)),
            How::Torn(errno) => self.files.append(half).and_then(|_| error(errno)),
            How::Short => self.files.append(half),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let strikes = self.plan.strikes(Call::Sync);
        match self.plan.how {
            How::Failed(errno) | How::FailedButApplied(errno) | How::Torn(errno) if strikes => error(errno),
            How::Failed(_) | How::FailedButApplied(_) | How::Torn(_) | How::Short => Ok(()),
        }
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        let strikes = self.plan.strikes(Call::Reserve);
        match self.plan.how {
            How::Failed(errno) if strikes => error(errno),
            How::FailedButApplied(errno) if strikes => self.files.reserve(from, to).and_then(|()| error(errno)),
            How::Failed(_) | How::FailedButApplied(_) | How::Torn(_) | How::Short => self.files.reserve(from, to),
        }
    }

    fn length(&self) -> io::Result<u64> {
        self.files.length()
    }
}

/// Files whose syncs hang until the test lets each go on.
struct Hanging {
    files: Files,
    begun: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Sink for Hanging {
    fn create(&mut self, name: SegmentName, reserve: u64) -> io::Result<()> {
        self.files.create(name, reserve)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.files.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let _ = self.begun.send(());
        // The test has gone: the disk is well again.
        let _ = self.go_on.recv();
        self.files.sync()
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        self.files.reserve(from, to)
    }

    fn length(&self) -> io::Result<u64> {
        self.files.length()
    }
}

/// A journal over a disk that hangs at each sync: where a sync is said to have begun, and what lets it go on.
fn hanging(bench: &Bench) -> (Journal, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, begins) = mpsc::channel();
    let (lets, go_on) = mpsc::channel();
    lets.send(()).unwrap();
    let journal = bench.open_through(|files| Hanging { files, begun, go_on }).unwrap();
    begins.recv().unwrap();
    (journal, begins, lets)
}

fn hangs(bench: &Bench, journal: &Journal) -> bool {
    journal.status().hangs(bench.clock.now().boot)
}

#[test]
fn nobody_waits_for_a_disk_that_hangs() {
    let bench = Bench::new();
    let (journal, begins, lets) = hanging(&bench);
    let provider: Name = "p".parse().unwrap();
    let on_its_way = journal.enqueue(&intent(&provider));
    begins.recv().unwrap();
    let behind_it = journal.enqueue(&intent(&provider));
    bench.clock.advance(HANGS_AFTER - Duration::from_micros(1));
    assert!(!hangs(&bench, &journal));
    bench.clock.advance(Duration::from_micros(1));
    // Nobody asks how the journal stands: those who wait are let go all the same.
    for waiting in [on_its_way, behind_it] {
        assert_eq!(bench.runtime.block_on(waiting).unwrap_err(), NotDurable::Hangs);
    }
    assert!(hangs(&bench, &journal));
    assert_eq!(bench.append(&journal, &intent(&provider)), Err(NotDurable::Hangs), "a new one does not wait at all");
    assert_eq!(bench.append(&journal, &refused("meanwhile")), Err(NotDurable::Hangs));
    assert_eq!(bench.runtime.block_on(journal.stop("test")), Err(NotDurable::Hangs), "nor does the end");
    drop((lets, begins));
}

#[test]
fn when_the_disk_comes_back_the_journal_goes_on_and_the_log_over_reports() {
    let bench = Bench::new();
    let (journal, begins, lets) = hanging(&bench);
    let [early, late]: [Name; 2] = ["early", "late"].map(|name| name.parse().unwrap());
    let pending = journal.enqueue(&intent(&early));
    begins.recv().unwrap();
    bench.clock.advance(HANGS_AFTER);
    assert!(hangs(&bench, &journal));
    assert_eq!(bench.runtime.block_on(pending).unwrap_err(), NotDurable::Hangs);
    assert_eq!(bench.append(&journal, &intent(&late)), Err(NotDurable::Hangs));
    assert_eq!(bench.append(&journal, &refused("meanwhile")), Err(NotDurable::Hangs));

    lets.send(()).unwrap();
    begins.recv().unwrap();
    assert!(!hangs(&bench, &journal), "the next commit has only begun");
    drop((lets, begins));
    assert!(bench.append(&journal, &refused("afterwards")).is_ok());
    bench.stop(&journal);
    let told: Vec<_> = bench.lines().iter().filter_map(|line| marker(line).map(str::to_owned)).collect();
    assert_eq!(told, ["early", "meanwhile", "afterwards"], "what announces what did not happen is not even laid in");
    bench.verified();
}

/// What was recorded in one run, and what was answered.
#[derive(Default)]
struct Told {
    durable: Vec<(u64, String)>,
    refusals: Vec<String>,
    failures: usize,
}

/// Records under `plan`, with a restart whenever the log cannot even be opened.
fn run(bench: &Bench, plan: &Plan) -> Told {
    let journal = (0..8)
        .find_map(|_| bench.open_through(|files| faulty(bench, files, plan.clone())).ok())
        .expect("the disk recovers");
    let mut told = Told::default();
    for round in 0..12 {
        let (provider, detail) = (format!("p-{round}").parse::<Name>().unwrap(), format!("r-{round}"));
        told.refusals.push(detail.clone());
        let both = [journal.enqueue(&intent(&provider)), journal.enqueue(&refused(&detail))];
        for (pending, marker) in both.into_iter().zip([provider.to_string(), detail]) {
            match bench.runtime.block_on(pending) {
                Ok(receipt) => told.durable.push((receipt.decision().index, marker)),
                Err(_) => told.failures += 1,
            }
        }
        bench.clock.advance(Duration::from_secs(11));
    }
    bench.stop(&journal);
    told
}

fn marker(line: &Line) -> Option<&str> {
    line.text("resource").or(line.text("detail"))
}

/// Promise R2, at the seam: after any fault no receipt is without its line, the log verifies, nothing is cut.
#[test]
fn no_fault_of_the_disk_leaves_a_receipt_without_its_line() {
    let calls = [
        (Call::Create, vec![How::Failed(ENOSPC), How::FailedButApplied(EIO)]),
        (Call::Append, vec![How::Failed(ENOSPC), How::FailedButApplied(EIO), How::Torn(ENOSPC), How::Short]),
        (Call::Sync, vec![How::Failed(EIO)]),
        (Call::Reserve, vec![How::Failed(ENOSPC), How::FailedButApplied(ENOSPC), How::Failed(EIO)]),
    ];
    let mut struck = 0;
    for (call, hows) in calls {
        for how in hows {
            for (nth, times) in (1..10).flat_map(|nth| [(nth, 1), (nth, 3)]) {
                let plan = Plan { call, how, nth, times, seen: Arc::default() };
                let mut bench = Bench::new();
                bench.segment_bytes = 4_096;
                let told = run(&bench, &plan);
                check(&bench, &told, &format!("{call:?} {how:?} {nth} {times}"));
                struck += usize::from(told.failures > 0);
            }
        }
    }
    assert!(struck > 60, "only {struck} runs met their fault");
}

fn check(bench: &Bench, told: &Told, case: &str) {
    let lines = bench.lines();
    for (index, marker_of) in &told.durable {
        let line = lines.iter().find(|line| line.index() == *index);
        assert_eq!(line.and_then(marker), Some(marker_of.as_str()), "{case}: record {index}");
    }
    for refusal in &told.refusals {
        let times = lines.iter().filter(|line| marker(line) == Some(refusal)).count();
        assert_eq!(times, 1, "{case}: {refusal} was recorded {times} times");
    }
    let verified = verify(bench.path()).unwrap();
    assert!(verified.holds(), "{case}: {verified:#?}");
    assert_eq!(verified.records, lines.len() as u64, "{case}");
}

#[test]
fn a_failed_sync_closes_the_segment_and_says_so() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Sync, how: How::Failed(EIO), nth: 3, times: 1, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    bench.append(&journal, &refused("one")).unwrap();
    let before = bench.files();
    assert!(matches!(bench.append(&journal, &refused("two")), Err(NotDurable::Io(_))));
    assert!(matches!(bench.append(&journal, &refused("three")), Err(NotDurable::Io(_))), "not before the retry is due");
    assert_eq!(journal.status().failing, Some(EIO));
    bench.clock.advance(Duration::from_secs(1));
    let id = bench.append(&journal, &refused("four")).unwrap();
    assert_eq!(journal.status().failing, None);
    bench.stop(&journal);

    let lines = bench.lines();
    let told: Vec<_> = lines.iter().map(|line| (line.kind(), line.text("detail"), line.number("again"))).collect();
    assert_eq!(
        told,
        [
            ("start", None, None),
            ("refusal", Some("one"), None),
            ("reopen", None, None),
            ("refusal", Some("two"), Some(2)),
            ("refusal", Some("three"), None),
            ("refusal", Some("four"), None),
            ("stop", None, None),
        ]
    );
    assert_eq!(id.index, 5);
    let reopen = &lines[2];
    assert_eq!((reopen.text("cause"), reopen.number("errno"), reopen.number("void")), (Some("sync"), Some(5), Some(1)));
    for (path, bytes) in before {
        assert!(std::fs::read(path).unwrap().starts_with(&bytes), "something was cut");
    }
    assert_eq!(bench.verified().notes.len(), 1, "the void bytes are accounted for");
}

#[test]
fn the_journal_recovers_without_being_asked() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Append, how: How::Failed(ENOSPC), nth: 2, times: 1, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    assert!(bench.append(&journal, &refused("one")).is_err());
    bench.clock.advance(Duration::from_secs(11));
    while journal.status().failing.is_some() {
        std::thread::yield_now();
    }
    assert_eq!(journal.status().size, 3, "start, reopen and the refusal");
    bench.stop(&journal);
    bench.verified();
}

#[test]
fn at_stop_what_is_void_gets_its_last_chance() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Sync, how: How::Failed(EIO), nth: 2, times: 1, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    assert!(bench.append(&journal, &refused("one")).is_err());
    bench.stop(&journal);
    assert!(bench.lines().iter().any(|line| line.text("detail") == Some("one")));
    bench.verified();
}

/// The process dies between a failed sync and the record of it: what the disk has counts, though nobody was answered.
#[test]
fn a_void_batch_whose_end_was_never_told_is_over_reported() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Sync, how: How::Failed(EIO), nth: 2, times: 1_000, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    assert!(bench.append(&journal, &refused("one")).is_err());
    assert!(bench.runtime.block_on(journal.stop("test")).is_err());
    bench.stop(&bench.open());
    assert!(bench.lines().iter().any(|line| line.text("detail") == Some("one")));
    bench.verified();
}

#[test]
fn with_os_a_segment_that_cannot_be_synced_is_said() {
    let mut bench = Bench::new();
    (bench.segment_bytes, bench.durability) = (4_096, Durability::Os);
    let plan = Plan { call: Call::Sync, how: How::Failed(EIO), nth: 1, times: 1, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    for _ in 0..40 {
        bench.append(&journal, &refused("")).unwrap();
    }
    bench.stop(&journal);
    let lines = bench.lines();
    let reopen = lines.iter().find(|line| line.kind() == "reopen").unwrap();
    assert_eq!((reopen.text("cause"), reopen.number("void")), (Some("sync"), Some(0)));
    assert!(lines.iter().any(|line| line.kind() == "segment"), "the next rotation succeeds");
    bench.verified();
}

#[test]
fn a_full_disk_is_found_out_before_a_byte_is_written() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Reserve, how: How::Failed(ENOSPC), nth: 2, times: 3, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    let before = bench.files();
    let error = bench.append(&journal, &refused("one")).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(bench.files(), before);
    assert_eq!(journal.status().failing, Some(ENOSPC));
    while journal.status().failing.is_some() {
        bench.clock.advance(Duration::from_secs(1));
        std::thread::yield_now();
    }
    bench.stop(&journal);
    let kinds: Vec<_> = bench.lines().iter().map(|line| line.kind().to_owned()).collect();
    assert_eq!(kinds, ["start", "refusal", "stop"], "no segment had to be closed, and the refusal is not lost");
    bench.verified();
}

#[test]
fn a_full_disk_goes_on_in_the_segment_that_has_a_reserve() {
    let mut bench = Bench::new();
    bench.segment_bytes = 4_096;
    let plan = Plan { call: Call::Create, how: How::Failed(ENOSPC), nth: 2, times: 1_000, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    for _ in 0..40 {
        bench.append(&journal, &refused("")).unwrap();
    }
    assert_eq!(journal.status().segment, 1);
    assert!(journal.status().segment_bytes > bench.segment_bytes);
    bench.stop(&journal);
    bench.verified();
}

/// Writes a small log and ends it in order; the bytes of its one segment.
fn small_log(bench: &Bench) -> (PathBuf, Vec<u8>) {
    let journal = bench.open();
    for detail in ["one", "two", "three"] {
        bench.append(&journal, &refused(detail)).unwrap();
    }
    bench.stop(&journal);
    bench.files().pop_first().unwrap()
}

#[test]
fn a_torn_tail_is_closed_off_wherever_it_was_torn() {
    let bench = Bench::new();
    let (path, whole) = small_log(&bench);
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in (first_line..whole.len()).step_by(11).chain([whole.len() - 1, first_line]) {
        let torn = Bench::new();
        let file = torn.path().join(path.file_name().unwrap());
        std::fs::write(&file, &whole[..cut]).unwrap();
        torn.stop(&torn.open());
        let left = std::fs::read(&file).unwrap();
        assert!(left.starts_with(&whole[..cut]), "something was cut at {cut}");
        let valid = whole[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        let clean = whole[..cut].ends_with(b"\n");
        assert_eq!(left.len() > cut, clean, "a torn segment is not written to");
        assert_eq!(torn.verified().records, valid + if clean { 2 } else { 3 }, "at {cut}");
    }
}

#[test]
fn a_log_that_is_being_written_holds_whenever_it_is_looked_at() {
    let (bench, seen) = (Bench { durability: Durability::Os, ..Bench::new() }, Bench::new());
    let journal = bench.open();
    for _ in 0..1_500 {
        bench.append(&journal, &intent(&"stripe".parse().unwrap())).unwrap();
    }
    let (path, whole) = bench.files().pop_first().unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let file = seen.path().join(path.file_name().unwrap());
    std::fs::write(&file, &whole[..first_line]).unwrap();
    // In pieces, as a reader sees a long batch that is written page by page.
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::options().append(true).open(file).unwrap();
        for piece in whole[first_line..].chunks(97) {
            io::Write::write_all(&mut file, piece).unwrap();
            std::thread::yield_now();
        }
    });
    while !writer.is_finished() {
        seen.verified();
    }
    writer.join().unwrap();
    assert_eq!(seen.verified().records, 1_501);
}

#[test]
fn what_no_process_wrote_whole_is_stepped_over() {
    for rubbish in [&b""[..], b"\0\0\0\0", b"{\"v\":1,\"i\":0", b"not a line\n"] {
        let bench = Bench::new();
        std::fs::write(bench.path().join("00000001-0000000000000000.jsonl"), rubbish).unwrap();
        bench.stop(&bench.open());
        assert_eq!(bench.verified().records, 2, "{rubbish:?}");
        let (_, kept) = bench.files().pop_first().unwrap();
        assert!(kept.starts_with(rubbish));
    }
}

#[test]
fn zeros_after_a_crash_are_a_torn_tail() {
    let bench = Bench::new();
    let (path, whole) = small_log(&bench);
    std::fs::write(&path, [&whole[..], &[0; 4_096]].concat()).unwrap();
    bench.stop(&bench.open());
    let reopen = bench.lines().into_iter().find(|line| line.kind() == "reopen").unwrap();
    assert_eq!(reopen.text("cause"), Some("torn"));
    assert_eq!(reopen.get("former").unwrap()["tail"], 4_096);
    bench.verified();
}

#[test]
fn a_log_that_ended_in_order_is_gone_on_with() {
    let bench = Bench::new();
    small_log(&bench);
    small_log(&bench);
    assert_eq!(bench.files().len(), 1);
    let kinds: Vec<_> = bench.lines().iter().map(|line| line.kind().to_owned()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "start").count(), 2);
    bench.verified();
}

#[test]
fn one_process_writes_and_the_other_is_told_who() {
    let bench = Bench::new();
    let journal = bench.open();
    let error = bench.open_through(|files| files).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} (agent)", std::process::id())), "{error}");
    bench.stop(&journal);
    bench.stop(&bench.open());
}

#[test]
fn another_log_is_not_written_to() {
    let bench = Bench::new();
    small_log(&bench);
    let settings =
        Settings { dir: bench.path().to_owned(), durability: Durability::Os, segment_bytes: 1 << 20, reserve_bytes: 0 };
    let other = Start { log: "7ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap(), ..start() };
    assert!(matches!(Journal::open(&settings, &other, bench.clock.clone()), Err(AuditError::Foreign { .. })));
}

#[test]
fn after_stop_nothing_is_recorded() {
    let bench = Bench::new();
    let journal = bench.open();
    bench.stop(&journal);
    assert_eq!(bench.append(&journal, &refused("late")), Err(NotDurable::Stopped));
    assert_eq!(bench.runtime.block_on(journal.stop("again")), Err(NotDurable::Stopped));
}

#[test]
fn a_dropped_journal_ends_the_log_in_order() {
    let bench = Bench::new();
    let journal = bench.open();
    drop(journal.enqueue(&refused("nobody waits")));
    drop(journal);
    while bench.lines().last().unwrap().kind() != "stop" {
        std::thread::yield_now();
    }
    assert_eq!(bench.verified().records, 3);
}

#[test]
fn a_flood_of_refusals_is_counted_under_the_last_that_was_written() {
    let bench = Bench::new();
    let journal = bench.open();
    let flood: Vec<_> = (0..1_000).map(|_| journal.refuse(&refusal("flood"))).collect();
    let named: Vec<_> =
        flood.into_iter().map(|pending| bench.runtime.block_on(pending).unwrap().decision().index).collect();
    assert_eq!(named[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert!(named[10..].iter().all(|index| *index == 10));
    bench.stop(&journal);
    let lines = bench.lines();
    assert_eq!(lines.len(), 13);
    let suppressed = &lines[11];
    assert_eq!((suppressed.number("total"), suppressed.number("under")), (Some(990), Some(10)));
    bench.verified();
}

#[test]
fn what_was_counted_while_the_disk_failed_is_told_although_the_backlog_was_full() {
    let bench = Bench::new();
    let plan = Plan { call: Call::Sync, how: How::Failed(EIO), nth: 2, times: 4, seen: Arc::default() };
    let journal = bench.open_through(|files| faulty(&bench, files, plan)).unwrap();
    let detail = "d".repeat(200);
    let full: Vec<_> = (0..4_000).map(|_| journal.enqueue(&refused(&detail))).collect();
    assert!(full.into_iter().all(|pending| bench.runtime.block_on(pending).is_err()));
    let flood: Vec<_> = (0..30).map(|_| journal.refuse(&refusal("flood"))).collect();
    assert!(flood.into_iter().all(|pending| bench.runtime.block_on(pending).is_err()));
    while bench.append(&journal, &refused("again")).is_err() {
        bench.clock.advance(Duration::from_secs(11));
    }
    bench.stop(&journal);
    let lines = bench.lines();
    let sum = |key: &str| lines.iter().filter_map(|line| line.number(key)).sum::<u64>();
    assert!(sum("dropped") > 0, "the backlog was full");
    assert_eq!(sum("total"), 20);
    bench.verified();
}

/// X8: a minute of flooding leaves less than a mebibyte.
#[test]
fn a_minute_of_flood_is_less_than_a_mebibyte() {
    let bench = Bench::new();
    let journal = bench.open();
    let detail = "d".repeat(1_000);
    for _ in 0..600 {
        let mut flood: Vec<_> = (0..20).map(|_| journal.refuse(&refusal(&detail))).collect();
        let last = flood.pop().unwrap();
        drop(bench.runtime.block_on(last).unwrap());
        bench.clock.advance(Duration::from_millis(100));
    }
    bench.stop(&journal);
    let bytes: usize = bench.files().values().map(Vec::len).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    let lines = bench.lines();
    let counted: u64 = lines.iter().filter_map(|line| line.number("total")).sum();
    let written = lines.iter().filter(|line| line.kind() == "refusal").count() as u64;
    assert_eq!(counted + written, 12_000, "none is lost");
}

/// A log of several segments, an hour apart in the middle.
fn long_log() -> Bench {
    let mut bench = Bench::new();
    bench.segment_bytes = 4_096;
    let journal = bench.open();
    for nth in 0..40 {
        bench.append(&journal, &refused(&format!("r-{nth}"))).unwrap();
        bench.clock.advance(Duration::from_secs(if nth == 20 { 3_600 } else { 1 }));
    }
    bench.stop(&journal);
    bench
}

#[test]
fn whatever_does_not_fit_together_is_found_and_placed() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let changes: [(&str, Change); 7] = [
        ("a line dropped", |lines| drop(lines.remove(3))),
        ("two lines swapped", |lines| lines.swap(2, 3)),
        ("a line twice", |lines| lines.insert(3, lines[2].clone())),
        ("a number changed", |lines| lines[2] = lines[3].clone()),
        ("a byte that is not of the form", |lines| lines[2][40] = 0xff),
        ("the end cut off", |lines| lines.truncate(5)),
        ("something put after the end", |lines| lines.push(lines[2].clone())),
    ];
    for (what, change) in changes {
        let bench = long_log();
        bench.verified();
        let (path, bytes) = bench.files().into_iter().nth(1).unwrap();
        let mut lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        change(&mut lines);
        std::fs::write(&path, lines.concat()).unwrap();
        let verified = verify(bench.path()).unwrap();
        assert!(verified.faults.iter().any(|fault| fault.file == path), "{what}: {verified:#?}");
    }
}

#[test]
fn a_missing_segment_is_found_and_taken_away_first_ones_are_said() {
    let bench = long_log();
    let files: Vec<_> = bench.files().into_keys().collect();
    std::fs::remove_file(&files[0]).unwrap();
    let verified = bench.verified();
    assert!(verified.first > 0 && verified.notes.len() == 1, "{verified:#?}");
    std::fs::remove_file(&files[2]).unwrap();
    let verified = verify(bench.path()).unwrap();
    assert!(!verified.holds(), "{verified:#?}");
    assert!(verified.records > 10, "what is left is read all the same");
}

#[test]
fn records_are_found_by_id_and_by_what_they_say() {
    let bench = long_log();
    let log = start().log;
    for line in bench.lines() {
        assert_eq!(find(bench.path(), log.decision(line.index())).unwrap().as_ref(), Some(&line));
    }
    assert_eq!(find(bench.path(), log.decision(10_000)).unwrap(), None);
    assert_eq!(find(bench.path(), DecisionId { log: [0; 4], index: 1 }).unwrap(), None);
    let count = |filter| query(bench.path(), filter).unwrap().map(Result::unwrap).count();
    assert_eq!(count(Filter { code: Some("unidentified".into()), ..Filter::default() }), 40);
    assert_eq!(count(Filter { kind: Some("stop".into()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { workload: Some("checkout".into()), ..Filter::default() }), 0);
}

#[test]
fn a_range_of_time_reads_only_its_segments() {
    let bench = long_log();
    let noon = bench.lines().iter().find(|line| line.text("detail") == Some("r-30")).unwrap().at();
    let later = Filter { since: Some(noon), kind: Some("refusal".into()), ..Filter::default() };
    let (first, _) = bench.files().pop_first().unwrap();
    let first_line = std::fs::read(&first).unwrap().split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
    std::fs::write(&first, [first_line, b"rubbish\n".repeat(1_000)].concat()).unwrap();
    assert_eq!(query(bench.path(), later.clone()).unwrap().map(Result::unwrap).count(), 10);
    let all = query(bench.path(), Filter::default()).unwrap().collect::<Result<Vec<_>, _>>();
    assert!(all.is_err(), "the first segment is damaged, and was not needed");
}

#[test]
fn who_follows_sees_every_record_once_across_segments() {
    let mut bench = Bench::new();
    bench.segment_bytes = 4_096;
    let journal = bench.open();
    bench.append(&journal, &refused("before")).unwrap();
    let mut follow = Follow::new(bench.path(), Filter { kind: Some("refusal".into()), ..Filter::default() }).unwrap();
    let mut seen = Vec::new();
    for nth in 0..40 {
        bench.append(&journal, &refused(&format!("r-{nth}"))).unwrap();
        if nth % 7 == 0 {
            seen.extend(follow.look().unwrap());
        }
    }
    seen.extend(follow.look().unwrap());
    let seen: Vec<_> = seen.iter().map(|line| line.text("detail").unwrap().to_owned()).collect();
    assert_eq!(seen, (0..40).map(|nth| format!("r-{nth}")).collect::<Vec<_>>());
    assert_eq!(follow.look().unwrap(), []);
    assert!(journal.status().segment > 2);
    bench.stop(&journal);
}

#[test]
fn following_begins_where_the_last_ones_before_it_end() {
    let mut bench = Bench::new();
    bench.segment_bytes = 4_096;
    let journal = bench.open();
    let filter = Filter { kind: Some("refusal".into()), ..Filter::default() };
    let mut seen = Vec::new();
    let write = |range: std::ops::Range<u32>| {
        range.for_each(|nth| {
            bench.append(&journal, &refused(&format!("r-{nth}"))).unwrap();
        });
    };
    write(0..31);
    let mut follow = Follow::new(bench.path(), filter).unwrap();
    write(31..45);
    seen.extend(follow.before().unwrap().map(Result::unwrap));
    assert_eq!(seen.len(), 31, "what came since is not before, also over a segment's end");
    seen.extend(follow.look().unwrap());
    let seen: Vec<_> = seen.iter().map(|line| line.text("detail").unwrap().to_owned()).collect();
    assert_eq!(seen, (0..45).map(|nth| format!("r-{nth}")).collect::<Vec<_>>());
    bench.stop(&journal);
}
