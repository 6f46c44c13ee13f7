//! Messages of the protocol as canonical JSON, for programs and exports. The only place that knows how.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::proto;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build wrote the descriptors"));

/// The message, of the type `name` in our package, as one line of canonical JSON.
///
/// # Panics
/// When there is no type of that name: a mistake of the caller.
#[must_use]
pub fn text(name: &str, message: &impl Message) -> String {
    let kind = POOL.get_message_by_name(&format!("ccexecutor.v1.{name}")).expect("callers name types of the package");
    let message = DynamicMessage::decode(kind, &*message.encode_to_vec()).expect("both sides are of one schema");
    serde_json::to_string(&message).expect("every message of the package has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::execution_event::Event;
    use crate::proto::{Channel, Cursor, ExecutionEvent, Output};

    #[test]
    fn events_are_canonical() {
        let event = ExecutionEvent {
            execution_id: "a".to_owned(),
            cursor: Some(Cursor { epoch: 1, seq: 2 }),
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 500_000_000 }),
            event: Some(Event::Output(Output { channel: Channel::Stdout.into(), offset: 3, data: "hi".into() })),
        };
        assert_eq!(
            text("ExecutionEvent", &event),
            r#"{"executionId":"a","cursor":{"epoch":"1","seq":"2"},"time":"1970-01-01T00:00:00.500Z","output":{"channel":"CHANNEL_STDOUT","offset":"3","data":"aGk="}}"#
        );
    }
}
