//! From an admitted command to what the platform is asked to start. Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::ExecutionId;
use super::command::{CommandLine, Environment, Inherit, Options, Stdin, Terminal};
use crate::os;

/// The names runs inherit under the allow-list; a trailing `*` matches any rest.
pub const ALLOWED_ENVIRONMENT: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"];

/// Used when nothing else gives a PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The server's own environment and the names it lets runs inherit.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What the server itself was given.
    pub environment: Vec<(OsString, OsString)>,
    /// Names that may be inherited besides [`ALLOWED_ENVIRONMENT`].
    pub allowed: Vec<String>,
}

/// What is executed: the program, its name for itself, its arguments.
#[must_use]
pub fn argv(line: &CommandLine) -> (OsString, Vec<OsString>) {
    match line {
        CommandLine::Argv { program, args } => (program.into(), args.iter().map(OsString::from).collect()),
        CommandLine::Shell { script, interpreter } => {
            let shell = interpreter.as_deref().unwrap_or("sh");
            (shell.into(), vec!["-c".into(), script.into()])
        }
    }
}

/// The complete environment of a run.
#[must_use]
pub fn environment(
    id: &ExecutionId,
    options: &Options,
    user: Option<&os::User>,
    surroundings: &Surroundings,
) -> Vec<(OsString, OsString)> {
    let Environment { inherit, set, unset } = &options.environment;
    let mut variables: BTreeMap<OsString, OsString> = surroundings
        .environment
        .iter()
        .filter(|(name, _)| match inherit {
            Inherit::None => false,
            Inherit::All => true,
            Inherit::AllowList => is_allowed(&name.to_string_lossy(), &surroundings.allowed),
        })
        .cloned()
        .collect();
    if let Some(user) = user {
        let home = user.home.clone().into_os_string();
        let shell = user.shell.clone().into_os_string();
        variables.extend([
            ("HOME".into(), home),
            ("SHELL".into(), shell),
            ("USER".into(), user.name.clone().into()),
            ("LOGNAME".into(), user.name.clone().into()),
        ]);
    }
    variables.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    variables.extend([("PYTHONUNBUFFERED".into(), "1".into()), ("NODE_NO_READLINE".into(), "1".into())]);
    if let Some(Terminal { term, .. }) = &options.terminal {
        variables.insert("TERM".into(), term.into());
    }
    variables.extend(set.iter().map(|(name, value)| (name.into(), value.into())));
    for name in unset {
        variables.remove(&OsString::from(name));
    }
    variables.insert(os::MARKER.into(), id.as_str().into());
    variables.into_iter().collect()
}

fn is_allowed(name: &str, also: &[String]) -> bool {
    ALLOWED_ENVIRONMENT
        .iter()
        .copied()
        .chain(also.iter().map(String::as_str))
        .any(|pattern| pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix)))
}

/// The whole plan.
#[must_use]
pub fn plan(
    id: &ExecutionId,
    line: &CommandLine,
    options: &Options,
    user: Option<os::User>,
    output: os::Output,
    surroundings: &Surroundings,
) -> os::Plan {
    let (program, args) = argv(line);
    os::Plan {
        id: id.to_string(),
        program,
        arg0: None,
        args,
        environment: environment(id, options, user.as_ref(), surroundings),
        working_directory: options.working_directory.clone().unwrap_or_else(|| PathBuf::from("/")),
        user,
        stdin: match &options.stdin {
            Stdin::Null => os::Stdin::Null,
            Stdin::Inline(data) => os::Stdin::Inline(data.clone()),
            Stdin::Pipe => os::Stdin::Pipe,
        },
        output,
        limits: os::ResourceLimits {
            open_files: options.limits.open_files,
            cpu_time: options.limits.cpu_time.map(|time| time.max(Duration::from_secs(1))),
            memory_bytes: options.limits.memory_bytes,
            processes: options.limits.processes,
            cpus: options.limits.cpus,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        let pairs = [("PATH", "/bin"), ("SECRET", "s"), ("LC_ALL", "C"), ("EXTRA_ONE", "1")];
        Surroundings {
            environment: pairs.map(|(name, value)| (name.into(), value.into())).to_vec(),
            allowed: vec!["EXTRA_*".to_owned()],
        }
    }

    fn names(options: &Options) -> Vec<String> {
        environment(&ExecutionId::generate(), options, None, &surroundings())
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn only_allowed_names_are_inherited_by_default() {
        let names = names(&Options::default());
        for expected in ["PATH", "LC_ALL", "EXTRA_ONE", "PYTHONUNBUFFERED", os::MARKER] {
            assert!(names.iter().any(|name| name == expected), "{expected} missing from {names:?}");
        }
        assert!(!names.iter().any(|name| name == "SECRET"));
    }

    #[test]
    fn unset_comes_last_but_the_marker_stays() {
        let environment = Environment {
            inherit: Inherit::All,
            set: [("A".to_owned(), "1".to_owned())].into(),
            unset: vec!["A".to_owned(), "PYTHONUNBUFFERED".to_owned(), os::MARKER.to_owned()],
        };
        let names = names(&Options { environment, ..Options::default() });
        assert!(names.iter().any(|name| name == "SECRET"));
        assert!(!names.iter().any(|name| name == "A" || name == "PYTHONUNBUFFERED"));
        assert!(names.iter().any(|name| name == os::MARKER));
    }
}
