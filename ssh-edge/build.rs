//! Builds the guest, statically linked, for this edge to carry.
//!
//! Cargo has no stable way to depend on a binary built for another target, so this runs Cargo
//! again. The inner build has a target folder of its own: the outer one's is locked.

#![allow(clippy::disallowed_methods, reason = "Cargo tells build scripts through the environment")]

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for input in ["guest", "crates/guest-protocol"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let target = env::var("TARGET")?;
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("guest");
    let status = Command::new(env::var("CARGO")?)
        .args(["build", "--release", "--locked", "--quiet", "--bin", "guest"])
        .arg("--manifest-path")
        .arg(root.join("guest/Cargo.toml"))
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        // The container has no dynamic linker that this could count on.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Set when Clippy or a wrapper runs the outer build; it would not make a binary here.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()?;
    if !status.success() {
        return Err(format!("the guest does not build ({status})").into());
    }
    let guest = folder.join(target).join("release").join("guest");
    println!("cargo::rustc-env=SPILLWAY_GUEST={}", guest.display());
    Ok(())
}
