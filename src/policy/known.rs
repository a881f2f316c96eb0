//! What the configuration knows, as Cedar entities: groups and tags, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Entities, EntityUid, Schema};
use serde::Serialize;

use super::Known;
use crate::name::Name;

/// The name under which the entities stand in a snapshot's archive.
pub const FILE: &str = "entities.json";

/// The type of bursar itself, and its only id.
pub(super) const AGENT: (&str, &str) = ("Agent", "self");

/// The types of entities that a configuration makes. The schema's actions are not among them.
pub(super) const TYPES: [&str; 7] = ["Workload", "Operator", "Group", "Provider", "Secret", "Tag", AGENT.0];

/// An entity in Cedar's JSON form for entities. The field order is the format's.
#[derive(Serialize)]
struct EntityJson<'a> {
    uid: UidJson<'a>,
    attrs: BTreeMap<&'a str, ()>,
    parents: Vec<UidJson<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct UidJson<'a> {
    r#type: &'a str,
    id: &'a str,
}

/// The canonical JSON of what is known: one array of entities in Cedar's form, sorted by type and id,
/// parents sorted, no white space.
///
/// The order is that of the bytes, so that equal configurations give equal digests.
pub(super) fn canonical_json(known: &Known) -> Result<Vec<u8>, serde_json::Error> {
    let secrets: BTreeMap<String, &Vec<Name>> = known.secrets.iter().map(|(id, tags)| (id.to_string(), tags)).collect();
    let mut entities: BTreeMap<UidJson<'_>, BTreeSet<UidJson<'_>>> = BTreeMap::new();
    let kinds = [
        ("Workload", "Group", &known.workloads),
        ("Operator", "Group", &known.operators),
        ("Provider", "Tag", &known.providers),
    ];
    for (kind, above, members) in kinds {
        members.iter().for_each(|(name, of)| add(&mut entities, (kind, name.as_str()), above, of));
    }
    secrets.iter().for_each(|(id, tags)| add(&mut entities, ("Secret", id), "Tag", tags));
    add(&mut entities, AGENT, "", &[]);

    let json = entities.into_iter().map(|(uid, parents)| EntityJson {
        uid,
        attrs: BTreeMap::new(),
        parents: parents.into_iter().collect(),
    });
    serde_json::to_vec(&json.collect::<Vec<_>>())
}

fn add<'a>(
    entities: &mut BTreeMap<UidJson<'a>, BTreeSet<UidJson<'a>>>,
    (r#type, id): (&'a str, &'a str),
    above: &'a str,
    of: &'a [Name],
) {
    let parents: BTreeSet<_> = of.iter().map(|name| UidJson { r#type: above, id: name.as_str() }).collect();
    for parent in &parents {
        entities.entry(*parent).or_default();
    }
    entities.entry(UidJson { r#type, id }).or_default().extend(parents);
}

/// The entities of `json`, with those of the schema's actions.
pub(super) fn entities(json: &[u8], schema: &Schema) -> Result<Entities, String> {
    let json = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    Entities::from_json_str(json, Some(schema)).map_err(|error| error.to_string())
}

/// The ids of the known entities by their type, sorted.
pub(super) fn vocabulary(entities: &Entities) -> BTreeMap<String, BTreeSet<String>> {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for uid in entities.iter().map(cedar_policy::Entity::uid) {
        ids.entry(uid.type_name().to_string()).or_default().insert(id_of(&uid));
    }
    ids
}

/// The id of `uid`, as it was before it was quoted.
pub(super) fn id_of(uid: &EntityUid) -> String {
    let id: &str = uid.id().as_ref();
    id.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_canonical_and_cedar_reads_them() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Name>>();
        let mut known = Known::default();
        known.workloads.insert("w".parse().unwrap(), names(&["b", "a", "b"]));
        known.secrets.insert("s/Path/x".parse().unwrap(), names(&["t"]));
        let json = canonical_json(&known).unwrap();
        let entity = |kind: &str, id: &str, parents: &str| {
            format!(r#"{{"uid":{{"type":"{kind}","id":"{id}"}},"attrs":{{}},"parents":[{parents}]}}"#)
        };
        let expected = [
            entity("Agent", "self", ""),
            entity("Group", "a", ""),
            entity("Group", "b", ""),
            entity("Secret", "s/Path/x", r#"{"type":"Tag","id":"t"}"#),
            entity("Tag", "t", ""),
            entity("Workload", "w", r#"{"type":"Group","id":"a"},{"type":"Group","id":"b"}"#),
        ];
        assert_eq!(String::from_utf8(json.clone()).unwrap(), format!("[{}]", expected.join(",")));
        let schema = super::super::schema::parse(super::super::schema::TEXT).unwrap();
        let read = entities(&json, &schema).unwrap();
        assert_eq!(vocabulary(&read)["Group"].iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
