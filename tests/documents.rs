//! What the documents say in tables is what the code says.

use std::collections::{BTreeMap, BTreeSet};

use cc_executor::config::{self, Environment};

/// The cells of all table rows, without backquotes.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
    let rows = markdown.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(cells).collect()
}

/// Key, value, variable and flag of every setting, from the file that `init` writes.
fn settings() -> Vec<(String, String, String)> {
    let template = config::template(&Environment::default());
    let mut section = String::new();
    let mut about = "";
    let mut settings = Vec::new();
    for line in template.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        }
        let Some(text) = line.strip_prefix("# ") else { continue };
        match text.split_once(" = ").filter(|(name, _)| name.chars().all(|one| one.is_ascii_lowercase() || one == '_'))
        {
            Some((name, value)) => {
                let also = about.rsplit_once(" Also ").map_or("", |(_, also)| also.trim_end_matches('.'));
                settings.push((format!("{section}{name}"), value.trim_matches('"').to_owned(), also.to_owned()));
            }
            None => about = text,
        }
    }
    settings
}

#[test]
fn readme_names_every_setting() {
    let rows = rows(include_str!("../README.md"));
    let settings = settings();
    assert!(settings.len() > 20, "the settings were found");
    for (key, value, also) in &settings {
        let row =
            rows.iter().find(|row| row[0] == *key).unwrap_or_else(|| panic!("{key} is not in a table of the README"));
        assert_eq!(row[2], *also, "where else {key} can be given");
        // Where `init` shows an example or a fact of this machine, the README says what holds.
        let is_told =
            row[1] == "none" || row[1].starts_with("the ") || row[1].starts_with('~') || row[1].contains(" for ");
        assert!(is_told || row[1] == value.replace(['[', ']', '"'], ""), "{key}: {} or {value}", row[1]);
    }
    let known: BTreeSet<&str> = settings.iter().map(|(key, ..)| key.as_str()).collect();
    for row in rows.iter().filter(|row| {
        ["limits", "timeouts", "retention", "log"].iter().any(|table| row[0].starts_with(&format!("{table}.")))
    }) {
        assert!(known.contains(row[0].as_str()), "there is no setting {}", row[0]);
    }
}

#[test]
fn architecture_shows_the_ranks_that_are_tested() {
    let tested = include_str!("architecture.rs").lines().filter_map(|line| {
        let (name, rank) = line.trim().strip_prefix("(\"")?.strip_suffix("),")?.split_once("\", ")?;
        Some((name.to_owned(), rank.parse::<u8>().ok()?))
    });
    let tested: BTreeMap<String, u8> = tested.collect();
    assert!(tested.len() > 10, "the ranks were found");
    let mut shown = BTreeMap::new();
    for row in rows(include_str!("../ARCHITECTURE.md")) {
        let Ok(rank) = row[0].parse::<u8>() else { continue };
        shown.extend(row[1].split(", ").map(|name| (name.trim_end_matches(" (later)").to_owned(), rank)));
    }
    assert_eq!(shown, tested);
}
