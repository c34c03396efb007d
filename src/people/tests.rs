//! The laws of users, for any intents in any order.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::event::{ChannelKind, Event, Seq, Timestamp};

const USERS_MAX: usize = 3;

/// A table with the journal that made it.
struct World {
    table: PeopleTable,
    journal: Vec<Event>,
    now: Timestamp,
}

impl World {
    fn decide(&mut self, user: &ChannelName, intent: &UserIntent) -> Result<UserChange, PeopleRefusal> {
        let known = self.table.get(&user.name()).cloned();
        let head = Seq(self.journal.len() as u64);
        let change = decide(user, known.as_deref(), intent, self.now, head, &self.table)?;
        let mut rewritten = None;
        for draft in &change.drafts {
            let seq = Seq(self.journal.len() as u64 + 1);
            if draft.channel == *user {
                rewritten = Some(seq);
            }
            self.journal.push(Event { seq, at: self.now, group: Uuid::nil(), draft: draft.clone() });
        }
        if let Some(seq) = rewritten {
            self.table.put(user, change.state.clone(), seq);
        }
        Ok(change)
    }

    fn replayed(&self) -> PeopleTable {
        let mut table = PeopleTable::new(USERS_MAX);
        for event in self.journal.iter().filter(|event| event.channel().kind() == ChannelKind::User) {
            table.apply(event).expect("it replays");
        }
        table
    }
}

fn any_intent() -> impl Strategy<Value = UserIntent> {
    let status = prop_oneof![Just(PresenceStatus::Connected), Just(PresenceStatus::Disconnected)];
    let time = (0i64..100_000).prop_map(Timestamp::from_millis);
    let groups = prop::collection::btree_set("[abc]", 0..3);
    let profile = Profile { name: "Alice".into(), email: "a@b".into() };
    let told = message(&ChannelName::topic("broadcast").expect("a name"), Bytes::new());
    let notification = Notification::new(NewNotification::default(), Timestamp::default());
    prop_oneof![
        3 => (status, time.clone()).prop_map(|(status, since)| UserIntent::Presence(status, since)),
        2 => (0u64..60).prop_map(|seq| UserIntent::Seen(Seq(seq))),
        2 => prop::option::of(0u64..60).prop_map(|seq| UserIntent::Read(seq.map(Seq))),
        4 => groups.prop_map(UserIntent::Join),
        2 => Just(UserIntent::Notify(notification)),
        1 => Just(UserIntent::Introduce(profile, told)),
        1 => time.prop_map(UserIntent::Forget),
    ]
}

proptest! {
    #[test]
    fn laws_hold(steps in prop::collection::vec((0u64..5_000, 0usize..5, any_intent()), 1..80)) {
        let mut world = World { table: PeopleTable::new(USERS_MAX), journal: Vec::new(), now: Timestamp::default() };
        let users = ["u0", "u1", "u2", "u3", "u4"].map(|user_id| ChannelName::user(user_id).expect("a name"));
        for (pass_ms, nth, intent) in steps {
            world.now = world.now + Duration::from_millis(pass_ms);
            let user = &users[nth];
            let before = world.table.get(&user.name()).cloned();
            let outcome = world.decide(user, &intent);
            let after = world.table.get(&user.name()).cloned();
            if outcome.is_err() {
                prop_assert_eq!(&before, &after, "a refusal changes nothing");
            }
            if let (Some(before), Some(after)) = (&before, &after) {
                prop_assert!(before.seen <= after.seen && before.read <= after.read, "a mark went back");
                prop_assert!(after.read <= after.seen, "what was read was seen");
                let stays = |group: &&String| after.groups.contains_key(*group);
                prop_assert!(before.groups.keys().filter(stays).all(|group| before.groups[group] == after.groups[group]));
            }
            prop_assert!(world.table.users() <= USERS_MAX, "there are too many users");
            for group in ["a", "b", "c"] {
                let members: BTreeSet<_> = world.table.members_after(group, None).cloned().collect();
                let of_states = world.table.after(None).filter(|(_, state)| state.groups.contains_key(group));
                prop_assert_eq!(members, of_states.map(|(user_id, _)| user_id.clone()).collect::<BTreeSet<_>>());
            }
        }
        let replayed = world.replayed();
        let all = |table: &PeopleTable| table.after(None).map(|(id, state)| (id.clone(), state.clone())).collect::<Vec<_>>();
        prop_assert_eq!(all(&replayed), all(&world.table), "what was decided is what a replay reads");
        let last = |table: &PeopleTable| users.each_ref().map(|user| table.last(user));
        prop_assert_eq!(last(&replayed), last(&world.table));
    }
}

#[test]
fn a_user_joins_so_many_groups_and_a_full_group_takes_nobody() {
    struct FullGroup(&'static str);
    impl Census for FullGroup {
        fn users(&self) -> usize {
            1
        }
        fn users_max(&self) -> usize {
            2
        }
        fn members(&self, group: &str) -> usize {
            MEMBERS_PER_GROUP_MAX - usize::from(group != self.0)
        }
    }
    let [ann, bob] = ["ann", "bob"].map(|user_id| ChannelName::user(user_id).expect("a name"));
    let mut world = World { table: PeopleTable::new(USERS_MAX), journal: Vec::new(), now: Timestamp::default() };
    let join = |groups: &[&str]| UserIntent::Join(groups.iter().map(|group| (*group).to_owned()).collect());
    let asked = |known: Option<&UserState>, groups: &[&str]| {
        decide(&bob, known, &join(groups), Timestamp::default(), Seq(7), &FullGroup("a"))
    };
    assert_eq!(asked(None, &["a", "b"]), Err(PeopleRefusal::GroupFull("a".into())));
    let member = asked(None, &["b"]).expect("there is one place").state;
    assert_eq!(member.as_ref().map(|bob| bob.groups.clone()), Some([("b".into(), Seq(7))].into()));
    let long_there = UserState { groups: [("a".into(), Seq(1))].into(), ..member.expect("bob") };
    let stays = asked(Some(&long_there), &["a"]).expect("a member needs no place").state;
    assert_eq!(stays.map(|bob| bob.groups), Some(long_there.groups));
    let most: Vec<_> = (0..GROUPS_PER_USER_MAX).map(|nth| format!("g{nth}")).collect();
    world.decide(&ann, &UserIntent::Join(most.into_iter().collect())).expect("so many groups");
    let many: Vec<_> = (0..=GROUPS_PER_USER_MAX).map(|nth| format!("g{nth}")).collect();
    let many = UserIntent::Join(many.into_iter().collect());
    assert_eq!(world.decide(&ann, &many), Err(PeopleRefusal::TooManyGroups));
}
