//! The house: floors, effect leaves, and the places where the laws are made.
//!
//! Three checks over the text of `src`, by its syntax tree: no import climbs a floor, no effect stands
//! outside an effect leaf, and what only one place may do is done nowhere else. Each check is itself
//! checked: it must find a violation that is planted for it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;

/// The floors, from the ground up. On floor 0 a room may use those before it; elsewhere only lower floors.
const FLOORS: [&[&str]; 7] = [
    &[
        "name",
        "time",
        "fault",
        "secret",
        "crypto",
        "retry",
        "durable",
        "document",
        "systemd",
        "telemetry",
        "way",
        "wire",
    ],
    &["access", "account", "events"],
    &["audit", "oauth", "peer", "policy", "store"],
    &["kept", "rotation", "token"],
    &["broker"],
    &["api", "deliver"],
    &["agent", "cli", "config", "dev"],
];

/// On the roof, who may use whom: the command line starts the others, the agent reads the settings.
const ON_THE_ROOF: &[(&str, &str)] =
    &[("cli", "agent"), ("cli", "config"), ("cli", "dev"), ("agent", "config"), ("dev", "agent"), ("dev", "config")];

/// Files that are effect leaves: they say so with `(E)` in the first line of their module documentation.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::os::unix::net",
    "std::env",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
    "tokio::signal",
    "rustix::fs",
    "rustix::net",
    "rustix::process",
    "rustix::mm",
    "nix::sys",
    "nix::unistd",
    "rusqlite",
    "reqwest",
];

/// What only the listed files may call: the laws of the house.
const LAWS: &[(&str, &[&str])] = &[
    ("Permit::grant", &["policy/mod.rs", "policy/judge.rs"]),
    ("Lease::grant", &["kept/engine.rs", "token/engine.rs"]),
    ("Receipt::issue", &["audit/pending.rs"]),
    ("Workload::of_delivery", &["broker/delivery.rs"]),
];

struct Source {
    /// Below `src`, e.g. `token/cache.rs`.
    path: String,
    text: String,
    tree: syn::File,
}

impl Source {
    fn parse(path: &str, text: &str) -> Self {
        let tree = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text: text.to_owned(), tree }
    }

    fn room(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_effect_leaf(&self) -> bool {
        self.text.lines().find(|line| line.starts_with("//!")).is_some_and(|line| line.starts_with("//! (E)"))
    }

    /// The files that this one declares as `#[cfg(test)] mod …;`.
    fn test_files(&self) -> Vec<String> {
        let folder = self
            .path
            .strip_suffix("mod.rs")
            .map_or_else(|| self.path.trim_end_matches(".rs").to_owned() + "/", str::to_owned);
        let declared = |item: &syn::Item| {
            let syn::Item::Mod(room) = item else { return None };
            (room.content.is_none() && is_test(&room.attrs)).then(|| room.ident.to_string())
        };
        self.tree.items.iter().filter_map(declared).map(|name| format!("{folder}{name}.rs")).collect()
    }

    /// Every path with at least two segments outside `#[cfg(test)]`, with its line; `use` trees are spread out.
    fn paths(&self) -> Vec<(String, usize)> {
        let mut found = Paths::default();
        found.visit_file(&self.tree);
        found.0
    }
}

#[derive(Default)]
struct Paths(Vec<(String, usize)>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        spread(&item.tree, String::new(), &mut self.0);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let text: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.0.push((text.join("::"), path.span().start().line));
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.0.push((format!(".{}", call.method), call.method.span().start().line));
        syn::visit::visit_expr_method_call(self, call);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

fn spread(tree: &syn::UseTree, before: String, into: &mut Vec<(String, usize)>) {
    let join = |ident: &syn::Ident| if before.is_empty() { ident.to_string() } else { format!("{before}::{ident}") };
    match tree {
        syn::UseTree::Path(path) => spread(&path.tree, join(&path.ident), into),
        syn::UseTree::Name(name) => into.push((join(&name.ident), name.ident.span().start().line)),
        syn::UseTree::Rename(rename) => into.push((join(&rename.ident), rename.ident.span().start().line)),
        syn::UseTree::Glob(glob) => into.push((format!("{before}::*"), glob.span().start().line)),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| spread(tree, before.clone(), into)),
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(Path::new("src"), &mut |path| {
        let below = path.strip_prefix("src").unwrap().to_str().unwrap().to_owned();
        found.push(Source::parse(&below, &std::fs::read_to_string(&path).unwrap()));
    });
    assert!(found.len() > 20, "the house was not found");
    let tests: BTreeSet<_> = found.iter().flat_map(Source::test_files).collect();
    found.retain(|source| !tests.contains(&source.path));
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(PathBuf)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(path);
        }
    }
}

fn floor_of(room: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, rooms)| Some((floor, rooms.iter().position(|one| *one == room)?)))
}

fn may_use(from: &str, to: &str) -> bool {
    let (Some(from_at), Some(to_at)) = (floor_of(from), floor_of(to)) else { return false };
    let same_floor = match from_at.0 {
        0 => to_at.1 < from_at.1,
        6 => ON_THE_ROOF.contains(&(from, to)),
        _ => from_at.0 == 1 && to_at.1 < from_at.1,
    };
    from == to || to_at.0 < from_at.0 || (to_at.0 == from_at.0 && same_floor)
}

fn climbs(source: &Source) -> Vec<String> {
    if ["lib", "main"].contains(&source.room()) {
        return Vec::new();
    }
    let used = source.paths().into_iter().filter_map(|(path, line)| {
        let room = path.strip_prefix("crate::")?.split("::").next()?.to_owned();
        Some((room, line))
    });
    used.filter(|(room, _)| !may_use(source.room(), room))
        .map(|(room, line)| {
            format!("src/{}:{line}: `{}` uses `{room}`, which stands no lower", source.path, source.room())
        })
        .collect()
}

fn stray_effects(source: &Source) -> Vec<String> {
    if source.is_effect_leaf() || source.path == "main.rs" {
        return Vec::new();
    }
    // Values that name an address or an error touch nothing.
    let is_value =
        |path: &str| path.starts_with("std::net::Ip") || ["std::net::SocketAddr", "reqwest::Error"].contains(&path);
    let reaches = |path: &str| {
        !is_value(path) && EFFECTS.iter().any(|effect| path == *effect || path.starts_with(&format!("{effect}::")))
    };
    source
        .paths()
        .into_iter()
        .filter(|(path, _)| reaches(path))
        .map(|(path, line)| format!("src/{}:{line}: `{path}` outside an effect leaf", source.path))
        .collect()
}

fn broken_laws(source: &Source) -> Vec<String> {
    let paths = source.paths();
    let breaks = |(call, places): &(&str, &[&str])| {
        let allowed = places.contains(&source.path.as_str());
        let found = paths.iter().filter(|(path, _)| path == call || path.ends_with(&format!("::{call}")));
        let broken = |(path, line): &(String, usize)| format!("src/{}:{line}: `{path}`", source.path);
        if allowed { Vec::new() } else { found.map(broken).collect::<Vec<_>>() }
    };
    LAWS.iter().flat_map(breaks).collect()
}

/// Every file that calls `expose()`, and why it sees a secret's bytes.
const EXPOSES: &[(&str, &str)] = &[
    ("secret/mod.rs", "where the exit is"),
    ("agent/credentials.rs", "a stored registration is read"),
    ("api/body.rs", "the token goes into the reply"),
    ("cli/exec.rs", "whether a value is another"),
    ("cli/import.rs", "a value from a directory goes to the agent"),
    ("cli/secret.rs", "a value from standard input goes to the agent"),
    ("cli/store.rs", "a new store key goes to the agent"),
    ("crypto/seal.rs", "keys seal and open values"),
    ("deliver/child.rs", "a value goes into the environment of a program"),
    ("deliver/file.rs", "a delivered file is written, and held against what stands there"),
    ("deliver/template.rs", "a value goes into a template's text"),
    ("kept/parts.rs", "whether a value is text, and the member of it that is meant"),
    ("oauth/certificate.rs", "the key of a certificate goes to the TLS library"),
    ("oauth/client_auth.rs", "the client secret or assertion goes into the request, the private key signs"),
    (
        "oauth/registration.rs",
        "a registration is written as one value, its token goes into the request that ends it, and no refusal repeats either",
    ),
    ("oauth/revocation.rs", "a token that is to end goes to its provider"),
    ("rotation/login.rs", "a login is read from a value, and a new password written into one"),
    ("rotation/postgres/mod.rs", "a password becomes a verifier"),
    ("rotation/postgres/session.rs", "a password goes to the library that logs in"),
    ("rotation/redis_acl/mod.rs", "a password becomes its SHA-256"),
    ("rotation/redis_acl/session.rs", "a password goes into the login"),
    ("rotation/access_key/answer.rs", "an access key is read from its value"),
    ("rotation/access_key/mod.rs", "the secret of an access key signs a request"),
    ("rotation/exec/talk.rs", "a value goes to the operator's program"),
    ("rotation/http/template.rs", "a value goes into a call to its service"),
    ("store/aws.rs", "the book of a secret is read; it holds no value"),
    ("store/aws/client.rs", "a value goes to AWS"),
    ("rotation/client_secret/register.rs", "a stored registration is read"),
    ("rotation/client_secret/two.rs", "both client secrets go into the call that makes them valid"),
    ("rotation/signing_key/mod.rs", "the public half of a key is published"),
    ("store/files.rs", "a value is cut at its line end"),
    ("store/key.rs", "the store key is read from its file"),
    ("store/openbao/book.rs", "a value goes to OpenBao"),
    ("store/openbao/server.rs", "a token of OpenBao goes into the request"),
    ("store/openbao/session.rs", "a secret id goes into the login"),
    ("store/sealed.rs", "a value is sealed before SQLite sees it"),
    ("token/engine.rs", "a token is fingerprinted for the record"),
];

fn stray_exposures(source: &Source) -> Vec<String> {
    if EXPOSES.iter().any(|(place, _)| *place == source.path) {
        return Vec::new();
    }
    let calls = source.paths().into_iter().filter(|(path, _)| path == ".expose" || path.ends_with("Secret::expose"));
    calls.map(|(_, line)| format!("src/{}:{line}: `expose()` at a place that is not listed", source.path)).collect()
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_plan_lists_every_room_and_no_other() {
    let plan = Source::parse("lib.rs", &std::fs::read_to_string("src/lib.rs").unwrap());
    let named: BTreeSet<_> = plan
        .tree
        .items
        .iter()
        .filter_map(|item| if let syn::Item::Mod(room) = item { Some(room.ident.to_string()) } else { None })
        .collect();
    let placed: BTreeSet<_> = FLOORS.iter().flat_map(|rooms| rooms.iter().map(ToString::to_string)).collect();
    assert_eq!(named, placed);
}

#[test]
fn no_import_climbs() {
    none(sources().iter().flat_map(climbs).collect());
    let planted = Source::parse("policy/load.rs", "use crate::{name::Name, peer::Registry};");
    assert_eq!(climbs(&planted).len(), 1, "a planted violation was not found");
}

#[test]
fn effects_stand_in_effect_leaves() {
    none(sources().iter().flat_map(stray_effects).collect());
    let planted = Source::parse("policy/judge.rs", "fn f() { let _ = std::fs::read(\"x\"); }");
    assert_eq!(stray_effects(&planted).len(), 1, "a planted violation was not found");
}

#[test]
fn the_laws_are_made_in_their_places() {
    none(sources().iter().flat_map(broken_laws).collect());
    let planted = Source::parse("api/routes.rs", "fn f() { crate::access::Permit::grant(a, b); }");
    assert_eq!(broken_laws(&planted).len(), 1, "a planted violation was not found");
}

#[test]
fn secrets_are_exposed_in_listed_places() {
    none(sources().iter().flat_map(stray_exposures).collect());
    let planted = Source::parse("api/routes.rs", "fn f() { s.expose(); }");
    assert_eq!(stray_exposures(&planted).len(), 1, "a planted violation was not found");
    let all = sources();
    for (place, _) in EXPOSES {
        let used = all.iter().find(|source| source.path == *place).is_some_and(|source| {
            source.paths().iter().any(|(path, _)| path == ".expose") || *place == "secret/mod.rs"
        });
        assert!(used, "`{place}` is listed and exposes nothing");
    }
}
