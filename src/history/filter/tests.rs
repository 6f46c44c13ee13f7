use proptest::prelude::*;

use super::*;
use crate::history::sample;

#[track_caller]
fn refused(text: &str, position: usize, fragment: &str) {
    let error = Filter::parse(text).expect_err(text);
    assert_eq!(error.position, position, "{text}: {error}");
    assert!(error.problem.contains(fragment), "{text}: {error}");
}

fn canonical(text: &str) -> String {
    Filter::parse(text).expect(text).to_string()
}

#[test]
fn example_of_the_protocol_is_understood() {
    let mut run = sample::ended("a", 0);
    let filter = Filter::parse(r#"success = true AND labels.team = "web" AND duration > 0.5ms"#).expect("it parses");
    assert!(!filter.matches(&run));
    run.snapshot.command.options.labels = sample::labels("team", "web");
    assert!(filter.matches(&run));
}

#[test]
fn an_empty_filter_matches_all() {
    assert_eq!(Filter::parse(" \t"), Ok(Filter::default()));
    assert!(Filter::default().matches(&sample::begun("a", 0)));
}

#[test]
fn canonical_form_spells_everything_out() {
    for (text, expected) in [
        ("exit_code=1 success:*", "exit_code = 1 AND success:*"),
        ("-(exit_code = 1)", "NOT exit_code = 1"),
        ("NOT(cause=run_timeout OR signal>9)", "NOT (cause = RUN_TIMEOUT OR signal > 9)"),
        ("((user = a AND user = b) AND user=c)", r#"user = "a" AND user = "b" AND user = "c""#),
        (r#"labels."team" = web labels.'a b':x"#, r#"labels.team = "web" AND labels."a b":"x""#),
        ("duration <= 1h30m", "duration <= 5400s"),
        ("duration < \"1.5 s\"", "duration < 1.500000000s"),
        ("create_time >= 2026-01-02T03:04:05+01:00", "create_time >= 2026-01-02T02:04:05Z"),
        (r#"command:"*" AND user:*"#, r#"command:"*" AND user:*"#),
    ] {
        assert_eq!(canonical(text), expected);
    }
}

#[test]
fn absent_values_fit_only_inequality() {
    let run = sample::begun("a", 0);
    for (text, expected) in [
        ("exit_code = 0", false),
        ("exit_code < 0", false),
        ("exit_code != 0", true),
        ("NOT exit_code < 0", true),
        ("labels.team != web", true),
        ("labels.team:*", false),
        ("labels.team:web", false),
        ("duration:*", false),
        ("state = queued", true),
    ] {
        assert_eq!(Filter::parse(text).expect(text).matches(&run), expected, "{text}");
    }
}

#[test]
fn errors_say_where_and_what_would_fit() {
    refused("colour = red", 1, "unknown column `colour`; columns are execution_id, state");
    refused("success = true AND", 19, "expected a column");
    refused("exit_code = one", 13, "`one` does not fit `exit_code`, which takes a whole number");
    refused("cause = TIMEOUT", 9, "one of EXITED, CANCELLED");
    refused("state > RUNNING", 7, "no order");
    refused("duration > 10", 12, "1.5s, 10m or 2h");
    refused("duration > -1s", 12, "1.5s, 10m or 2h");
    refused("create_time > yesterday", 15, "2026-01-31T12:00:00Z");
    refused("exit_code:1", 11, "takes only `*`");
    refused("exit_code", 10, "expected =, !=");
    refused("exit_code =", 12, "needs a value");
    refused("labels. = x", 8, "key of a label");
    refused("labels = x", 1, "unknown column");
    refused("user = \"ä", 8, "does not end");
    refused(r#"user = "a\q""#, 10, "unknown escape");
    refused("(user = a", 10, "not closed");
    refused("user = a)", 9, "not opened");
    refused("()", 2, "expected a column");
}

#[test]
fn mixed_and_and_or_need_parentheses() {
    refused("user = a AND user = b OR user = c", 23, "mixed");
    refused("user = a OR user = b user = c", 22, "mixed");
    assert_eq!(canonical("user=a OR (user=b user=c)"), r#"user = "a" OR (user = "b" AND user = "c")"#);
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}user = a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(MAX_DEPTH - 1)).is_ok());
    refused(&nested(MAX_DEPTH), MAX_DEPTH + 1, "32 deep");
    refused(&"-".repeat(MAX_BYTES), MAX_DEPTH + 1, "32 deep");
    refused(&" ".repeat(MAX_BYTES + 1), 1, "4096 bytes");
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(4000);
    for text in [format!("{long} = 1"), format!("exit_code = {long}"), format!("labels.{long} 1")] {
        let length = Filter::parse(&text).expect_err("it is wrong").to_string().len();
        assert!(length < 400, "{length}");
    }
}

proptest! {
    #[test]
    fn canonical_form_parses_to_the_same(filter in sample::filter()) {
        prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn no_heap_of_tokens_makes_it_panic(
        tokens in proptest::collection::vec(
            proptest::sample::select([
                "AND", "OR", "NOT", "-", "(", ")", "labels", ".", "user", "exit_code", "duration", "=", "!=", "<", ":",
                "*", "\"", "\\", "'", " ", "1", "5s", "2026-01-01T00:00:00Z", "é",
            ].as_slice()),
            0..40,
        ),
    ) {
        if let Ok(filter) = Filter::parse(&tokens.concat()) {
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }
    }

    #[test]
    fn negation_is_the_opposite(record in sample::record("a".to_owned()), filter in sample::filter()) {
        let negated = Filter::parse(&format!("NOT ({filter})")).expect("it parses");
        prop_assert_ne!(filter.matches(&record), negated.matches(&record));
    }
}
