//! The docker-archive format: what `docker load`, `podman load` and `ctr images import` read.
//!
//! Owns the format. What is in the root file system is the caller's business.

use std::io::{Read, Seek as _, Write};

use anyhow::Result;
use camino::Utf8Path;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::RECIPE;

/// What an archive says about its one image.
pub struct Image<'a> {
    /// Name and tag.
    pub name: &'a str,
    /// Default command.
    pub command: &'a str,
    /// Hash of what it was made from.
    pub recipe: &'a str,
}

/// Writes a docker-archive of one layer, the tar file `rootfs`, to `out`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(image: &Image<'_>, rootfs: &Utf8Path, out: &Utf8Path) -> Result<()> {
    let mut layer = fs_err::File::open(rootfs)?;
    let layer_digest = digest(&mut layer)?;
    layer.rewind()?;
    let created = "1970-01-01T00:00:00Z";
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": created,
        "config": {
            "Cmd": [image.command],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Labels": { RECIPE: image.recipe },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": created, "created_by": "cargo xtask engines" }],
    })
    .to_string();
    let config_file = format!("{}.json", digest(&mut config.as_bytes())?);
    let layer_file = format!("{layer_digest}/layer.tar");
    let manifest =
        json!([{ "Config": config_file, "RepoTags": [image.name], "Layers": [layer_file] }]);

    // Written beside and renamed: an interrupted run leaves no half archive under the final name.
    let part = out.with_extension("part");
    let mut tar = tar::Builder::new(fs_err::File::create(&part)?);
    add(&mut tar, &config_file, config.as_bytes())?;
    let length = layer.metadata()?.len();
    tar.append_data(&mut file_header(length), &layer_file, layer)?;
    add(&mut tar, "manifest.json", manifest.to_string().as_bytes())?;
    tar.into_inner()?.sync_all()?;
    fs_err::rename(&part, out)?;
    Ok(())
}

/// Appends a regular file with fixed metadata, mode 0644.
///
/// # Errors
/// When the archive cannot be written.
pub fn add<W: Write>(tar: &mut tar::Builder<W>, path: &str, content: &[u8]) -> Result<()> {
    Ok(tar.append_data(&mut file_header(content.len() as u64), path, content)?)
}

/// The header of a regular file of root's, mode 0644.
pub fn file_header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// SHA-256 of all that `reader` yields, in hex.
///
/// # Errors
/// When reading fails.
pub fn digest(reader: &mut impl Read) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn digests_and_paths_in_the_archive_agree() -> Result<()> {
        let unique = format!("profiler-archive-{}", std::process::id());
        let dir = std::env::temp_dir().join(unique);
        let dir = Utf8Path::from_path(&dir).expect("utf-8 temporary directory");
        fs_err::create_dir_all(dir)?;
        fs_err::write(dir.join("layer"), "not really a tar file")?;
        let image = Image { name: "localhost/x:1", command: "/bin/sh", recipe: "abc" };
        write(&image, &dir.join("layer"), &dir.join("out.tar"))?;

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(fs_err::File::open(dir.join("out.tar"))?).entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(entry.path()?.to_string_lossy().into_owned(), content);
        }
        fs_err::remove_dir_all(dir)?;
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"])?;
        let config_file = manifest[0]["Config"].as_str().expect("a config");
        let layer_file = manifest[0]["Layers"][0].as_str().expect("a layer");
        assert_eq!(config_file, format!("{}.json", digest(&mut &files[config_file][..])?));
        let config: serde_json::Value = serde_json::from_slice(&files[config_file])?;
        let layer = digest(&mut &files[layer_file][..])?;
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{layer}"));
        assert_eq!(config["config"]["Labels"][RECIPE], "abc");
        Ok(())
    }
}
