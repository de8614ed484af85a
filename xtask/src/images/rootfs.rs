//! The two root file systems that everything else stands on: busybox and a minimal Debian.
//!
//! Owns their content and the hash of what they are made from. Needs the packages busybox-static
//! and debootstrap.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use super::archive;
use crate::{apt, mounts, sh::cmd};

const BUSYBOX: &str = "/bin/busybox";
/// Certificate authorities that the administrator added: pip speaks through a TLS proxy with them.
const LOCAL_AUTHORITIES: &str = "/usr/local/share/ca-certificates";
/// Change it when `debian` below makes something else.
const DEBIAN_VERSION: &str = "1";
const RELEASE: &str = "bookworm";

/// Settings of apt inside the image: no caches in layers, no recommended packages.
const APT_CONF: &str = "\
Dir::Cache::pkgcache \"\";
Dir::Cache::srcpkgcache \"\";
APT::Install-Recommends \"false\";
Acquire::Languages \"none\";
DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb || true\"; };
";

/// What the busybox image is made from.
pub fn busybox_recipe() -> Result<String> {
    archive::digest(&mut fs_err::File::open(BUSYBOX)?)
}

/// Writes busybox with a link for each of its applets as a tar file.
pub fn busybox(out: &Utf8Path) -> Result<()> {
    let mut tar = tar::Builder::new(fs_err::File::create(out)?);
    for (path, mode) in
        [("bin", 0o755), ("etc", 0o755), ("proc", 0o555), ("root", 0o700), ("tmp", 0o1777)]
    {
        entry(&mut tar, tar::EntryType::Directory, path, mode)?;
    }
    let binary = fs_err::File::open(BUSYBOX)?;
    let mut header = archive::file_header(binary.metadata()?.len());
    header.set_mode(0o755);
    tar.append_data(&mut header, "bin/busybox", binary)?;
    for applet in cmd(BUSYBOX).arg("--list").stdout()?.lines().filter(|name| *name != "busybox") {
        let mut header = archive::file_header(0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    archive::add(&mut tar, "etc/passwd", users.as_bytes())?;
    archive::add(&mut tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")?;
    tar.into_inner()?.sync_all()?;
    Ok(())
}

/// What the Debian image is made from.
pub fn debian_recipe() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(DEBIAN_VERSION);
    hash.update(APT_CONF);
    for path in local_authorities()? {
        hash.update(fs_err::read(path)?);
    }
    Ok(archive::hex(&hash.finalize()))
}

/// Writes a minimal Debian as a tar file. Needs root; takes about a minute.
pub fn debian(work: &Utf8Path, out: &Utf8Path) -> Result<()> {
    let root = work.join("debian-root");
    mounts::remove_tree(&root)?;
    cmd("debootstrap")
        .args(["--variant=minbase", "--include=ca-certificates", RELEASE])
        .args([root.as_str(), apt::mirror()?.as_str()])
        .run()?;
    for path in local_authorities()? {
        let name = path.file_name().context("a certificate without a name")?;
        fs_err::copy(&path, root.join(LOCAL_AUTHORITIES.trim_start_matches('/')).join(name))?;
    }
    cmd("chroot").args([root.as_str(), "update-ca-certificates"]).run()?;
    fs_err::write(root.join("etc/apt/apt.conf.d/99-image"), APT_CONF)?;
    cmd("chroot")
        .args([root.as_str(), "sh", "-c"])
        .arg("rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb")
        .run()?;
    mounts::detach_below(&root)?;
    cmd("tar")
        .args(["-C", root.as_str(), "--sort=name", "--numeric-owner", "--exclude=./dev/*"])
        .args(["-cf", out.as_str(), "."])
        .run()?;
    mounts::remove_tree(&root)
}

/// The administrator's certificate authorities, sorted.
fn local_authorities() -> Result<Vec<Utf8PathBuf>> {
    let dir = Utf8Path::new(LOCAL_AUTHORITIES);
    let mut paths = Vec::new();
    if dir.exists() {
        for entry in dir.read_dir_utf8()? {
            let path = entry?.into_path();
            if path.extension() == Some("crt") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn entry<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
) -> Result<()> {
    let mut header = archive::file_header(0);
    header.set_entry_type(kind);
    header.set_mode(mode);
    Ok(tar.append_data(&mut header, path, std::io::empty())?)
}
