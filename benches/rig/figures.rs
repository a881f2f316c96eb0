//! What was measured, and how it is said: histograms, medians, tables.

use std::time::Duration;

/// Latencies in nanoseconds, in buckets at most 1/64 wide: percentiles are exact to 1.6 %.
pub(crate) struct Histogram {
    buckets: Vec<u32>,
    count: u64,
}

const STEPS_PER_OCTAVE: u64 = 64;
const OCTAVES: u64 = 40;

impl Histogram {
    /// Nothing measured yet.
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; usize::try_from(STEPS_PER_OCTAVE * OCTAVES).unwrap()], count: 0 }
    }

    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap().max(STEPS_PER_OCTAVE);
        let octave = u64::from(nanos.ilog2()) - u64::from(STEPS_PER_OCTAVE.ilog2());
        let bucket = octave * STEPS_PER_OCTAVE + (nanos >> octave) - STEPS_PER_OCTAVE;
        let last = self.buckets.len() - 1;
        self.buckets[usize::try_from(bucket).unwrap().min(last)] += 1;
        self.count += 1;
    }

    /// How many latencies were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that the fraction `of` of all is not above; zero where nothing was measured.
    pub(crate) fn quantile(&self, of: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "counts"
        )]
        let mut left = (self.count as f64 * of).ceil() as u64;
        for (bucket, count) in (0_u64..).zip(&self.buckets) {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 && self.count > 0 {
                let (octave, step) = (bucket / STEPS_PER_OCTAVE, bucket % STEPS_PER_OCTAVE);
                return Duration::from_nanos((STEPS_PER_OCTAVE + step) << octave);
            }
        }
        Duration::ZERO
    }
}

/// The value in the middle; of an even number, the lower one. NaN for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Microseconds, as tables show them.
pub(crate) fn micros(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e6
}

/// Prints rows in columns, the first row as the head: a table in Markdown, ready for `docs/performance.md`.
pub(crate) fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for (nth, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        println!("|{}|", cells.collect::<Vec<_>>().join("|"));
        if nth == 0 {
            let rules = widths.iter().map(|width| "-".repeat(width + 2));
            println!("|{}|", rules.collect::<Vec<_>>().join("|"));
        }
    }
}
