//! A notice: what an agent tells others that share a secret of who holds it there, for as long as its lease runs. Pure.
//!
//! ```json
//! {"bursar":1,"agent":"web-2 4f1c…","until":"2026-11-21T06:10:00.000000Z",
//!  "holders":[{"workload":"checkout","pid":812,"version":"…"}],"others":["…"],"any":true}
//! ```
//! Whoever may write into the store may write anything here. What is no notice counts as one whose agent holds every
//! version: it delays an end until the deadline, as an honest one could, and does no more.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::store::{Author, Posted, VersionId};
use crate::time::Wall;

/// How long a notice counts without being renewed.
pub const NOTICE_LEASE: Duration = Duration::from_secs(600);
/// How long after it was written it is renewed: a clock may be that much off, twice, before a notice ends early.
const RENEWED_AFTER: Duration = Duration::from_secs(200);
/// How long after it was written less is told of, so that readers that come and go do not keep the store busy.
const LESS_AFTER: Duration = Duration::from_secs(30);
/// How long a notice is left alone that has ended: its agent may come back.
const LEFT_ALONE: Duration = Duration::from_secs(86_400);
/// The form that is written and read.
const FORM: u32 = 1;
/// How many holders a notice names, and how many versions that others hold.
const MOST_HOLDERS: usize = 64;
const MOST_VERSIONS: usize = 32;
/// The longest name of an agent, in bytes.
const MOST_AGENT_BYTES: usize = 200;
/// How many holders are named of those that all agents tell of.
const MOST_NAMED: usize = 512;

/// Who holds what at one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    agent: Box<str>,
    until: Wall,
    held: Held,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    holders: Vec<Holder>,
    /// What others hold too.
    others: BTreeSet<VersionId>,
    /// Whether somebody may hold any version.
    any: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    bursar: u32,
    agent: String,
    until: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Line>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    any: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    workload: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    version: String,
}

impl Notice {
    /// What `agent` tells until then: who holds what, what others hold, and whether somebody may hold any version. What is
    /// more than a notice names is held by others, or by somebody.
    #[must_use]
    pub fn new(agent: &str, until: Wall, holders: Vec<Holder>, others: Vec<VersionId>, any: bool) -> Self {
        let mut holders = holders;
        let more = holders.split_off(holders.len().min(MOST_HOLDERS)).into_iter().map(|holder| holder.version);
        let mut others: BTreeSet<_> = others.into_iter().chain(more).collect();
        let any = any || others.len() > MOST_VERSIONS;
        if any {
            others.clear();
        }
        Self { agent: agent.into(), until, held: Held { holders, others, any } }
    }

    /// The notice in the text that stands as `author`'s; none: it is no notice of theirs.
    #[must_use]
    pub fn read(author: &Author, text: &str) -> Option<Self> {
        let written: Written = serde_json::from_str(text).ok().filter(|_| text.len() <= Posted::MOST_BYTES)?;
        let agent = written.agent.as_str();
        let is_plain = agent.len() <= MOST_AGENT_BYTES && agent.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let fits = written.holders.len() <= MOST_HOLDERS && written.others.len() <= MOST_VERSIONS;
        if written.bursar != FORM || !is_plain || !fits || Author::of(agent) != *author {
            return None;
        }
        let holders = written.holders.iter().map(|line| {
            let (workload, version) = (line.workload.parse().ok()?, line.version.parse().ok()?);
            Some(Holder { workload, pid: line.pid, version })
        });
        let held = Held {
            holders: holders.collect::<Option<_>>()?,
            others: written.others.iter().map(|version| version.parse().ok()).collect::<Option<_>>()?,
            any: written.any,
        };
        Some(Self { agent: agent.into(), until: Wall::from_rfc3339(written.until.as_bytes())?, held })
    }

    /// The text to put up.
    #[must_use]
    pub fn text(&self) -> String {
        let Held { holders, others, any } = &self.held;
        let line = |holder: &Holder| Line {
            workload: holder.workload.to_string(),
            pid: holder.pid,
            version: holder.version.to_string(),
        };
        let written = Written {
            bursar: FORM,
            agent: self.agent.to_string(),
            until: self.until.rfc3339().to_string(),
            holders: holders.iter().map(line).collect(),
            others: others.iter().map(ToString::to_string).collect(),
            any: *any,
        };
        // Numbers and texts are always JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Whether it is to be put up, where `standing` was, so long ago: what that does not tell of, and that what could be
    /// any version is known by now, at once; fewer holders and other names after a while; the same before its lease ends.
    #[must_use]
    pub fn is_due(&self, standing: Option<(&Self, Duration)>) -> bool {
        let Some((standing, since)) = standing else { return true };
        let is_told = |version: &VersionId| standing.held.any || standing.held.has(version);
        let tells_more = standing.held.any != self.held.any || !self.held.versions().all(is_told);
        // By both clocks: the wall's may have stepped ahead.
        let since = since.max(self.until - standing.until);
        let renews = since >= RENEWED_AFTER && (self.held.any || self.held.versions().next().is_some());
        tells_more || renews || since >= LESS_AFTER && self.held != standing.held
    }

    fn who_holds(&self, version: &VersionId) -> Vec<String> {
        // The rest tells its log from that of another agent of that name.
        let agent = self.agent.split(' ').next().unwrap_or_default();
        let Held { holders, others, any } = &self.held;
        let holders = holders.iter().filter(|holder| holder.version == *version);
        let more = (*any || others.contains(version)).then(|| format!("others at {agent}"));
        holders.map(|holder| format!("{holder} at {agent}")).chain(more).collect()
    }
}

impl Held {
    fn versions(&self) -> impl Iterator<Item = &VersionId> {
        self.holders.iter().map(|holder| &holder.version).chain(&self.others)
    }

    fn has(&self, version: &VersionId) -> bool {
        self.versions().any(|one| one == version)
    }
}

/// Who holds `version` by the notices of others than `us`, in words; nobody: none.
#[must_use]
pub fn told_of(version: &VersionId, posted: &[Posted], us: &Author, now: Wall) -> Vec<String> {
    let mut who = Vec::new();
    for Posted { author, text } in posted.iter().filter(|one| one.author != *us) {
        match Notice::read(author, text) {
            Some(notice) if notice.until <= now => {}
            Some(notice) => who.extend(notice.who_holds(version)),
            None => who.push(format!("somebody, for the notice `{author}` is none: delete it if its agent is gone")),
        }
    }
    if who.len() > MOST_NAMED {
        who.truncate(MOST_NAMED);
        who.push("others".to_owned());
    }
    who
}

/// Whose notices ended so long ago that they can be taken down.
pub fn long_over(posted: &[Posted], now: Wall) -> impl Iterator<Item = &Author> {
    let is_over = move |one: &&Posted| {
        Notice::read(&one.author, &one.text).is_some_and(|notice| notice.until + LEFT_ALONE <= now)
    };
    posted.iter().filter(is_over).map(|one| &one.author)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_micros(1_795_240_800_000_000);

    fn version(text: &str) -> VersionId {
        text.parse().unwrap()
    }

    fn holder(pid: i32, of: &str) -> Holder {
        Holder { workload: "checkout".parse().unwrap(), pid: Some(pid), version: version(of) }
    }

    fn notice(holders: Vec<Holder>) -> Notice {
        Notice::new("web-2 4f1c", NOW + NOTICE_LEASE, holders, Vec::new(), false)
    }

    fn posted(notice: &Notice) -> Posted {
        Posted { author: Author::of(&notice.agent), text: notice.text() }
    }

    /// Who holds `v1` by one notice.
    fn told(text: &str, now: Wall) -> Vec<String> {
        let posted = [Posted { author: Author::of("web-2 4f1c"), text: text.to_owned() }];
        told_of(&version("v1"), &posted, &Author::of("us"), now)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let supposed = Holder { pid: None, ..holder(0, "v1") };
        for any in [false, true] {
            let others = vec![version("v2")];
            let notice = Notice::new("web-2 4f1c", NOW, vec![holder(1, "v1"), supposed.clone()], others, any);
            assert_eq!(Notice::read(&Author::of("web-2 4f1c"), &notice.text()), Some(notice));
        }
    }

    #[test]
    fn a_notice_counts_until_its_lease_ends_and_for_others_alone() {
        let posted = [posted(&notice(vec![holder(1, "v1"), holder(2, "v2")]))];
        let told = |us: &str, now| told_of(&version("v1"), &posted, &Author::of(us), now);
        let just_before = NOW + NOTICE_LEASE.checked_sub(Duration::from_micros(1)).unwrap();
        assert_eq!(told("us", just_before), ["checkout (process 1) at web-2"]);
        assert_eq!(told("us", NOW + NOTICE_LEASE), [""; 0]);
        assert_eq!(told("web-2 4f1c", NOW), [""; 0], "what is held here is known better");
        assert_eq!(long_over(&posted, NOW + NOTICE_LEASE).count(), 0);
        assert_eq!(long_over(&posted, NOW + NOTICE_LEASE + LEFT_ALONE).count(), 1);
    }

    #[test]
    fn what_is_no_notice_of_its_author_holds_every_version() {
        let good = notice(vec![holder(1, "v2")]).text();
        assert_eq!(told(&good, NOW), [""; 0]);
        let line = r#"{"workload":"a","version":"v2"}"#;
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("web-2", "web-3"),
            good.replace("\"bursar\":1", "\"bursar\":2"),
            good.replace("checkout", "Check out"),
            good.replace("2026", "year"),
            good.replace('{', "{\"more\":1,"),
            good.replace(r#"{"workload"#, &format!("{}{{\"workload", format!("{line},").repeat(MOST_HOLDERS))),
            good + &" ".repeat(Posted::MOST_BYTES),
        ] {
            let told = told(&bad, NOW);
            assert!(told.len() == 1 && told[0].starts_with("somebody"), "{bad}: {told:?}");
        }
    }

    #[test]
    fn more_than_a_notice_names_is_held_by_others() {
        let crowd: Vec<_> = (1..=100).map(|pid| holder(pid, "v1")).collect();
        let most = notice(crowd.clone()).text();
        let told_of_it = told(&most, NOW);
        assert_eq!((told_of_it.len(), told_of_it.last().unwrap().as_str()), (MOST_HOLDERS + 1, "others at web-2"));
        let many = (0..=MOST_VERSIONS).map(|nth| version(&format!("v-{nth}"))).collect();
        let longest = Notice::new(&"a".repeat(MOST_AGENT_BYTES), NOW, crowd, many, false);
        assert!(longest.held.any && longest.held.others.is_empty(), "somebody may hold any");
        assert!(longest.text().len() < Posted::MOST_BYTES);
        let all: Vec<_> =
            (0..20).map(|nth| posted(&Notice { agent: format!("a{nth}").into(), ..longest.clone() })).collect();
        let told = told_of(&version("v1"), &all, &Author::of("us"), Wall::default());
        assert_eq!((told.len(), told.last().unwrap().as_str()), (MOST_NAMED + 1, "others"));
    }

    #[test]
    fn what_is_new_is_told_at_once_what_is_less_after_a_while_and_all_before_its_lease_ends() {
        let (none, one, two) = (notice(vec![]), notice(vec![holder(1, "v1")]), notice(vec![holder(2, "v1")]));
        let moved_on = notice(vec![holder(1, "v2")]);
        let somebody = Notice::new("web-2 4f1c", NOW, vec![], vec![], true);
        let due = |new: &Notice, old: &Notice, seconds| new.is_due(Some((old, Duration::from_secs(seconds))));
        assert!(none.is_due(None), "what stands of before a start is put right");
        assert!(due(&one, &none, 0) && due(&moved_on, &one, 0) && due(&somebody, &one, 0));
        assert!(!due(&two, &one, 29) && due(&two, &one, 30), "the same version, other names");
        assert!(!due(&none, &one, 29) && due(&none, &one, 30));
        assert!(due(&one, &somebody, 0), "it is known by now");
        assert!(!due(&one, &one, 199) && due(&one, &one, 200));
        let later = Notice { until: one.until + Duration::from_secs(200), ..one.clone() };
        assert!(due(&later, &one, 0), "the wall clock has stepped ahead");
        assert!(!due(&none, &none, 100_000), "nobody is nobody for ever");
    }
}
