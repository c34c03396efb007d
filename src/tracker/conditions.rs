//! What groups of events expect of their channels: the states upon which they were decided.

use bytes::Bytes;

use crate::{
    event::{ChannelKind, ChannelName, Class, Draft},
    journal::Expect,
    people::PeopleTable,
    task::{Decided, Row, Table},
};

/// What a group expects of the channel of its first event there: what it was decided upon.
pub(super) fn expects(table: &Table, people: &PeopleTable, decided: &Decided) -> Option<Expect> {
    let channel = &decided.draft.channel;
    match (channel.kind(), table.row(channel), &decided.row) {
        (ChannelKind::Task, Some(Row::Task(entry)), _) => Some(Expect::At(entry.last)),
        (ChannelKind::Key, Some(Row::Gone), Some(Row::Key(_))) => table.last(channel).map(Expect::At),
        (ChannelKind::Task, _, _) | (ChannelKind::Key, _, Some(Row::Key(_))) => Some(Expect::Absent),
        // A text goes to a user whatever has become of them.
        (ChannelKind::User, _, _) if decided.draft.class == Class::Hidden => {
            Some(people.last(channel).map_or(Expect::Absent, Expect::At))
        }
        (ChannelKind::User, _, _) if decided.draft.class == Class::Tombstone => people.last(channel).map(Expect::At),
        // A key goes with its task, whatever has become of it.
        _ => None,
    }
}

/// A hidden event on the channel of a user, on the condition that there was no other: whoever counts their tasks at the same
/// time counts again.
pub(super) fn count_on(user: ChannelName) -> Decided {
    let draft = Draft { channel: user, name: None, class: Class::Hidden, data: Bytes::new(), memo: None, origin: None };
    Decided { draft, row: None }
}
