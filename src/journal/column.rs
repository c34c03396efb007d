//! What the stores in SQL make of the values in their columns, the same in both.

use super::Member;
use crate::event::{ChannelName, Class, Event, Seq};

/// What is in a column cannot have been written by any version.
pub(super) struct Damage(pub(super) String);

/// A seq as a signed integer. Seqs count up from one, so they never reach the sign.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// A limit as a signed integer.
pub(super) fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn seq(signed: i64) -> Result<Seq, Damage> {
    u64::try_from(signed).map(Seq).map_err(|_| Damage(format!("{signed} is not a seq")))
}

pub(super) fn class(code: i64) -> Result<Class, Damage> {
    Class::from_code(code).ok_or_else(|| Damage(format!("{code} is not a class of events")))
}

pub(super) fn channel(name: &str) -> Result<ChannelName, Damage> {
    ChannelName::stored(name).map_err(|_| Damage(format!("{name:?} is not a channel")))
}

/// Adds the next event of the log, which has no gap.
pub(super) fn push_next(events: &mut Vec<Event>, after: Seq, next: Event) -> Result<(), Damage> {
    let expected = events.last().map_or(after, |last| last.seq).next();
    if next.seq != expected {
        return Err(Damage(format!("event {expected} is missing from the log")));
    }
    events.push(next);
    Ok(())
}

/// The column of a member.
pub(super) fn of_member(member: Member) -> &'static str {
    match member {
        Member::Status => "status",
        Member::Kind => "kind",
        Member::UserId => "user_id",
        Member::Queue => "queue",
    }
}
