//! (E) The log read from its end: for what stands near it, without reading the rest.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::chain::{Chain, Segment};
use super::form::Line;
use super::stores::Held;
use super::{AuditError, MAX_LINE_BYTES};

/// How much is read at once.
const BLOCK_BYTES: u64 = 1 << 18;
/// Stands in the head of every line that tells of a store.
const STORE: &[u8] = b"\"kind\":\"store\"";
/// The longest part of a line before its kind.
const MAX_BEFORE_KIND: usize = 64;

/// Holds each of `stores` against the log in `dir`. Reads no further back than they need: as a rule the last few
/// lines, after a crash what was written since the last record of each, for a store that is new the whole log.
///
/// # Errors
/// [`AuditError::Damaged`], [`AuditError::Io`].
pub fn hold(dir: &Path, stores: &mut [Held]) -> Result<(), AuditError> {
    if stores.is_empty() {
        return Ok(());
    }
    for segment in Chain::read(dir)?.segments.iter().rev() {
        let settled = |line: &Line| stores.iter_mut().map(|held| held.take(line)).filter(|done| !done).count() == 0;
        if until(segment, settled).map_err(AuditError::io(&segment.path))? {
            break;
        }
    }
    Ok(())
}

/// Gives the records of stores in `segment` to `enough`, newest first, until it says so.
///
/// A line that is none is passed over: where it stands in the valid part, that is for `verify` to find.
fn until(segment: &Segment, mut enough: impl FnMut(&Line) -> bool) -> std::io::Result<bool> {
    let file = File::open(&segment.path)?;
    let mut end = segment.closed.map_or(file.metadata()?.len(), |closed| closed.bytes);
    // The beginning of a block is the end of a line that begins in the block before it.
    let mut rest = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(BLOCK_BYTES);
        let mut block = vec![0; usize::try_from(end - from).unwrap_or(0)];
        file.read_exact_at(&mut block, from)?;
        block.append(&mut rest);
        let whole_from =
            if from == 0 { 0 } else { block.iter().position(|byte| *byte == b'\n').map_or(block.len(), |at| at + 1) };
        for bytes in block.get(whole_from..).unwrap_or_default().rsplit(|byte| *byte == b'\n') {
            if tells_of_a_store(bytes)
                && let Ok(line) = Line::parse(bytes)
                && enough(&line)
            {
                return Ok(true);
            }
        }
        block.truncate(whole_from);
        // What is longer than a line is none, however it begins.
        rest = if block.len() > MAX_LINE_BYTES + 1 { Vec::new() } else { block };
        end = from;
    }
    Ok(false)
}

fn tells_of_a_store(line: &[u8]) -> bool {
    let head = line.get(..line.len().min(MAX_BEFORE_KIND + STORE.len())).unwrap_or_default();
    head.windows(STORE.len()).any(|at| at == STORE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::stores::{NotAsKnown, Standing};

    const START: &str = r#"{"v":1,"i":0,"t":"2026-11-21T06:00:00.000000Z","kind":"start","log":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","origin":"","agent":"","host":"","boot":"","version":"","mode":"agent","durability":"disk","pid":1,"uid":0,"policy_digest":null}"#;

    fn store(nth: usize) -> String {
        format!(
            r#"{{"v":1,"i":{nth},"t":"2026-11-21T06:00:00.000000Z","kind":"store","store":"s{nth}","id":"x{nth}","changes":{nth},"noted":"opened"}}"#
        )
    }

    fn found(nth: usize) -> Held {
        Held::new(Standing { store: format!("s{nth}").parse().unwrap(), id: format!("x{nth}").into(), changes: 1 })
    }

    #[test]
    fn every_record_is_found_wherever_blocks_end() {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<_> = std::iter::once(START.to_owned()).chain((1..5_000).map(store)).collect();
        let text = lines.join("\n") + "\n{\"v\":1,\"i\":torn";
        assert!(text.len() as u64 > 2 * BLOCK_BYTES);
        std::fs::write(dir.path().join("00000001-0000000000000000.jsonl"), text).unwrap();
        let mut held: Vec<_> = (2..5_000).map(found).collect();
        hold(dir.path(), &mut held).unwrap();
        for (nth, held) in (2..).zip(&held) {
            let record = |fault: &NotAsKnown| match fault {
                NotAsKnown::Older { record, .. } | NotAsKnown::Another { record, .. } => *record,
            };
            assert_eq!(held.fault().map(|(fault, _)| record(fault)), Some(nth));
        }
    }

    #[test]
    fn an_empty_log_knows_nothing() {
        let mut held = [found(1)];
        hold(tempfile::tempdir().unwrap().path(), &mut held).unwrap();
        assert!(held[0].fault().is_none());
    }
}
