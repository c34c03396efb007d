//! Any requests, any foreign events, any faults, in any order: what is answered is so, and memory follows the journal.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{
    event::{ChannelKind, Class},
    journal::{Expect, Member},
    testing::LostAnswer,
};

/// One thing that happens to one of a few tasks.
#[derive(Clone, Debug)]
enum Act {
    Ask(u128, Asked),
    Foreign(u128, Asked),
    Lose(LostAnswer),
    Fail,
    HoldFold,
    FoldLate,
    Fold,
    /// Everybody is answered, and the service starts again.
    Restart,
    /// Everybody runs, and time passes.
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Create(Option<&'static str>),
    Report(u8),
    Complete,
    Cancel,
    Delete,
}

impl Asked {
    /// `message` tells the request from all others.
    fn intent(self, message: &str) -> Intent {
        match self {
            Self::Create(key) => {
                Intent::Create { new: new_task(r#"{"start":true,"total":100}"#), key: key.map(key_digest), lease: None }
            }
            Self::Report(progress) => reported(&format!(r#"{{"progress":{progress},"message":"{message}"}}"#)),
            Self::Complete => reported(&format!(r#"{{"status":"completed","message":"{message}"}}"#)),
            Self::Cancel => Intent::Cancel,
            Self::Delete => Intent::Delete,
        }
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    let asked = || {
        let asked = prop_oneof![
            3 => prop_oneof![Just(None), Just(Some("one")), Just(Some("two"))].prop_map(Asked::Create),
            6 => (0u8..100).prop_map(Asked::Report),
            2 => Just(Asked::Complete),
            1 => Just(Asked::Cancel),
            1 => Just(Asked::Delete),
        ];
        (1u128..4, asked)
    };
    let lost = prop_oneof![Just(LostAnswer::Committed), Just(LostAnswer::NotCommitted)];
    prop_oneof![
        10 => asked().prop_map(|(id, asked)| Act::Ask(id, asked)),
        4 => asked().prop_map(|(id, asked)| Act::Foreign(id, asked)),
        1 => lost.prop_map(Act::Lose),
        1 => Just(Act::Fail),
        1 => prop_oneof![Just(Act::HoldFold), Just(Act::FoldLate), Just(Act::Fold)],
        1 => Just(Act::Restart),
        4 => (0u64..20_000).prop_map(Act::Pass),
    ]
}

/// Another node decides upon what is in the journal, and commits at once; answers whether it did.
async fn foreign(rig: &Rig, id: Uuid, intent: &Intent) -> bool {
    let channel = ChannelName::task(id);
    let stored = rig.journal.last(&channel).await.unwrap();
    if stored.as_ref().is_some_and(|stored| stored.gone) {
        return false;
    }
    let expect = stored.as_ref().map_or(Expect::Absent, |stored| Expect::At(stored.last));
    let mut expects = vec![(channel, expect)];
    if let Intent::Create { key: Some(key), .. } = intent {
        expects.push((ChannelName::key(*key), Expect::Absent));
    }
    let entry = stored.map(|stored| reads::entry(&stored).unwrap());
    let now = rig.tracker.clock().now();
    let decision = decide(id, entry.as_ref(), intent, now, &POLICY);
    let drafts = drafts(decision.unwrap_or_default());
    !drafts.is_empty() && rig.journal.foreign(Group { id: Uuid::now_v7(), at: now, expects, drafts }).await
}

/// What was asked of which task and answered how, by the message of the request.
type Answers = HashMap<String, (Uuid, Asked, Result<Answer, TrackerError>)>;

/// The tracker at the end, and what was answered.
async fn run(store: Store, acts: Vec<Act>) -> (Rig, Answers) {
    let mut rig = Rig::start(store).await;
    let (mut callers, mut answers) = (JoinSet::new(), Answers::new());
    for (nth, act) in acts.into_iter().enumerate() {
        let message = format!("message-{nth}.");
        match act {
            Act::Ask(id, asked) => {
                let (tracker, id) = (rig.tracker.clone(), Uuid::from_u128(id));
                callers.spawn(async move {
                    let answer = match asked {
                        Asked::Create(key) => tracker.create(id, new_task(r#"{"start":true,"total":100}"#), key).await,
                        _ => tracker.submit(id, asked.intent(&message)).await,
                    };
                    (message, (id, asked, answer))
                });
            }
            Act::Foreign(id, asked) => {
                foreign(&rig, Uuid::from_u128(id), &asked.intent("theirs")).await;
            }
            Act::Lose(lost) => rig.journal.lose_next_answer(lost),
            Act::Fail => rig.journal.fail_next_append(JournalError::Full),
            Act::HoldFold => rig.journal.hold_fold(),
            Act::FoldLate => rig.journal.fold_late(),
            Act::Fold => rig.journal.fold().await,
            Act::Restart => {
                answers.extend(std::mem::take(&mut callers).join_all().await);
                rig = rig.restarted().await;
            }
            Act::Pass(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }
    answers.extend(callers.join_all().await);
    // What was to go wrong with the next append does so now; the last one brings all that is in the journal.
    while rig.tracker.create(Uuid::now_v7(), NewTask::default(), None).await.is_err() {}
    rig.tracker.create(Uuid::now_v7(), NewTask::default(), None).await.unwrap();
    (rig, answers)
}

async fn check_counts(rig: &Rig) -> Result<(), TestCaseError> {
    let counted = rig.journal.count(ChannelKind::Task, Member::Status).await.unwrap().values;
    let counts = Status::ALL.iter().map(ToString::to_string).zip(rig.tracker.counts());
    let counts: HashMap<_, _> = counts.filter(|(_, count)| *count > 0).collect();
    prop_assert_eq!(counts, counted.into_iter().collect(), "the counts do not follow the journal");
    Ok(())
}

async fn check(rig: &Rig, answers: &Answers) -> Result<(), TestCaseError> {
    let events = rig.events().await;
    let mut table = Table::new(POLICY);
    events.iter().for_each(|event| drop(table.apply(event).unwrap()));
    for id in (1..4).map(Uuid::from_u128) {
        let channel = ChannelName::task(id);
        let classes: Vec<Class> = events.iter().filter(|event| *event.channel() == channel).map(Event::class).collect();
        let after_end = classes.iter().skip_while(|class| **class != Class::Final).skip(1);
        prop_assert!(after_end.clone().all(|class| *class == Class::Tombstone), "after the end: {:?}", classes);
        prop_assert!(after_end.count() <= 1, "deleted twice: {:?}", classes);
        let born = events.iter().filter(|event| *event.channel() == channel && event.draft.origin.is_some()).count();
        prop_assert_eq!(born, usize::from(!classes.is_empty()), "made twice");
        match rig.tracker.find(id).await.unwrap() {
            Found::Task(entry) => prop_assert_eq!(Some(&entry), table.get(id), "memory does not follow the journal"),
            Found::Gone => prop_assert_eq!(table.row(&channel), Some(&Row::Gone)),
            Found::Unknown => prop_assert!(classes.is_empty()),
        }
    }
    for (message, (id, asked, answer)) in answers {
        match answer {
            Ok(answer) => check_is_kept(rig, &events, *id, *asked, message, answer).await?,
            Err(TrackerError::Refused(_) | TrackerError::Full) => {
                prop_assert!(!is_written(&events, message), "{} was answered {:?}", message, answer);
            }
            // Every task is met by few others, and the store answers before long.
            Err(error) => return Err(TestCaseError::fail(format!("{message} was answered {error}"))),
        }
    }
    Ok(())
}

fn is_written<'a>(events: impl IntoIterator<Item = &'a Event>, message: &str) -> bool {
    let needle = message.as_bytes();
    events.into_iter().any(|event| event.draft.data.windows(needle.len()).any(|window| window == needle))
}

/// What was acknowledged is in the journal: the state that was told, and what the request has changed.
async fn check_is_kept(
    rig: &Rig,
    events: &[Event],
    id: Uuid,
    asked: Asked,
    message: &str,
    answer: &Answer,
) -> Result<(), TestCaseError> {
    let at = |seq: Seq| events.iter().find(|event| event.seq == seq);
    let task_of = |event: &Event| serde_json::from_slice::<crate::task::Task>(&event.draft.data).ok();
    if let Some(entry) = &answer.entry {
        let told = at(entry.visible).filter(|event| *event.channel() == ChannelName::task(entry.task.task_id));
        prop_assert_eq!(told.and_then(task_of), Some(entry.task.clone()), "{} was told what is not there", message);
    }
    if !answer.changed {
        return Ok(());
    }
    let channel = ChannelName::task(id);
    let stored = rig.journal.last(&channel).await.unwrap();
    let through = stored.map_or(Seq::ZERO, |stored| stored.last).min(answer.seq);
    let ours: Vec<_> = events.iter().filter(|event| event.seq <= through && *event.channel() == channel).collect();
    let of_class = |class: Class| ours.iter().filter(|event| event.class() == class).copied().collect::<Vec<_>>();
    let is_kept = match asked {
        Asked::Create(_) => ours.iter().any(|event| event.draft.origin.is_some()),
        // The ticks of one batch are one, with the last message.
        Asked::Report(progress) => {
            let reached = |event: &&Event| task_of(event).unwrap().progress >= Some(f64::from(progress));
            is_written(ours.iter().copied(), message) || of_class(Class::Tick).iter().any(reached)
        }
        Asked::Complete => is_written(of_class(Class::Final), message),
        Asked::Cancel => ours
            .iter()
            .filter_map(|event| task_of(event))
            .any(|task| matches!(task.status, Status::Cancelling | Status::Cancelled)),
        Asked::Delete => !of_class(Class::Tombstone).is_empty(),
    };
    prop_assert!(
        is_kept,
        "{:?} with {} was acknowledged at {} and is not kept: {:?}",
        asked,
        message,
        answer.seq,
        ours
    );
    Ok(())
}

fn whatever_happens_answers_are_true_and_memory_follows(store: Store) {
    any_acts(store, any_act(), async |acts| {
        let (rig, answers) = run(store, acts).await;
        check(&rig, &answers).await?;
        check_counts(&rig).await?;
        // What was acknowledged is in the store, not only in what has it open.
        check(&rig.restarted().await, &answers).await
    });
}

on_each_store! {
    any {
        whatever_happens_answers_are_true_and_memory_follows,
    }
}
