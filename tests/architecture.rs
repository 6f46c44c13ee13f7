//! Who may import whom: a module imports only modules of a lower rank. The table is the one of ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const RANKS: [(&str, u8); 15] = [
    ("os", 0),
    ("proto", 0),
    ("shutdown", 0),
    ("telemetry", 0),
    ("json", 1),
    ("execution", 1),
    ("history", 3),
    ("timeouts", 4),
    ("supervisor", 5),
    ("tasks", 6),
    ("store", 7),
    ("api", 7),
    ("server", 8),
    ("config", 9),
    ("cli", 10),
];

/// Imports that a rank would allow but the architecture forbids.
const FORBIDDEN: [(&str, &str); 4] =
    [("supervisor", "proto"), ("supervisor", "json"), ("execution", "json"), ("history", "proto")];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules a source names by `crate::NAME`, tests and comments left out.
fn imports(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.match_indices("crate::").map(|(at, _)| line[at + 7..].to_owned()).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

#[test]
fn modules_import_only_lower_ranks() {
    let ranks: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources were found");

    let mut faults = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("it is below the root");
        let module = relative.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let module = module.unwrap_or_default().trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&module.as_str()) || relative.to_string_lossy().contains("tests") {
            continue;
        }
        let own = *ranks.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no rank: add it to the table"));
        for import in imports(&fs::read_to_string(&file).expect("a source is readable")) {
            let Some(rank) = ranks.get(import.as_str()) else { continue };
            let forbidden = FORBIDDEN.contains(&(module.as_str(), import.as_str()));
            if import != module && (*rank >= own || forbidden) {
                faults.push(format!("{} ({module}, rank {own}) imports {import} (rank {rank})", relative.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_os_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let faults: Vec<_> = files
        .into_iter()
        .filter(|file| !file.starts_with(root.join("os")))
        .filter(|file| fs::read_to_string(file).expect("a source is readable").contains("unsafe {"))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
}
