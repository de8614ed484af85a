//! What is in the files of a container, by the engine's archive of them: privileged files and packages. Nothing is unpacked, and
//! what is in there is hostile.

use std::io::{self, Read};

use crate::model::audit::{Contents, Packages, PrivilegedFile};

/// Of a database of packages no more is read, in bytes.
const MAX_DATABASE: u64 = 64 << 20;
/// Privileged files that are kept.
const MAX_FILES: usize = 10_000;
/// Entries of an archive; more are not read.
const MAX_ENTRIES: usize = 1 << 22;

/// Programs that install packages.
const MANAGERS: &[&str] = &["apk", "apt-get", "dnf", "microdnf", "pacman", "yum", "zypper"];

/// Where `rpm` keeps what it knows.
const RPM: &[&str] = &[
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/rpmdb.sqlite",
];

/// Reads a tar archive.
///
/// # Errors
/// When it cannot be read, or has too many entries.
pub fn read(archive: impl Read) -> io::Result<Contents> {
    let mut archive = tar::Archive::new(archive);
    let mut contents = Contents::default();
    let (mut dpkg, mut apk, mut rpm) = (None, None, false);
    for (number, entry) in archive.entries()?.enumerate() {
        if number == MAX_ENTRIES || contents.privileged.len() == MAX_FILES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "there are more files than are read",
            ));
        }
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_hard_link() && !kind.is_symlink() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = format!("/{}", path.trim_start_matches("./").trim_start_matches('/'));
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if MANAGERS.contains(&name) && (dir.ends_with("/bin") || dir.ends_with("/sbin")) {
            contents.managers.push(path.clone());
        }
        if kind.is_symlink() {
            continue;
        }
        let mode = entry.header().mode()? & 0o7777;
        let has_capabilities = has_capabilities(&mut entry)?;
        if mode & 0o6000 != 0 || has_capabilities {
            contents.privileged.push(PrivilegedFile { path: path.clone(), mode, has_capabilities });
        }
        let is_listed = |line: &str| line.starts_with("Status:") && line.ends_with(" installed");
        match path.as_str() {
            "/var/lib/dpkg/status" => {
                dpkg = Some(dpkg.unwrap_or(0) + count(&mut entry, is_listed)?);
            }
            "/lib/apk/db/installed" | "/usr/lib/apk/db/installed" => {
                apk = Some(apk.unwrap_or(0) + count(&mut entry, |line| line.starts_with("P:"))?);
            }
            // Images without a manager have a file for each package.
            _ if dir == "/var/lib/dpkg/status.d" && !name.ends_with(".md5sums") => {
                dpkg = Some(dpkg.unwrap_or(0) + 1);
            }
            path => rpm |= RPM.contains(&path),
        }
    }
    contents.packages.extend(dpkg.map(|count| Packages { manager: "dpkg", count: Some(count) }));
    contents.packages.extend(apk.map(|count| Packages { manager: "apk", count: Some(count) }));
    contents.packages.extend(rpm.then_some(Packages { manager: "rpm", count: None }));
    contents.privileged.sort();
    contents.managers.sort();
    Ok(contents)
}

fn has_capabilities(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(false) };
    for extension in extensions {
        let extension = extension?;
        if extension.key_bytes() == b"SCHILY.xattr.security.capability" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn count(entry: &mut impl Read, is_one: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut text = Vec::new();
    entry.take(MAX_DATABASE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().filter(|line| is_one(line)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        tar: &mut tar::Builder<Vec<u8>>,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        data: &str,
    ) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data.as_bytes()).expect("a vector takes everything");
    }

    #[test]
    fn privileged_files_and_packages_are_found() {
        let mut tar = tar::Builder::new(Vec::new());
        let file = tar::EntryType::Regular;
        add(&mut tar, "usr/bin/su", file, 0o4755, "x");
        add(&mut tar, "usr/bin/wall", file, 0o2755, "x");
        add(&mut tar, "usr/bin/cat", file, 0o755, "x");
        add(&mut tar, "var/mail", tar::EntryType::Directory, 0o2775, "");
        add(&mut tar, "usr/bin/apt-get", file, 0o755, "x");
        add(&mut tar, "srv/apt-get", file, 0o755, "x");
        let status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n";
        add(&mut tar, "var/lib/dpkg/status", file, 0o644, status);
        add(&mut tar, "lib/apk/db/installed", file, 0o644, "P:musl\nV:1\n\nP:busybox\n");
        tar.append_pax_extensions([("SCHILY.xattr.security.capability", b"\x01".as_slice())])
            .expect("appends");
        add(&mut tar, "usr/bin/ping", file, 0o755, "x");
        let contents = read(&*tar.into_inner().expect("ends")).expect("reads");
        let privileged: Vec<_> = contents
            .privileged
            .iter()
            .map(|it| (it.path.as_str(), it.mode, it.has_capabilities))
            .collect();
        assert_eq!(
            privileged,
            [
                ("/usr/bin/ping", 0o755, true),
                ("/usr/bin/su", 0o4755, false),
                ("/usr/bin/wall", 0o2755, false)
            ]
        );
        assert_eq!(contents.managers, ["/usr/bin/apt-get"]);
        let counts: Vec<_> = contents.packages.iter().map(|it| (it.manager, it.count)).collect();
        assert_eq!(counts, [("dpkg", Some(1)), ("apk", Some(2))]);
        assert!(read(b"no archive, and longer than nothing".as_slice()).is_err());
    }
}
