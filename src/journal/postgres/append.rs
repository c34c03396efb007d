//! An append on its way to the database and back: groups as the arrays of `progressd.append` (append.sql), its rows as
//! outcomes and events.

use std::mem;

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    error::DatabaseError,
    record::{self, signed},
};
use crate::{
    event::{Epoch, Event, HistoryBounds, Seq},
    journal::{Expect, Group, Members, Outcome, column::at_most},
};

/// See append.sql.
pub(super) const APPEND: &str = "SELECT * FROM progressd.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
     $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)";

/// The longest member that is kept for lists: an index cannot have much longer values, and names are shorter.
const MEMBER_BYTES_MAX: usize = 512;

/// Bytes of others' events in the answer to an append. A connection takes so many before anybody reads them, so that the lock
/// of the log waits for no node.
const ANSWER_MAX: i64 = 32 * 1024;

/// Groups, a column each.
pub(super) struct Columns<'a> {
    known_head: i64,
    epoch: String,
    log_max: i64,
    group_ids: Vec<Uuid>,
    group_ats: Vec<i64>,
    expect_groups: Vec<i32>,
    expect_channels: Vec<String>,
    expect_seqs: Vec<Option<i64>>,
    draft_groups: Vec<i32>,
    channels: Vec<String>,
    channel_kinds: Vec<&'a str>,
    bounds: Vec<i64>,
    classes: Vec<i16>,
    names: Vec<Option<&'a str>>,
    datas: Vec<&'a [u8]>,
    memos: Vec<Option<&'a [u8]>>,
    origins: Vec<Option<&'a [u8]>>,
    members: [Vec<Option<String>>; 4],
    bytes_max: i64,
}

impl<'a> Columns<'a> {
    pub(super) fn new(
        known_head: Seq,
        epoch: Epoch,
        log_max: usize,
        history: HistoryBounds,
        groups: &'a [Group],
    ) -> Self {
        let mut columns = Self {
            known_head: signed(known_head),
            epoch: epoch.to_string(),
            log_max: at_most(log_max),
            group_ids: groups.iter().map(|group| group.id).collect(),
            group_ats: groups.iter().map(|group| group.at.as_millis()).collect(),
            expect_groups: Vec::new(),
            expect_channels: Vec::new(),
            expect_seqs: Vec::new(),
            draft_groups: Vec::new(),
            channels: Vec::new(),
            channel_kinds: Vec::new(),
            bounds: Vec::new(),
            classes: Vec::new(),
            names: Vec::new(),
            datas: Vec::new(),
            memos: Vec::new(),
            origins: Vec::new(),
            members: Default::default(),
            bytes_max: i64::try_from(history.bytes()).unwrap_or(i64::MAX),
        };
        for (place, group) in (1..).zip(groups) {
            columns.add(place, group, history);
        }
        columns
    }

    fn add(&mut self, place: i32, group: &'a Group, history: HistoryBounds) {
        for (channel, expect) in &group.expects {
            self.expect_groups.push(place);
            self.expect_channels.push(channel.to_string());
            self.expect_seqs.push(match expect {
                Expect::At(seq) => Some(signed(*seq)),
                Expect::Absent => None,
            });
        }
        for draft in &group.drafts {
            self.draft_groups.push(place);
            self.channels.push(draft.channel.to_string());
            self.channel_kinds.push(draft.channel.kind_word());
            self.bounds.push(i64::try_from(history.of(draft.channel.kind()).events).unwrap_or(i64::MAX));
            self.classes.push(draft.class.code().into());
            self.names.push(draft.name.as_deref());
            self.datas.push(&draft.data);
            self.memos.push(draft.memo.as_deref());
            self.origins.push(draft.origin.as_deref());
            let Members { status, kind, user_id, queue } = Members::of(draft);
            let members = [status, kind, user_id, queue];
            self.members
                .iter_mut()
                .zip(members)
                .for_each(|(column, member)| column.push(member.filter(|member| is_listable(member))));
        }
    }

    /// The values of [`APPEND`].
    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 23] {
        let [statuses, kinds, user_ids, queues] = &self.members;
        [
            &self.known_head,
            &self.epoch,
            &self.log_max,
            &self.group_ids,
            &self.group_ats,
            &self.expect_groups,
            &self.expect_channels,
            &self.expect_seqs,
            &self.draft_groups,
            &self.channels,
            &self.channel_kinds,
            &self.bounds,
            &self.classes,
            &self.names,
            &self.datas,
            &self.memos,
            &self.origins,
            statuses,
            kinds,
            user_ids,
            queues,
            &self.bytes_max,
            &ANSWER_MAX,
        ]
    }
}

/// Whether a column of text can have it, and an index. Channels with another member are not found by it.
pub(super) fn is_listable(member: &str) -> bool {
    member.len() <= MEMBER_BYTES_MAX && !member.contains('\0')
}

/// What `progressd.append` answers.
pub(super) struct AppendAnswer {
    pub(super) outcomes: Vec<Outcome>,
    /// The first events of others.
    pub(super) others: Vec<Event>,
    /// The last of others, in the answer or not.
    pub(super) others_through: Seq,
    /// The events of the groups, after all others.
    pub(super) placed: Vec<Event>,
}

/// Reads it. Events of the groups are not among its rows, since they are known.
pub(super) fn answer(mut groups: Vec<Group>, rows: &[Row]) -> Result<AppendAnswer, DatabaseError> {
    let (placed, others) = rows.split_at_checked(groups.len()).ok_or_else(misunderstood)?;
    let others = others.iter().map(|row| record::event(row, 1)).collect::<Result<Vec<_>, _>>()?;
    let others_through = record::seq_at(placed.first().ok_or_else(misunderstood)?, 2)?;
    let (mut outcomes, mut events) = (Vec::with_capacity(placed.len()), Vec::new());
    for (group, row) in groups.iter_mut().zip(placed) {
        if record::value_at::<Option<&str>>(row, 4)?.is_some() {
            outcomes.push(Outcome::Conflict(record::channel_at(row, 4)?));
            continue;
        }
        outcomes.push(Outcome::Committed);
        if record::value_at::<Option<i64>>(row, 1)?.is_some() {
            let first = record::seq_at(row, 1)?.0;
            let drafts = mem::take(&mut group.drafts);
            let place = |(seq, draft)| Event { seq: Seq(seq), at: group.at, group: group.id, draft };
            events.extend((first..).zip(drafts).map(place));
        }
    }
    Ok(AppendAnswer { outcomes, others, others_through, placed: events })
}

fn misunderstood() -> DatabaseError {
    DatabaseError::Damaged("an append was answered with too few rows".into())
}
