//! A member's stream against a plain oracle, over joins, leaves and cuts: nothing is passed, nothing is shown twice, and
//! nothing that was sent before joining or after leaving is shown.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::{
    event::{Class, Cursor},
    people::{NewNotification, UserIntent},
};

#[derive(Clone, Debug)]
enum Act {
    /// She is a member of these groups now.
    Join(BTreeSet<String>),
    /// One message to each of these, side by side; the empty name is her inbox.
    Send(Vec<String>),
    /// The client takes at most one event, if there is one at once.
    Poll,
    /// The client takes all that comes.
    Read,
    /// The connection is cut; the client comes back with its cursor, if it has one.
    Cut,
}

fn any_act() -> impl Strategy<Value = Act> {
    let groups = prop::collection::btree_set("[abc]", 0..4);
    prop_oneof![
        4 => groups.prop_map(Act::Join),
        6 => prop::collection::vec("[abc]?", 1..5).prop_map(Act::Send),
        4 => Just(Act::Poll),
        1 => Just(Act::Read),
        2 => Just(Act::Cut),
    ]
}

struct Client {
    rig: Rig,
    watcher: MemberWatcher,
    cursor: Option<Seq>,
    shown: BTreeSet<Seq>,
}

fn ann() -> ChannelName {
    ChannelName::user("ann").unwrap()
}

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn connect(rig: &Rig, cursor: Option<Seq>) -> MemberWatcher {
    let cursor = cursor.map(|seq| Cursor { seq, ..rig.tracker.cursor(seq) });
    let resume = cursor.map_or(Resume::First, Resume::After);
    let (joined, watcher) = rig.tracker.watch_several(&[], &[ann()], None, resume).await.unwrap();
    assert!(joined.channels.iter().all(|(_, join)| !join.is_reset()), "{joined:?}");
    watcher
}

impl Client {
    async fn new(store: Store) -> Self {
        let rig = Rig::start(store).await;
        // Somebody else keeps the groups alive.
        let bob = ChannelName::user("bob").unwrap();
        rig.tracker.ask_user(&bob, UserIntent::Join(groups(&["a", "b", "c"]))).await.unwrap();
        rig.tracker.ask_user(&ann(), UserIntent::Join(groups(&["a"]))).await.unwrap();
        let watcher = connect(&rig, None).await;
        Self { rig, watcher, cursor: None, shown: BTreeSet::new() }
    }

    async fn send(&self, names: &[String]) {
        let sends = names.iter().map(async |name| {
            let new = NewNotification { title: "t".into(), ..NewNotification::default() };
            match ChannelName::group(name) {
                Ok(group) => self.rig.tracker.notify_group(&group, new).await.unwrap(),
                Err(_) => self.rig.tracker.notify(&ann(), new).await.unwrap(),
            }
        });
        futures_util::future::join_all(sends).await;
    }

    /// The messages that are hers by the groups of now: after which seq on each channel.
    fn hers(&self) -> BTreeMap<ChannelName, Seq> {
        let state = self.rig.tracker.user("ann").unwrap();
        let groups = state.groups.iter().map(|(group, joined)| (ChannelName::group(group).unwrap(), *joined));
        groups.chain([(ChannelName::inbox("ann").unwrap(), Seq::ZERO)]).collect()
    }

    async fn take(&mut self, delivery: Delivery) {
        let Delivery::Frame(frame) = delivery else { panic!("{delivery:?}") };
        let seq = frame.seq();
        assert!(self.cursor.is_none_or(|cursor| seq > cursor), "{seq} after {:?}", self.cursor);
        assert!(self.shown.insert(seq), "{seq} twice");
        assert!(self.was_hers(frame.event()).await, "{seq} was never hers");
        self.cursor = Some(seq);
        self.check_nothing_is_passed(seq).await;
    }

    /// Whether she was a member when it was sent.
    async fn was_hers(&self, message: &Event) -> bool {
        let mut is_hers = message.channel().kind() == crate::event::ChannelKind::Inbox;
        for event in self.rig.events().await.iter().filter(|event| *event.channel() == ann() && event.seq < message.seq)
        {
            let state = crate::people::UserState::from_memo(event.draft.memo.as_ref().unwrap()).unwrap();
            is_hers |= state.groups.contains_key(&*message.channel().name());
        }
        is_hers
    }

    async fn check_nothing_is_passed(&self, through: Seq) {
        let hers = self.hers();
        for event in self.rig.events().await.iter().filter(|event| event.class() == Class::Notice) {
            let is_hers = hers.get(event.channel()).is_some_and(|joined| event.seq > *joined);
            assert!(!is_hers || event.seq > through || self.shown.contains(&event.seq), "{} is passed", event.seq);
        }
    }

    async fn read(&mut self) {
        while let Ok(delivery) = tokio::time::timeout(Duration::from_millis(100), self.watcher.next()).await {
            self.take(delivery).await;
        }
    }
}

async fn run(store: Store, acts: Vec<Act>) {
    let mut client = Client::new(store).await;
    for act in acts {
        match act {
            Act::Join(groups) => drop(client.rig.tracker.ask_user(&ann(), UserIntent::Join(groups)).await.unwrap()),
            Act::Send(names) => client.send(&names).await,
            Act::Poll => {
                if let Some(delivery) = client.watcher.next().now_or_never() {
                    client.take(delivery).await;
                }
            }
            Act::Read => client.read().await,
            Act::Cut => client.watcher = connect(&client.rig, client.cursor).await,
        }
    }
    client.read().await;
    client.check_nothing_is_passed(Seq(u64::MAX)).await;
}

fn a_stream_follows_its_member(store: Store) {
    any_acts(store, any_act(), async |acts| {
        run(store, acts).await;
        Ok(())
    });
}

on_each_store! {
    any {
        a_stream_follows_its_member,
    }
}
