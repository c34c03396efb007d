//! The nodes that share a store, and the lease of each, by which the others know that it lives. Pure, like the task table.
//!
//! A lease is the memo of the node's channel, renewed by hidden events. The tombstone of the channel says that the node is
//! gone: by itself when it stops, or because another one saw that its lease had run out. What counts for nobody any more is
//! what a node that has no lease here said or held. Nothing else is decided here, and an embedded store has no nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::{ChannelKind, ChannelName, Class, Draft, Event, Seq, Timestamp};

/// How long a node counts as living after it last said so.
pub const NODE_LEASE: Duration = Duration::from_secs(10);

/// That a node lives, in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLease {
    /// Its life: another one with each start, and after it was declared dead.
    pub life: Uuid,
    /// When this life began.
    pub since: Timestamp,
    /// When it ends, unless renewed.
    pub until: Timestamp,
}

impl NodeLease {
    /// The hidden event that gives a node this lease.
    pub fn draft(&self, node: ChannelName) -> Draft {
        // Two times and an id always have a JSON text.
        let memo = Some(serde_json::to_vec(self).unwrap_or_default().into());
        Draft { channel: node, name: None, class: Class::Hidden, data: Bytes::new(), memo, origin: None }
    }
}

/// The nodes that have a lease, run out or not.
#[derive(Debug, Default)]
pub struct NodeTable {
    nodes: BTreeMap<Arc<str>, NodeSlot>,
}

#[derive(Debug)]
struct NodeSlot {
    /// `None` when this version cannot read it: that node is left alone.
    lease: Option<NodeLease>,
    /// The last event of the node's channel.
    last: Seq,
}

impl NodeTable {
    /// Follows an event, of whatever channel.
    pub fn apply(&mut self, event: &Event) {
        let node = event.channel();
        match (node.kind(), event.class(), &event.draft.memo) {
            (ChannelKind::Node, Class::Tombstone, _) => drop(self.nodes.remove(&*node.name())),
            (ChannelKind::Node, _, Some(memo)) => self.restore(node, memo, event.seq),
            _ => {}
        }
    }

    /// Puts in what the store keeps of a node.
    pub fn restore(&mut self, node: &ChannelName, memo: &[u8], last: Seq) {
        let lease = serde_json::from_slice(memo).ok();
        self.nodes.insert(node.name().into(), NodeSlot { lease, last });
    }

    /// Whether a node has a lease. It may have run out: until somebody has declared the node dead, what it holds is its.
    pub fn has(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// The lease of a node.
    pub fn lease(&self, node: &str) -> Option<&NodeLease> {
        self.nodes.get(node)?.lease.as_ref()
    }

    /// The names of all that have a lease.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.keys()
    }

    /// The nodes that live at this time, that which has lived the longest first.
    pub fn living(&self, now: Timestamp) -> Vec<&Arc<str>> {
        let lives = self.nodes.iter().filter_map(|(name, slot)| Some((slot.lease.as_ref()?, name)));
        let mut living: Vec<_> = lives.filter(|(lease, _)| lease.until > now).collect();
        living.sort_by_key(|(lease, name)| (lease.since, Arc::clone(name)));
        living.into_iter().map(|(_, name)| name).collect()
    }

    /// How many living nodes are before this one, for what only the first is to do at once. One that does not live comes
    /// last.
    pub fn rank(&self, node: &str, now: Timestamp) -> u32 {
        let living = self.living(now);
        let place = living.iter().position(|name| ***name == *node).unwrap_or(living.len());
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Which node is to take what any of them may take, as this one sees it at this time.
    pub fn turns(&self, node: &str, now: Timestamp) -> Turns {
        let living = self.living(now);
        Turns { place: living.iter().position(|name| ***name == *node), nodes: living.len() }
    }

    /// The nodes whose lease has run out at this time, each with the last event of its channel.
    pub fn lapsed(&self, now: Timestamp) -> Vec<(Arc<str>, Seq)> {
        let is_lapsed = |slot: &NodeSlot| slot.lease.as_ref().is_some_and(|lease| lease.until <= now);
        let lapsed = self.nodes.iter().filter(|(_, slot)| is_lapsed(slot));
        lapsed.map(|(name, slot)| (Arc::clone(name), slot.last)).collect()
    }
}

/// The order in which nodes may take a task that waits for any of them: another one for each task, and the same as all
/// nodes see it, so that they seldom race for one.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// The place of this node among those that live, if it does.
    place: Option<usize>,
    nodes: usize,
}

impl Turns {
    /// Where there is one node only.
    pub const ALONE: Self = Self { place: Some(0), nodes: 1 };

    /// How many nodes come before this one. One that does not live comes last.
    pub fn before(self, task: Uuid) -> u32 {
        let first = task.as_u128().checked_rem(self.nodes as u128).unwrap_or_default() as usize;
        let before = self.place.map_or(self.nodes, |place| (place + self.nodes - first) % self.nodes);
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn event(seq: u64, draft: Draft) -> Event {
        Event { seq: Seq(seq), at: at(0), group: Uuid::nil(), draft }
    }

    #[test]
    fn who_has_lived_the_longest_is_first_until_its_lease_has_run_out() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ChannelName::node(name).unwrap());
        let lease = |since, until| NodeLease { life: Uuid::nil(), since: at(since), until: at(until) };
        let mut table = NodeTable::default();
        for (seq, node, lease) in [(1, &a, lease(5, 100)), (2, &b, lease(1, 50)), (3, &c, lease(5, 70))] {
            table.apply(&event(seq, lease.draft(node.clone())));
        }
        let unreadable = Draft { memo: Some("{}".into()), ..lease(0, 0).draft(ChannelName::node("new").unwrap()) };
        table.apply(&event(4, unreadable));
        assert_eq!(["a", "b", "c", "new"].map(|name| table.rank(name, at(10))), [1, 0, 2, 3]);
        assert_eq!(table.lapsed(at(49)), []);
        assert_eq!(table.lapsed(at(50)), [("b".into(), Seq(2))]);
        assert_eq!(["a", "c", "b"].map(|name| table.rank(name, at(50))), [0, 1, 2]);
        // Each task has another first node, and those that do not live are the last.
        let before = |name, task| table.turns(name, at(10)).before(Uuid::from_u128(task));
        assert_eq!(
            [6, 7, 8].map(|task| ["b", "a", "c"].map(|name| before(name, task))),
            [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
        );
        assert_eq!((before("new", 6), Turns::ALONE.before(Uuid::max())), (3, 0));
        assert_eq!(NodeTable::default().turns("a", at(10)).before(Uuid::max()), 0);
        assert!(table.has("b") && table.has("new"), "nobody has declared them dead");
        let gone = Draft { class: Class::Tombstone, memo: None, ..lease(0, 0).draft(b) };
        table.apply(&event(5, gone));
        assert!(!table.has("b"));
    }
}
