//! Layers made by hand, as the kernel makes them: what is copied up keeps its times, a directory in which something changes does not.

use std::{
    ffi::OsStr,
    fs::{self, FileTimes, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::SystemTime,
};

use rustix::fs::{CWD, mknodat};

use super::*;

struct Trees(tempfile::TempDir);

impl Trees {
    /// An image with a few files, and an upper layer with nothing.
    fn new() -> Self {
        let trees = Trees(tempfile::tempdir().expect("a directory"));
        for dir in ["top", "low/etc/app", "low/srv", "low/opt/lib", "low/tmp"] {
            fs::create_dir_all(trees.path(dir)).expect("creates");
        }
        for file in ["low/etc/app/conf", "low/etc/passwd", "low/opt/lib/one", "low/opt/lib/two"] {
            fs::write(trees.path(file), "of the image").expect("writes");
        }
        for dir in ["low/etc/app", "low/etc", "low/srv", "low/opt/lib", "low/opt", "low/tmp"] {
            let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let dir = fs::File::open(trees.path(dir)).expect("opens");
            dir.set_modified(long_ago).expect("sets");
        }
        fs::create_dir(trees.path("up")).expect("creates");
        trees
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    /// What the kernel does to a directory in which something changes: `aged` gives it back the image's time.
    fn copied(&self, dir: &str) {
        fs::create_dir_all(self.path("up").join(dir)).expect("creates");
    }

    fn aged(&self, path: &str) {
        let time = fs::metadata(self.path("low").join(path)).expect("is there").modified();
        let times = FileTimes::new().set_modified(time.expect("a time"));
        let file = fs::File::open(self.path("up").join(path)).expect("opens");
        file.set_times(times).expect("sets");
    }

    fn whiteout(&self, path: &str) {
        let path = self.path("up").join(path);
        mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).expect("makes");
    }

    fn layer(&self) -> Layer {
        let overlay = Overlay { upper: "/up".into(), lowers: vec!["/top".into(), "/low".into()] };
        Layer::open(self.0.path(), overlay, None).expect("opens")
    }
}

fn look(layer: &mut Layer, points: &[&str], executed: &[&str]) -> Vec<(How, String)> {
    let around = Around {
        mount_points: &points.iter().map(PathBuf::from).collect(),
        executed: &executed.iter().map(PathBuf::from).collect(),
        ids: &Ids::default(),
    };
    layer.look(&around).expect("looks");
    let (changes, more) = layer.changes();
    assert_eq!(more, 0);
    // the hand that makes these trees works later than it made their root
    let changes = changes.iter().filter(|change| change.path != "/");
    changes.map(|change| (change.how, change.path.clone())).collect()
}

fn expected(all: &[(How, &str)]) -> Vec<(How, String)> {
    let mut all: Vec<_> = all.iter().map(|(how, path)| (*how, (*path).to_owned())).collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[test]
fn what_was_done_is_told_and_no_more() {
    let trees = Trees::new();
    for dir in ["opt/odd", "etc/app", "srv", "opt/lib"] {
        trees.copied(dir);
    }
    fs::write(trees.path("up/opt/odd/x"), "12345").expect("writes");
    fs::write(trees.path("up/etc/app/conf"), "changed").expect("writes");
    trees.whiteout("opt/lib/one");
    for dir in ["etc/app", "etc", "opt/lib", "opt"] {
        trees.aged(dir);
    }
    let mut layer = trees.layer();
    let seen = look(&mut layer, &[], &[]);
    let all = [
        (How::Changed, "/etc/app/conf"),
        (How::Removed, "/opt/lib/one"),
        (How::Created, "/opt/odd"),
        (How::Created, "/opt/odd/x"),
        (How::Visited, "/srv"),
    ];
    assert_eq!(seen, expected(&all));
    let (changes, _) = layer.changes();
    let find = |path: &str| changes.iter().find(|one| one.path == path).expect("is told");
    assert_eq!((find("/opt/odd").bytes, find("/opt/odd/x").bytes), (5, 5));
    assert_eq!(find("/opt/lib/one").file, FileKind::Regular);
    // a peak stays one
    fs::write(trees.path("up/opt/odd/x"), "").expect("writes");
    look(&mut layer, &[], &[]);
    let (changes, _) = layer.changes();
    assert!(changes.iter().any(|one| one.path == "/opt/odd" && one.bytes == 5));
}

#[test]
fn a_layer_without_changes_has_none() {
    let trees = Trees::new();
    assert_eq!(look(&mut trees.layer(), &[], &[]), []);
}

#[test]
fn what_replaces_a_file_visits_its_directory() {
    let trees = Trees::new();
    trees.copied("etc/app");
    // written beside it, and renamed over it
    fs::write(trees.path("up/etc/app/conf"), "new").expect("writes");
    trees.aged("etc");
    let all = [(How::Visited, "/etc/app"), (How::Changed, "/etc/app/conf")];
    assert_eq!(look(&mut trees.layer(), &[], &[]), expected(&all));
}

#[test]
fn attributes_of_a_directory_are_changes() {
    let trees = Trees::new();
    trees.copied("srv");
    trees.aged("srv");
    fs::set_permissions(trees.path("up/srv"), Permissions::from_mode(0o2777)).expect("sets");
    assert_eq!(look(&mut trees.layer(), &[], &[]), expected(&[(How::Changed, "/srv")]));
}

#[test]
fn what_the_runtime_made_to_mount_on_is_not_the_workloads() {
    let trees = Trees::new();
    for dir in ["data", "var/lib/db", "srv/volume"] {
        trees.copied(dir);
    }
    fs::write(trees.path("up/secret"), "").expect("writes");
    let points = ["/", "/data", "/var/lib/db", "/srv/volume", "/secret"];
    assert_eq!(look(&mut trees.layer(), &points, &[]), []);
    fs::write(trees.path("up/var/own"), "").expect("writes");
    let all = [(How::Created, "/var"), (How::Created, "/var/own")];
    assert_eq!(look(&mut trees.layer(), &points, &[]), expected(&all));
}

#[test]
fn programs_and_what_was_executed() {
    let trees = Trees::new();
    trees.copied("tmp");
    for (name, text, mode) in [
        ("elf", b"\x7fELF".as_slice(), 0o755),
        ("script", b"#!/bin/sh".as_slice(), 0o700),
        ("data", b"data".as_slice(), 0o755),
        ("plain", b"\x7fELF".as_slice(), 0o644),
        ("ran", b"".as_slice(), 0o600),
    ] {
        let path = trees.path("up/tmp").join(name);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("sets");
    }
    symlink("/tmp/elf", trees.path("up/tmp/link")).expect("links");
    let mut layer = trees.layer();
    let executed = |layer: &Layer| -> Vec<String> {
        let (changes, _) = layer.changes();
        changes.into_iter().filter(|one| one.executed).map(|one| one.path).collect()
    };
    look(&mut layer, &[], &["/tmp/ran", "/bin/other"]);
    assert_eq!(executed(&layer), ["/tmp/elf", "/tmp/plain", "/tmp/ran", "/tmp/script"]);
    fs::remove_file(trees.path("up/tmp/ran")).expect("removes");
    look(&mut layer, &[], &[]);
    assert_eq!(executed(&layer), ["/tmp/elf", "/tmp/plain", "/tmp/ran", "/tmp/script"]);
}

#[test]
fn hostile_trees_are_bounded_and_followed_nowhere() {
    let trees = Trees::new();
    trees.copied("tmp");
    symlink("/", trees.path("up/tmp/root")).expect("links");
    let name = OsStr::from_bytes(b"a\n\"\xff");
    fs::write(trees.path("up/tmp").join(name), "").expect("writes");
    let mut deep = trees.path("up/tmp");
    for _ in 0..MAX_DEPTH + 8 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).expect("creates");
    let mut layer = trees.layer();
    let around =
        Around { mount_points: &BTreeSet::new(), executed: &BTreeSet::new(), ids: &Ids::default() };
    layer.look(&around).expect("looks");
    let (changes, more) = layer.changes();
    assert!(more > 0);
    assert!(changes.iter().any(|one| one.path == "/tmp/a\n\"\\xff"));
    let link = changes.iter().find(|one| one.path == "/tmp/root").expect("is told");
    assert_eq!((link.file, link.how), (FileKind::Other, How::Created));
    for number in 0..MAX_CHANGES {
        fs::write(trees.path(format!("up/tmp/{number}")), "").expect("writes");
    }
    layer.look(&around).expect("looks");
    let (changes, more) = layer.changes();
    assert_eq!(changes.len(), MAX_CHANGES);
    assert!(more >= 64, "{more}");
}

#[test]
fn a_layer_that_is_being_removed_is_not_believed() {
    let trees = Trees::new();
    trees.copied("srv");
    let mut layer = trees.layer();
    let before = look(&mut layer, &[], &[]);
    assert_eq!(before, expected(&[(How::Visited, "/srv")]));
    fs::rename(trees.path("up"), trees.path("up-removing")).expect("renames");
    fs::remove_dir(trees.path("up-removing/srv")).expect("removes");
    let around =
        Around { mount_points: &BTreeSet::new(), executed: &BTreeSet::new(), ids: &Ids::default() };
    assert!(layer.look(&around).is_err());
    assert!(layer.changes().0.iter().any(|change| change.path == "/srv"));
}

#[test]
fn a_file_with_holes_holds_what_it_takes() {
    let trees = Trees::new();
    trees.copied("tmp");
    let file = fs::File::create(trees.path("up/tmp/holes")).expect("creates");
    file.set_len(1 << 40).expect("grows");
    file.set_modified(SystemTime::now()).expect("sets");
    let mut layer = trees.layer();
    look(&mut layer, &[], &[]);
    let (changes, _) = layer.changes();
    let holes = changes.iter().find(|one| one.path == "/tmp/holes").expect("is told");
    assert!(holes.bytes <= 4_096, "{}", holes.bytes);
}

#[test]
fn another_directory_than_the_containers_is_refused() {
    let trees = Trees::new();
    let overlay = Overlay { upper: "/up".into(), lowers: vec!["/low".into()] };
    assert!(Layer::open(trees.0.path(), overlay.clone(), Some(1)).is_err());
    let gone = Overlay { upper: "/gone".into(), ..overlay };
    assert!(Layer::open(trees.0.path(), gone, None).is_err());
}

#[test]
fn links_of_removed_files_name_them() {
    assert_eq!(shown(Path::new("/tmp/x (deleted)")), Some(PathBuf::from("/tmp/x")));
    assert_eq!(shown(Path::new("socket:[1]")), None);
}
