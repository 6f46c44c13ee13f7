//! The table of all settings: key, meaning, where else it can be given, and the field it fills. What the file, the
//! environment and the flags may say, and what `init` writes, all follow from this one table.

use std::time::Duration;

use toml::Value;

use super::Config;
use super::field::Field;
use super::quantity::written_duration;
use crate::server::Listen;

/// One setting.
pub(super) struct Setting {
    /// Its dotted key in the file.
    pub(super) key: &'static str,
    /// What it means, for the file that `init` writes.
    pub(super) about: &'static str,
    /// The environment variable, if there is one.
    pub(super) variable: Option<&'static str>,
    /// The flag, if there is one.
    pub(super) flag: Option<&'static str>,
    field: Field,
    /// What `init` shows for a setting without a default.
    example: &'static str,
}

/// All settings, in the order of the file.
pub(super) static SETTINGS: &[Setting] = &[
    setting("listen", "Where to listen: HOST:PORT (port 0 takes a free one) or unix:/PATH. In the environment: separated by commas.", Field::Listen(|c| &mut c.server.listen))
        .variable("CC_EXECUTOR_LISTEN")
        .flag("--listen"),
    setting("allow_remote", "Listen beyond loopback although nobody is authenticated.", Field::Switch(|c| &mut c.server.allow_remote))
        .flag("--allow-remote"),
    setting("state_dir", "Where records and output live. Default: $XDG_STATE_HOME/cc-executor, else $HOME/.local/state/cc-executor, else /var/lib/cc-executor.", Field::Path(|c| &mut c.server.state_dir))
        .variable("CC_EXECUTOR_STATE_DIR")
        .flag("--state-dir"),
    setting("node", "The name of this machine in records. Default: the host name.", Field::Text(|c| &mut c.server.node)),
    setting("containment", "How process trees are held together: auto (the best that works), cgroup, shim or group.", Field::Containment(|c| &mut c.server.containment))
        .flag("--containment"),
    setting("drain", "How long runs may go on after the server was told to stop.", Field::Time(|c| &mut c.server.drain))
        .flag("--drain"),
    setting("watcher_stall", "How long a watcher may take nothing before it is cut with a cursor.", Field::Time(|c| &mut c.server.watcher_stall)),
    setting("shell", "The shell of runs that name none. Default: the first of zsh, bash, sh that exists.", Field::OptionalText(|c| &mut c.server.supervisor.shell))
        .example("\"bash\""),
    setting("working_directory", "Where runs start that name no directory. Default: where the server was started.", Field::Path(|c| &mut c.server.supervisor.working_directory)),
    setting("allowed_environment", "Names (a trailing * matches any rest) that runs inherit besides PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE, LC_*, TZ, TMPDIR.", Field::List(|c| &mut c.server.supervisor.allowed_environment)),
    setting("limits.max_concurrent", "Runs at once; more wait in the queue.", Field::Count(|c| &mut c.server.supervisor.max_concurrent))
        .flag("--max-concurrent"),
    setting("limits.max_queued", "Runs waiting; more are refused.", Field::Count(|c| &mut c.server.supervisor.max_queued)),
    setting("limits.max_output", "Output kept of one run; also the most a request may ask for.", Field::Size(|c| &mut c.server.supervisor.max_output_bytes)),
    setting("limits.memory", "Recent output of one run held in memory for its watchers.", Field::Memory(|c| &mut c.server.supervisor.memory_bytes)),
    setting("limits.stdin_window", "Input that may wait for one run.", Field::Memory(|c| &mut c.server.supervisor.stdin_window_bytes)),
    setting("limits.max_timeout", "The longest timeout a request may ask for.", Field::Time(|c| &mut c.server.supervisor.max_timeout)),
    setting("timeouts.queue", "In the queue before the start, of runs that do not say; \"none\" means no such clock, here and below.", Field::Clock(|c| &mut c.server.supervisor.timeouts.queue))
        .example("\"1h\""),
    setting("timeouts.first_output", "From the start to the first output.", Field::Clock(|c| &mut c.server.supervisor.timeouts.first_output))
        .example("\"5m\""),
    setting("timeouts.idle", "Without output.", Field::Clock(|c| &mut c.server.supervisor.timeouts.idle))
        .example("\"30m\""),
    setting("timeouts.run", "Of running, pauses not counted.", Field::Clock(|c| &mut c.server.supervisor.timeouts.run))
        .example("\"2h\""),
    setting("timeouts.wall", "Since the request, queue and pauses counted.", Field::Clock(|c| &mut c.server.supervisor.timeouts.wall))
        .example("\"1d\""),
    setting("timeouts.max_pause", "One pause.", Field::Clock(|c| &mut c.server.supervisor.timeouts.max_pause)),
    setting("timeouts.grace", "Between the stop signal and KILL; \"0s\" means KILL at once.", Field::Period(|c| &mut c.server.supervisor.timeouts.grace)),
    setting("timeouts.drain", "For output of processes that outlive their command.", Field::Period(|c| &mut c.server.supervisor.timeouts.drain)),
    setting("retention.age", "Age at which records and output are removed.", Field::Time(|c| &mut c.server.supervisor.retention_age)),
    setting("retention.size", "Size of all output at which the oldest is removed.", Field::Size(|c| &mut c.server.supervisor.retention_bytes)),
    setting("log.level", "What is logged, for instance \"info\" or \"warn,cc_executor=debug\". Default: info for a server, warn for all else.", Field::Level(|c| &mut c.log.level))
        .variable("LOG_LEVEL")
        .flag("--log-level")
        .example("\"info\""),
    setting("log.format", "How logs are written: text or json.", Field::Format(|c| &mut c.log.format))
        .variable("LOG_FORMAT")
        .flag("--log-format"),
];

const fn setting(key: &'static str, about: &'static str, field: Field) -> Setting {
    Setting { key, about, variable: None, flag: None, field, example: "" }
}

impl Setting {
    const fn variable(self, name: &'static str) -> Setting {
        Setting { variable: Some(name), ..self }
    }

    const fn flag(self, name: &'static str) -> Setting {
        Setting { flag: Some(name), ..self }
    }

    const fn example(self, example: &'static str) -> Setting {
        Setting { example, ..self }
    }

    /// Fills the field, or says in one sentence what would fit.
    pub(super) fn set(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        self.field.set(config, value)
    }
}

/// What each setting may be by itself but not together with the others: the key to blame, and why.
pub(super) fn contradictions(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let server = &config.server;
    for listen in &server.listen {
        match listen {
            Listen::Tcp(address) if !address.ip().is_loopback() && !server.allow_remote => found.push((
                "listen",
                format!("{address} can be reached from other machines and nobody is authenticated; listen at 127.0.0.1, or set allow_remote (flag --allow-remote)"),
            )),
            Listen::Tcp(_) | Listen::Unix(_) => {}
        }
    }
    let bounds = &server.supervisor;
    let clocks: [(&'static str, Option<Duration>); 8] = [
        ("timeouts.queue", bounds.timeouts.queue),
        ("timeouts.first_output", bounds.timeouts.first_output),
        ("timeouts.idle", bounds.timeouts.idle),
        ("timeouts.run", bounds.timeouts.run),
        ("timeouts.wall", bounds.timeouts.wall),
        ("timeouts.max_pause", bounds.timeouts.max_pause),
        ("timeouts.grace", bounds.timeouts.grace),
        ("timeouts.drain", bounds.timeouts.drain),
    ];
    for (key, _) in clocks.iter().filter(|(_, clock)| clock.is_some_and(|clock| clock > bounds.max_timeout)) {
        found.push((key, format!("is longer than limits.max_timeout ({})", written_duration(bounds.max_timeout))));
    }
    if bounds.memory_bytes as u64 > bounds.max_output_bytes {
        found.push(("limits.memory", "is more than limits.max_output".to_owned()));
    }
    found
}

/// The settings as a TOML file in which everything is commented out.
pub(super) fn template(config: &Config) -> String {
    let mut text = "# Configuration of cc-executor. Every line shows the default, or an example where there is none.\n\
                    # A .env file, the environment and flags override this file.\n"
        .to_owned();
    let mut section = "";
    for setting in SETTINGS {
        let (table, name) = setting.key.split_once('.').map_or(("", setting.key), |(table, name)| (table, name));
        if table != section {
            section = table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        let elsewhere: Vec<&str> = [setting.variable, setting.flag].into_iter().flatten().collect();
        let also = if elsewhere.is_empty() { String::new() } else { format!(" Also {}.", elsewhere.join(", ")) };
        let value = setting.field.show(config).map_or_else(|| setting.example.to_owned(), |value| value.to_string());
        text.push_str(&format!("\n# {}{also}\n# {name} = {value}\n", setting.about));
    }
    text
}
