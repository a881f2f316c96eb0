//! What is counted, and the page on which a scraper reads it: pure. To count is a relaxed atomic addition: nothing is
//! looked up by name, locked or allocated for it.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of a histogram's buckets, in microseconds: 50 µs to 10 s.
const ENDS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often something happened. It never falls.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Once more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often by now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often each of a few words was the case: the values of one label, fixed in the program.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    words: [&'static str; N],
    counts: [Counter; N],
    /// What is none of the words, so that nothing is lost and no label is made up.
    other: Counter,
}

impl<const N: usize> Tally<N> {
    /// None of `words` was the case yet.
    #[must_use]
    pub fn of(words: [&'static str; N]) -> Self {
        Self { words, counts: std::array::from_fn(|_| Counter::default()), other: Counter::default() }
    }

    /// `word` was the case.
    pub fn count(&self, word: &str) {
        let known = self.words.iter().zip(&self.counts).find(|(known, _)| **known == word);
        known.map_or(&self.other, |(_, counter)| counter).add_one();
    }

    /// Each word, and how often it was the case; `other` where anything else was.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let other = Some(("other", self.other.get())).filter(|(_, count)| *count > 0);
        self.words.iter().zip(&self.counts).map(|(word, counter)| (*word, counter.get())).chain(other)
    }
}

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`ENDS`], and one for what took longer.
    buckets: [Counter; ENDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// It took so long once.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let nth = ENDS.partition_point(|end| *end < micros);
        self.buckets.get(nth).into_iter().for_each(Counter::add_one);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What a metric is, written once: its name, its help, its kind.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

impl Metric {
    /// Something that only grows; its name ends in `_total`.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: "counter", help }
    }

    /// Something that rises and falls.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: "gauge", help }
    }

    /// A distribution of durations; its name ends in `_seconds`.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: "histogram", help }
    }
}

/// What a scraper reads: the Prometheus text format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// The media type of [`Self::into_text`].
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins `metric`, whose samples follow at once. Without any it is known by its help all the same.
    pub fn family(&mut self, metric: &Metric) -> Family<'_> {
        let Metric { name, kind, help } = *metric;
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// `metric` with one sample, which has no labels.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric).sample(&[], value);
    }

    /// The whole text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (nth, (label, value)) in labels.iter().enumerate() {
            self.0.push(if nth == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a text does not fail.
            let _ = write!(self.0, "{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

/// A metric whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.page.line(self.name, labels, value);
    }

    /// A sample for each word of `tally`, under `label`, with `labels` before it.
    pub fn tally<const N: usize>(&mut self, labels: &[(&str, &str)], label: &str, tally: &Tally<N>) {
        for (word, count) in tally.iter() {
            self.sample(&[labels, &[(label, word)]].concat(), count);
        }
    }

    /// The samples of a histogram: its buckets, each with those below it, its sum in seconds and its count.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (bucket, mut sum) = (format!("{}_bucket", self.name), 0);
        let ends = ENDS.iter().map(|end| seconds(Duration::from_micros(*end)).to_string());
        for (end, counter) in ends.chain(["+Inf".to_owned()]).zip(&histogram.buckets) {
            sum += counter.get();
            self.page.line(&bucket, &[labels, &[("le", &end)]].concat(), sum);
        }
        let took = Duration::from_micros(histogram.micros.load(Ordering::Relaxed));
        self.page.line(&format!("{}_sum", self.name), labels, seconds(took));
        self.page.line(&format!("{}_count", self.name), labels, sum);
    }
}

/// A duration as metrics write it.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let (mut page, tally) = (Page::default(), Tally::of(["fresh", "stale"]));
        tally.count("stale");
        page.single(&Metric::gauge("bursar_ready", "Whether it is."), 1);
        page.family(&Metric::counter("bursar_x_total", "X.")).tally(&[("provider", "a\"b\\\n")], "freshness", &tally);
        assert_eq!(
            page.into_text(),
            "# HELP bursar_ready Whether it is.\n# TYPE bursar_ready gauge\nbursar_ready 1\n\
             # HELP bursar_x_total X.\n# TYPE bursar_x_total counter\n\
             bursar_x_total{provider=\"a\\\"b\\\\\\n\",freshness=\"fresh\"} 0\n\
             bursar_x_total{provider=\"a\\\"b\\\\\\n\",freshness=\"stale\"} 1\n"
        );
    }

    #[test]
    fn a_bucket_holds_those_below_it() {
        let (mut page, histogram) = (Page::default(), Histogram::default());
        [50, 51, 20_000_000].into_iter().map(Duration::from_micros).for_each(|took| histogram.observe(took));
        page.family(&Metric::histogram("s_seconds", "S.")).histogram(&[], &histogram);
        let text = page.into_text();
        for line in [
            "s_seconds_bucket{le=\"0.00005\"} 1\n",
            "s_seconds_bucket{le=\"0.0001\"} 2\n",
            "s_seconds_bucket{le=\"10\"} 2\n",
            "s_seconds_bucket{le=\"+Inf\"} 3\n",
            "s_seconds_sum 20.000101\n",
            "s_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn what_is_no_word_of_a_tally_makes_no_label() {
        let tally = Tally::of(["known"]);
        tally.count("unheard of");
        assert_eq!(tally.iter().collect::<Vec<_>>(), [("known", 0), ("other", 1)]);
    }
}
