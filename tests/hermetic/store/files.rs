//! The files store: what it serves, what it refuses, and what it says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bursar::name::StoredName;
use bursar::secret::Secret;
use bursar::store::files::{FilesStore, without_line_end};
use bursar::store::{self, MOST_VALUE_BYTES, Notes, Stage, Stages, Store, StoreError, Which};
use bursar::time::Wall;

use crate::store_conformance::attempt;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn read(folder: &Path, name: &str) -> Result<Vec<u8>, StoreError> {
    let name = name.parse::<StoredName>().unwrap();
    let (version, value) = FilesStore::open(folder)?.read(&name, &Which::Current).await?;
    assert_eq!(version.stages, Stages::of(Stage::Current));
    Ok(value.expose().to_vec())
}

async fn refusal(folder: &Path, name: &str) -> String {
    match read(folder, name).await {
        Err(StoreError::Setup(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_a_secret() {
    let folder = folder();
    write(folder.path(), "api-key", "hunter2\n");
    write(folder.path(), "db/password", "p");
    assert_eq!(read(folder.path(), "api-key").await.unwrap(), b"hunter2");
    assert_eq!(read(folder.path(), "db/password").await.unwrap(), b"p");
    assert!(matches!(read(folder.path(), "other").await, Err(StoreError::NotFound(_))));
    assert!(matches!(read(folder.path(), "db").await, Err(StoreError::NotFound(_))));
    assert!(matches!(read(folder.path(), "api-key/x").await, Err(StoreError::NotFound(_))));
    let listed = FilesStore::open(folder.path()).unwrap().list().await.unwrap();
    assert_eq!(listed, ["api-key", "db/password"].map(|name| name.parse().unwrap()));
}

#[test]
fn one_line_end_of_text_is_cut_and_other_bytes_stay() {
    for (file, value) in [
        (&b"a\n"[..], &b"a"[..]),
        (b"a\r\n", b"a"),
        (b"a\n\n", b"a\n"),
        (b"a", b"a"),
        (b"a\r", b"a\r"),
        (b"\n", b""),
        ("é\n".as_bytes(), "é".as_bytes()),
        (b"\xff\n", b"\xff\n"),
    ] {
        assert_eq!(without_line_end(Secret::copy_of(file)).expose(), value);
    }
}

#[tokio::test]
async fn kubernetes_links_are_followed_and_its_update_is_another_version() {
    let folder = folder();
    for (data, value) in [("..2026_1", "one"), ("..2026_2", "two")] {
        write(folder.path(), &format!("{data}/api-key"), value);
    }
    symlink("..2026_1", folder.path().join("..data")).unwrap();
    symlink("..data/api-key", folder.path().join("api-key")).unwrap();
    assert_eq!(read(folder.path(), "api-key").await.unwrap(), b"one");
    let (store, name) = (FilesStore::open(folder.path()).unwrap(), "api-key".parse().unwrap());
    let before = store.versions(&name).await.unwrap();
    symlink("..2026_2", folder.path().join("..new")).unwrap();
    fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    assert_eq!(read(folder.path(), "api-key").await.unwrap(), b"two");
    assert_ne!(store.versions(&name).await.unwrap(), before);
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&name), "what begins with a dot is not listed");
    let old = Which::Id(before.at(Stage::Current).unwrap().id.clone());
    assert!(matches!(store.read(&name, &old).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_link_out_of_the_directory_is_refused() {
    let (inside, outside) = (folder(), folder());
    write(outside.path(), "shadow", "root");
    write(inside.path(), "good", "v");
    symlink(outside.path().join("shadow"), inside.path().join("absolute")).unwrap();
    symlink(format!("../{}/shadow", outside.path().file_name().unwrap().display()), inside.path().join("up")).unwrap();
    symlink(outside.path(), inside.path().join("folder")).unwrap();
    symlink("loop", inside.path().join("loop")).unwrap();
    symlink("/proc/self/root", inside.path().join("magic")).unwrap();
    for name in ["absolute", "up", "folder/shadow", "loop", "magic"] {
        assert!(refusal(inside.path(), name).await.contains("leads out"), "{name}");
    }
    let listed = FilesStore::open(inside.path()).unwrap().list().await.unwrap();
    assert_eq!(listed, ["good".parse::<StoredName>().unwrap()]);
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused_by_files_too() {
    let folder = folder();
    write(folder.path(), "key", "v");
    for (mode, served) in [(0o400, true), (0o440, true), (0o600, true), (0o444, false), (0o604, false), (0o660, false)]
    {
        fs::set_permissions(folder.path().join("key"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(read(folder.path(), "key").await.is_ok(), served, "{mode:o}");
    }
    assert!(refusal(folder.path(), "key").await.contains("chmod 0440"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(folder.path(), "key").await.contains("chmod go-w"));
}

#[tokio::test]
async fn a_folder_on_the_way_that_others_can_write_is_refused() {
    let folder = folder();
    write(folder.path(), "a/b/key", "v");
    assert_eq!(read(folder.path(), "a/b/key").await.unwrap(), b"v");
    for (open, refused) in [("a", true), ("a/b", true), ("a/c", false)] {
        let open = folder.path().join(open);
        fs::create_dir_all(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let named = format!("chmod go-w {}", open.display());
        let read = read(folder.path(), "a/b/key").await;
        assert_eq!(read.is_err_and(|why| why.to_string().contains(&named)), refused, "{named}");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn what_is_no_file_or_too_long_or_empty_is_refused() {
    let folder = folder();
    write(folder.path(), "longest", "v".repeat(MOST_VALUE_BYTES) + "\n");
    assert_eq!(read(folder.path(), "longest").await.unwrap().len(), MOST_VALUE_BYTES);
    write(folder.path(), "longer", "v".repeat(MOST_VALUE_BYTES + 1));
    write(folder.path(), "huge", "v".repeat(10 * MOST_VALUE_BYTES));
    write(folder.path(), "empty", "\n");
    for name in ["longer", "huge", "empty"] {
        assert!(refusal(folder.path(), name).await.contains(name));
    }
    let fifo = std::process::Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap();
    assert!(fifo.success());
    assert!(matches!(read(folder.path(), "fifo").await, Err(StoreError::NotFound(_))), "and nobody waits for it");
}

#[tokio::test]
async fn a_version_tells_nothing_of_the_value() {
    let folder = folder();
    let name = "key".parse().unwrap();
    write(folder.path(), "key", "aaaa");
    let store = FilesStore::open(folder.path()).unwrap();
    let id = async || store.versions(&name).await.unwrap().at(Stage::Current).unwrap().id.clone();
    let first = id().await;
    assert_eq!(id().await, first);
    fs::rename(folder.path().join("key"), folder.path().join("old")).unwrap();
    write(folder.path(), "key", "aaaa");
    assert_ne!(id().await, first, "the same bytes in another file are another version");
}

#[tokio::test]
async fn every_writing_verb_is_refused() {
    let folder = folder();
    write(folder.path(), "key", "v");
    let store = FilesStore::open(folder.path()).unwrap();
    let (name, attempt, value) = ("key".parse().unwrap(), attempt(), Secret::new(vec![1]));
    let (notes, id) = (Notes::default(), "1".parse().unwrap());
    let read_only = |error| matches!(error, StoreError::ReadOnly(_));
    assert!(read_only(store.reserve(&name, &attempt, Wall::default(), &notes).await.unwrap_err()));
    assert!(read_only(store.fill(&name, &attempt, &value, &notes).await.unwrap_err()));
    assert!(read_only(store.promote(&name, &attempt).await.unwrap_err()));
    assert!(read_only(store.retire(&name, &id, &attempt).await.unwrap_err()));
    assert!(read_only(store::put(&store, &name, &value, &attempt, Wall::default()).await.unwrap_err()));
}

#[test]
fn a_directory_that_is_not_there_is_said_at_start() {
    let folder = folder();
    let missing = FilesStore::open(&folder.path().join("no")).err().unwrap();
    assert!(matches!(missing, StoreError::Unavailable(_)));
    write(folder.path(), "file", "v");
    let no_folder = FilesStore::open(&folder.path().join("file")).err().unwrap();
    assert!(matches!(no_folder, StoreError::Setup(_)));
}
