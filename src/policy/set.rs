//! Entries to snapshot: every rule read, every fault found, or nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use cedar_policy::{Authorizer, Entities, EntityUid, PolicySet, Schema, ValidationMode, Validator};

use super::archive::{self, Entries, Part};
use super::rule::{self, Read, Rule};
use super::statement::statements;
use super::{Known, Snapshot, UnknownIds, VERDICT_SETS, known, memory, question, schema, slice};
use crate::fault::{Fault, Faults, Place};

/// The most rules in a set.
pub const MAX_RULES: usize = 10_000;

/// The most faults that are told of a set, give or take those of one rule.
const MAX_FAULTS: usize = 500;

/// Reads the set whose files are `entries` and lie in `dir`.
pub(super) fn read(dir: &Path, mut entries: Entries, known: &Known) -> Result<(Snapshot, Vec<Fault>), Faults> {
    let mut said = Said::default();
    match settle_schema(dir, &mut entries) {
        Ok(warning) => said.warnings.extend(warning),
        Err(fault) => said.faults.push(fault),
    }
    let json = known::canonical_json(known).map_err(|error| ours(&error))?;
    entries.push((known::FILE.to_owned(), json));
    let entries = archive::ordered(entries, dir).map_err(|mut faults| {
        faults.append(std::mem::take(&mut said.faults));
        faults
    })?;
    let ground = Ground::of(&entries)?;

    let files = sources(dir, &entries, &mut said.faults);
    let reads = reads(&files, &mut said.faults);
    unique(&reads, &mut said.faults);
    check(&reads, &ground, known.unknown, &mut said);
    said.warnings.sort();
    let rules = chosen(&reads, said.faults)?;
    Ok((ground.snapshot(rules, entries)?, said.warnings))
}

/// Reads the set that `entries` are the archive of.
///
/// It was validated when it was loaded; what is asked here is that it is whole and can be judged by.
pub(super) fn read_archive(entries: Entries) -> Result<Snapshot, Faults> {
    let dir = Path::new("");
    let entries = archive::ordered(entries, dir)?;
    let ground = Ground::of(&entries)?;
    let mut faults = Faults::default();
    let files = sources(dir, &entries, &mut faults);
    let reads = reads(&files, &mut faults);
    unique(&reads, &mut faults);
    let rules = chosen(&reads, faults)?;
    ground.snapshot(rules, entries)
}

/// What is said of a set.
#[derive(Default)]
struct Said {
    faults: Faults,
    warnings: Vec<Fault>,
}

/// Puts the schema that is judged by into the entries, whether a file stands there or not.
fn settle_schema(dir: &Path, entries: &mut Entries) -> Result<Option<Fault>, Fault> {
    let found = entries.iter().position(|(name, _)| Part::of(name) == Some(Part::Schema));
    let found = found.map(|at| entries.swap_remove(at).1);
    entries.push((schema::FILE.to_owned(), schema::TEXT.as_bytes().to_vec()));
    let place = Place::file(dir.join(schema::FILE));
    found.map_or(Ok(None), |bytes| schema::verdict_on(schema::standing(&bytes), place))
}

/// The ids that are known, by type.
type Vocabulary = BTreeMap<String, BTreeSet<String>>;

/// What the rules stand on.
struct Ground {
    schema: Schema,
    entities: Entities,
}

impl Ground {
    fn of(entries: &Entries) -> Result<Self, Faults> {
        let schema = schema::parse(schema_text(entries)?).map_err(|error| ours(&error))?;
        let json = bytes_of(entries, known::FILE)?;
        let entities = known::entities(json, &schema);
        let entities = entities.map_err(|error| Fault::new(Place::file(known::FILE), error))?;
        Ok(Self { schema, entities })
    }

    fn snapshot(self, rules: Vec<(Rule, cedar_policy::Policy)>, archive: Entries) -> Result<Snapshot, Faults> {
        let (mut rules, policies): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        rules.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Snapshot {
            digest: archive::snapshot_digest(&archive),
            archive,
            rules,
            entities: self.entities,
            types: question::Types::parse().ok_or_else(|| ours(&"an entity type of the schema is no name"))?,
            index: slice::Index::of(policies).map_err(|error| ours(&error))?,
            authorizer: Authorizer::new(),
            now: question::Now::default(),
            verdicts: memory::Memory::with_sets(VERDICT_SETS),
            judged: Default::default(),
        })
    }
}

fn bytes_of<'a>(entries: &'a Entries, name: &str) -> Result<&'a [u8], Fault> {
    let found = entries.iter().find(|(entry, _)| entry == name);
    found.map(|(_, bytes)| bytes.as_slice()).ok_or_else(|| Fault::new(Place::file(name), "this file is missing"))
}

/// The schema among `entries`, where it is one that was shipped: nobody else's is parsed.
fn schema_text(entries: &Entries) -> Result<&str, Fault> {
    let bytes = bytes_of(entries, schema::FILE)?;
    schema::verdict_on(schema::standing(bytes), Place::file(schema::FILE))?;
    std::str::from_utf8(bytes).map_err(|error| ours(&error))
}

/// A fault that nobody who writes policies can cause or mend.
fn ours(error: &impl ToString) -> Fault {
    Fault::new(Place::file(schema::FILE), error.to_string()).help("this is a fault of bursar itself: please report it")
}

/// The policy files as text.
fn sources<'a>(dir: &Path, entries: &'a Entries, faults: &mut Faults) -> Vec<(PathBuf, &'a str)> {
    let mut files = Vec::new();
    for (name, bytes) in entries.iter().filter(|(name, _)| Part::of(name) == Some(Part::Policies)) {
        let file = dir.join(name);
        match std::str::from_utf8(bytes) {
            Ok(text) => files.push((file, text)),
            Err(error) => faults.push(Fault::new(
                Place::file(file),
                format!("the file is not UTF-8 text: byte {} begins no character", error.valid_up_to()),
            )),
        }
    }
    files
}

fn reads<'a>(files: &'a [(PathBuf, &'a str)], faults: &mut Faults) -> Vec<(&'a Path, Read<'a>)> {
    let statements = files.iter().flat_map(|(file, text)| {
        let statements = statements(text).into_iter();
        statements.map(move |statement| (file.as_path(), statement))
    });
    let mut reads = Vec::new();
    for (nth, (file, statement)) in statements.enumerate() {
        if nth == MAX_RULES {
            let what = format!("the policy set has more than {MAX_RULES} rules, which is the limit");
            faults.push(Fault::new(statement.place(file, 0), what));
            break;
        }
        if faults.iter().count() >= MAX_FAULTS {
            faults.push(Fault::new(statement.place(file, 0), "reading stopped here: there are too many faults before"));
            break;
        }
        match rule::read(file, statement, faults) {
            Ok(read) => reads.push((file, read)),
            Err(more) => faults.append(more),
        }
    }
    reads
}

fn unique(reads: &[(&Path, Read<'_>)], faults: &mut Faults) {
    let mut first: HashMap<&str, &Place> = HashMap::new();
    for rule in reads.iter().filter_map(|(_, read)| read.rule.as_ref()) {
        if let Some(other) = first.get(&*rule.id) {
            let what = format!("the id `{}` is taken: the rule at {other} has it", rule.id);
            faults.push(Fault::new(rule.place.clone(), what).help("give one of the two another `@id`"));
        } else {
            first.insert(&rule.id, &rule.place);
        }
    }
}

/// Holds each rule against the schema and against what is known.
fn check(reads: &[(&Path, Read<'_>)], ground: &Ground, unknown_ids: UnknownIds, said: &mut Said) {
    let vocabulary = known::vocabulary(&ground.entities);
    let validator = Validator::new(ground.schema.clone());
    for (file, read) in reads {
        if said.faults.iter().count() >= MAX_FAULTS {
            return;
        }
        validate(file, read, &validator, &mut said.faults);
        let unknown = unknown(file, read, &ground.entities, &vocabulary);
        match unknown_ids {
            UnknownIds::Refuse => unknown.into_iter().for_each(|fault| said.faults.push(fault)),
            UnknownIds::Warn => said.warnings.extend(unknown),
        }
    }
}

fn validate(file: &Path, read: &Read<'_>, validator: &Validator, faults: &mut Faults) {
    let Ok(set) = PolicySet::from_policies([read.policy.clone()]) else {
        return faults.push(Fault::new(read.statement.place(file, 0), "the rule cannot be validated"));
    };
    let result = validator.validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(|error| rule::fault_of(file, &read.statement, error));
    let warnings = result.validation_warnings().map(|warning| rule::fault_of(file, &read.statement, warning));
    // Cedar says the same once for each action that the rule spans, in no order: once for each place is enough.
    let mut found: Vec<_> = errors.chain(warnings).collect();
    found.sort();
    found.dedup_by(|one, other| one.place == other.place);
    found.into_iter().for_each(|fault| faults.push(fault));
}

/// What the rule names and the configuration does not know. What the schema does not know is the validator's to say.
fn unknown(file: &Path, read: &Read<'_>, entities: &Entities, vocabulary: &Vocabulary) -> Vec<Fault> {
    let literals = read.policy.entity_literals().into_iter().filter(|uid| entities.get(uid).is_none());
    let unknown: BTreeMap<String, EntityUid> = literals.map(|uid| (uid.to_string(), uid)).collect();
    let written = if unknown.is_empty() { HashMap::new() } else { read.statement.entities() };
    let none = BTreeSet::new();
    let fault = |uid: EntityUid| {
        let (kind, id) = (uid.type_name().to_string(), known::id_of(&uid));
        let place = read.statement.place(file, written.get(&(kind.as_str(), id.as_str())).copied().unwrap_or(0));
        let known = vocabulary.get(&kind).unwrap_or(&none);
        known::TYPES.contains(&kind.as_str()).then(|| rule::unknown_entity(&uid, known, place))
    };
    unknown.into_values().filter_map(fault).take(rule::MAX_FAULTS).collect()
}

/// The rules, if nothing is wrong with any.
fn chosen(reads: &[(&Path, Read<'_>)], faults: Faults) -> Result<Vec<(Rule, cedar_policy::Policy)>, Faults> {
    let rules = reads.iter().filter_map(|(_, read)| Some((read.rule.clone()?, read.policy.clone()))).collect();
    faults.or(rules)
}
