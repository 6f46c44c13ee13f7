use proptest::prelude::*;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::cli::mock::{Answer, Asked, Mock};
use crate::proto::{ByteRange, Channel as Stream, Completed, FromStart, Gap, Live, Outcome, Queued};

fn event(seq: u64, event: Event) -> ExecutionEvent {
    let cursor = (seq > 0).then_some(Cursor { epoch: 1, seq });
    ExecutionEvent { execution_id: "a".to_owned(), cursor, time: None, event: Some(event) }
}

fn output(seq: u64, offset: u64, text: &str) -> ExecutionEvent {
    let data = text.as_bytes().to_vec().into();
    event(seq, Event::Output(Output { channel: Stream::Stdout.into(), offset, data }))
}

fn live(seq: u64) -> ExecutionEvent {
    event(0, Event::Live(Live { cursor: Some(Cursor { epoch: 1, seq }) }))
}

fn completed(seq: u64) -> ExecutionEvent {
    event(seq, Event::Completed(Completed { outcome: Some(Outcome::default()) }))
}

fn broken() -> Result<(), Status> {
    Err(Status::unavailable("connection reset"))
}

fn execute() -> ExecuteRequest {
    ExecuteRequest { execution_id: "a".to_owned(), ..ExecuteRequest::default() }
}

fn attach(follow: bool) -> AttachRequest {
    let from = Some(attach_request::From::Start(FromStart {}));
    AttachRequest { execution_id: "a".to_owned(), from, follow, ..AttachRequest::default() }
}

/// What a follower delivers: the output, whether the run was seen to complete, and how it ended.
async fn followed(follower: Follower) -> (String, bool, Result<(), Failure>) {
    let mut follower = follower.patience(Patience::new(3, Duration::from_millis(1)));
    let (mut text, mut is_completed) = (String::new(), false);
    loop {
        match follower.next().await {
            Ok(Some(ExecutionEvent { event: Some(Event::Output(output)), .. })) => {
                text.push_str(std::str::from_utf8(&output.data).unwrap());
            }
            Ok(Some(event)) => is_completed |= matches!(event.event, Some(Event::Completed(_))),
            Ok(None) => return (text, is_completed, Ok(())),
            Err(failure) => return (text, is_completed, Err(failure)),
        }
    }
}

/// Where each attach began.
fn attached_from(mock: &Mock) -> Vec<Option<attach_request::From>> {
    let from = |asked| match asked {
        Asked::Attach(request) => Some(request.from),
        _ => None,
    };
    mock.asked().into_iter().filter_map(from).collect()
}

fn behind(seq: u64) -> Option<attach_request::From> {
    Some(attach_request::From::Cursor(Cursor { epoch: 1, seq }))
}

#[tokio::test]
async fn stream_cut_before_completed_is_taken_up_behind_the_last_event() {
    let mock = Mock::answering([
        Answer::Events(vec![output(1, 0, "one "), output(2, 4, "two ")], broken()),
        Answer::Events(vec![output(3, 8, "three ")], Ok(())),
        Answer::Events(vec![live(3), output(4, 14, "four"), completed(5)], Ok(())),
    ])
    .await;
    let (text, is_completed, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert!(end.is_ok() && is_completed);
    assert_eq!(text, "one two three four");
    assert_eq!(attached_from(&mock), [behind(2), behind(3)]);
}

#[tokio::test]
async fn unavailable_start_is_tried_again_with_the_same_request() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(5)));
    let later = Status::with_error_details(Code::Unavailable, "starting", details);
    let mock = Mock::answering([
        Answer::Refused(later),
        Answer::Events(vec![], broken()),
        Answer::Events(vec![completed(1)], Ok(())),
    ])
    .await;
    let (_, is_completed, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert!(end.is_ok() && is_completed);
    assert_eq!(mock.asked(), vec![Asked::Execute(Box::new(execute())); 3]);
}

#[tokio::test]
async fn refusal_is_final() {
    let mock = Mock::answering([Answer::Refused(Status::invalid_argument("options.user: no such user"))]).await;
    let (_, is_completed, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert!(!is_completed);
    assert_eq!(end.unwrap_err().to_string(), "options.user: no such user");
    assert_eq!(mock.asked().len(), 1);
}

#[tokio::test]
async fn nothing_is_guessed_when_the_server_stays_away() {
    let away = || Answer::Refused(Status::unavailable("refused"));
    let events = vec![output(1, 0, "half")];
    let mock = Mock::answering([Answer::Events(events, broken()), away(), away(), away(), away()]).await;
    let (text, is_completed, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert_eq!((text.as_str(), is_completed), ("half", false));
    let failure = end.unwrap_err();
    assert!(matches!(failure, Failure::Lost { .. }), "{failure}");
    assert_eq!(failure.exit_code(), 125);
}

#[tokio::test]
async fn run_that_vanished_has_no_outcome() {
    let mock = Mock::answering([Answer::Events(vec![event(1, Event::Queued(Queued { position: 1 }))], broken())]).await;
    let (_, is_completed, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert!(!is_completed && matches!(end, Err(Failure::Lost { .. })));
}

#[tokio::test]
async fn progress_renews_patience() {
    let mut answers: Vec<Answer> =
        (1..=10).map(|seq| Answer::Events(vec![output(seq, seq - 1, "x")], broken())).collect();
    answers.push(Answer::Events(vec![completed(11)], Ok(())));
    let mock = Mock::answering(answers).await;
    let (text, is_completed, end) = followed(Follower::attach(mock.client.clone(), attach(true))).await;
    assert!(end.is_ok() && is_completed);
    assert_eq!(text, "xxxxxxxxxx");
}

#[tokio::test]
async fn bytes_known_already_are_not_delivered_again() {
    let gap = Gap { ranges: vec![ByteRange { channel: Stream::Stdout.into(), start: 6, end: 100 }], ..Gap::default() };
    let mock = Mock::answering([
        Answer::Events(vec![output(2, 0, "abcd")], broken()),
        Answer::Events(vec![output(2, 0, "abcd"), output(3, 2, "cdef"), event(4, Event::Gap(gap))], broken()),
        Answer::Events(vec![output(5, 98, "xxgh"), completed(6)], Ok(())),
    ])
    .await;
    let (text, _, end) = followed(Follower::execute(mock.client.clone(), execute())).await;
    assert!(end.is_ok());
    assert_eq!(text, "abcdefgh");
}

#[tokio::test]
async fn attach_without_follow_ends_with_live() {
    let mock = Mock::answering([
        Answer::Events(vec![output(1, 0, "a")], broken()),
        Answer::Events(vec![output(2, 1, "b"), live(2)], Ok(())),
    ])
    .await;
    let (text, is_completed, end) = followed(Follower::attach(mock.client.clone(), attach(false))).await;
    assert!(end.is_ok() && !is_completed);
    assert_eq!(text, "ab");
    assert_eq!(attached_from(&mock), [attach(false).from, behind(1)]);
}

#[tokio::test]
async fn dropping_next_loses_nothing() {
    let events = (1..=50).map(|seq| output(seq, seq - 1, "y")).chain([completed(51)]).collect();
    let mock = Mock::answering([Answer::Refused(Status::unavailable("later")), Answer::Events(events, Ok(()))]).await;
    let patience = Patience::new(3, Duration::from_millis(1));
    let mut follower = Follower::execute(mock.client.clone(), execute()).patience(patience);
    let mut seen = 0;
    loop {
        tokio::select! {
            biased;
            event = follower.next() => match event.unwrap() {
                Some(_) => seen += 1,
                None => break,
            },
            // Polls once, then drops the call whatever it was doing.
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen, 51);
    assert_eq!(mock.asked().len(), 2, "each attempt was made once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However often a stream is cut, and however much of it is sent again, the output is the same.
    #[test]
    fn cut_streams_add_up(cuts in prop::collection::vec((1usize..6, 1usize..3), 0..8)) {
        let whole: Vec<ExecutionEvent> = (1..=20).map(|seq| output(seq, (seq - 1) * 2, &format!("{seq:02}"))).collect();
        let expected: String = (1..=20).map(|seq| format!("{seq:02}")).collect();
        let mut place: usize = 0;
        let mut answers = Vec::new();
        for (length, again) in cuts {
            let begin = place.saturating_sub(again); // every stream brings something, else patience ends
            place = (place + length).min(whole.len() - 1);
            answers.push(Answer::Events(whole[begin..place].to_vec(), broken()));
        }
        answers.push(Answer::Events(whole[place..].iter().cloned().chain([completed(21)]).collect(), Ok(())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (text, is_completed, end) = runtime.block_on(async {
            let mock = Mock::answering(answers).await;
            followed(Follower::execute(mock.client.clone(), execute())).await
        });
        prop_assert!(end.is_ok(), "{:?}", end);
        prop_assert!(is_completed);
        prop_assert_eq!(text, expected);
    }
}
