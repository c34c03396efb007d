//! Watching through the tracker: what the journal holds and what is happening, as one.

use super::*;
use crate::channel::WatchError;

async fn who_resumes_gets_what_it_missed_from_the_journal(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    for nth in [10, 20, 30] {
        rig.report(id, &format!(r#"{{"progress":{nth}}}"#)).await.unwrap();
    }
    let (join, mut resumed) = rig.watch(id, Resume::After(rig.tracker.cursor(Seq(1)))).await;
    assert!(matches!(join, Join::Resumed), "{join:?}");
    assert_eq!(shown(&mut resumed).0, [Some(30.0)], "of the ticks the latest");
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    let (progress, end) = shown(&mut resumed);
    assert_eq!(progress, [Some(100.0)]);
    assert!(matches!(end, Some(Delivery::Ended { .. })));

    let (join, _) = rig.watch(id, Resume::After(rig.tracker.cursor(Seq(5)))).await;
    assert!(matches!(join, Join::Ended), "{join:?}");
    let (join, mut first) = rig.watch(id, Resume::First).await;
    assert!(matches!(&join, Join::First(Some(state)) if state.seq() == Seq(5)), "{join:?}");
    assert!(matches!(shown(&mut first), (progress, Some(Delivery::Ended { .. })) if progress.is_empty()));
}

async fn a_cursor_that_another_node_gave_is_not_from_the_future(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    rig.journal.foreign(rig.foreign(id, &reported(r#"{"progress":40}"#)).await).await;
    assert_eq!(rig.tracker.head(), Seq(1));
    let at = |seq| Resume::After(rig.tracker.cursor(Seq(seq)));
    let (join, _) = rig.watch(id, at(3)).await;
    assert!(matches!(join, Join::Reset(_)), "the store has not got there: {join:?}");
    let (join, mut resumed) = rig.watch(id, at(2)).await;
    assert!(matches!(join, Join::Resumed), "{join:?}");
    rig.report(id, r#"{"progress":50}"#).await.unwrap();
    assert_eq!(shown(&mut resumed).0, [Some(50.0)], "not what it has seen already");
}

async fn who_has_seen_the_end_elsewhere_is_not_kept_waiting(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let (_, _local) = rig.watch(id, Resume::First).await;
    rig.journal.foreign(rig.foreign(id, &reported(r#"{"status":"completed"}"#)).await).await;
    let (_, mut returning) = rig.watch(id, Resume::After(rig.tracker.cursor(Seq(2)))).await;
    rig.started().await;
    assert!(matches!(shown(&mut returning), (progress, Some(Delivery::Ended { .. })) if progress.is_empty()));
}

async fn what_the_journal_trimmed_leads_to_a_reset(store: Store) {
    let rig = Rig::on(store.bounded(2, 100)).await;
    let id = rig.made(r#"{"start":true,"steps":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"}]}"#).await;
    for nth in 1..4 {
        rig.report(id, &format!(r#"{{"step":{nth}}}"#)).await.unwrap();
    }
    // 1 and 2 are trimmed; 3 and 4 are kept.
    for (seq, resumes) in [(1, false), (2, true), (3, true)] {
        let (join, _) = rig.watch(id, Resume::After(rig.tracker.cursor(Seq(seq)))).await;
        assert_eq!(matches!(join, Join::Resumed), resumes, "{seq}: {join:?}");
    }
}

async fn a_deleted_task_ends_its_streams(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    rig.tracker.submit(id, Intent::Delete).await.unwrap();
    assert_eq!(shown(&mut watcher).0, [Some(100.0)]);
}

/// It was found a moment ago, and deleted before its channel was joined.
async fn a_task_that_is_deleted_meanwhile_is_gone_for_its_watcher(store: Store) {
    let rig = Rig::start(store).await;
    let (id, other) = (rig.started().await, rig.started().await);
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    rig.tracker.submit(id, Intent::Delete).await.unwrap();
    let channels = [ChannelName::task(other), ChannelName::task(id)];
    for resume in [Resume::First, Resume::Unreadable, Resume::After(rig.tracker.cursor(Seq(1)))] {
        let one = rig.tracker.watch(&channels[1], resume).await.map(drop);
        let several = rig.tracker.watch_several(&channels, &[], None, resume).await.map(drop);
        for opened in [one, several] {
            assert_eq!(opened, Err(WatchError::Load(TrackerError::Refused(Refusal::Gone))), "{resume:?}");
        }
    }
    assert_eq!((rig.tracker.streams(), rig.tracker.shared.registry.channels()), (0, 0));
}

async fn a_watcher_of_a_store_that_is_away_hears_the_error_and_holds_no_place(store: Store) {
    let rig = Rig::start(store).await;
    let id = rig.started().await;
    rig.journal.close().await.unwrap();
    let opened = rig.tracker.watch(&ChannelName::task(id), Resume::First).await;
    assert!(matches!(opened, Err(WatchError::Load(TrackerError::Unavailable(_)))));
    assert_eq!((rig.tracker.streams(), rig.tracker.shared.registry.channels()), (0, 0));
}

/// Watchers join at any moment while reports are made; each sees progress rise to the end without a change missing.
async fn watchers_that_join_while_reports_are_made_see_every_step(store: Store) {
    let rig = Rig::start(store).await;
    let steps: Vec<String> = (0..20).map(|nth| format!(r#"{{"name":"s{nth}"}}"#)).collect();
    let id = rig.made(&format!(r#"{{"start":true,"steps":[{}]}}"#, steps.join(","))).await;
    let mut watchers = JoinSet::new();
    for nth in 0..20 {
        let tracker = rig.tracker.clone();
        watchers.spawn(async move {
            let (join, mut watcher) = tracker.watch(&ChannelName::task(id), Resume::First).await.unwrap();
            let step = |frame: &crate::wire::Frame| {
                let task: crate::task::Task = serde_json::from_slice(&frame.event().draft.data).unwrap();
                task.step.unwrap()
            };
            let Join::First(Some(state)) = join else { panic!("{join:?}") };
            let mut seen = vec![step(&state)];
            while let Delivery::Frame(frame) = watcher.next().await {
                seen.push(step(&frame));
            }
            seen.dedup();
            seen
        });
        if nth > 0 {
            rig.report(id, &format!(r#"{{"step":{nth}}}"#)).await.unwrap();
            rig.report(id, r#"{"stepProgress":50}"#).await.unwrap();
        }
    }
    rig.report(id, r#"{"status":"completed"}"#).await.unwrap();
    for seen in watchers.join_all().await {
        assert_eq!(seen, (seen[0]..20).collect::<Vec<_>>());
    }
}

async fn counts_that_were_shown_for_a_moment_are_corrected(store: Store) {
    let rig = Rig::start(store).await;
    let watch = async || rig.tracker.watch_list(TaskFilter::default(), Resume::First).await.unwrap().1;
    let _first = watch().await;
    rig.made("{}").await;
    // These counts are sent; the next follow a second later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = rig.tracker.counts();
    let finished = rig.finished().await;
    let mut watcher = watch().await;
    assert_ne!(rig.tracker.counts(), before, "its page says so");
    rig.tracker.submit(finished, Intent::Delete).await.unwrap();
    assert_eq!(rig.tracker.counts(), before);
    let mut told = String::new();
    while !told.contains(&format!("event: counts\ndata: {}", counts_json(&before))) {
        let next = std::future::poll_fn(|context| crate::channel::Watch::poll_next(&mut watcher, context));
        let next = tokio::time::timeout(Duration::from_secs(10), next).await.expect("it is told");
        let Delivery::Bytes(bytes) = next else { panic!("{next:?}") };
        told.push_str(&String::from_utf8_lossy(&bytes));
    }
}

async fn a_tick_that_is_held_comes_by_itself(store: Store) {
    let interval = Duration::from_millis(50);
    let rig = Rig::paced(POLICY, store.open(), 4_096, Clock::runtime(), interval).await;
    let id = rig.started().await;
    let (_, mut watcher) = rig.watch(id, Resume::First).await;
    rig.report(id, r#"{"progress":10}"#).await.unwrap();
    assert_eq!(shown(&mut watcher).0, [Some(10.0)]);
    rig.report(id, r#"{"progress":20}"#).await.unwrap();
    assert_eq!(shown(&mut watcher).0, []);
    let held = tokio::time::timeout(interval * 2, watcher.next()).await;
    assert!(matches!(&held, Ok(Delivery::Frame(frame)) if frame.class() == crate::event::Class::Tick), "{held:?}");
}

on_each_store! {
    running {
        who_resumes_gets_what_it_missed_from_the_journal,
        a_cursor_that_another_node_gave_is_not_from_the_future,
        who_has_seen_the_end_elsewhere_is_not_kept_waiting,
        what_the_journal_trimmed_leads_to_a_reset,
        a_deleted_task_ends_its_streams,
        a_task_that_is_deleted_meanwhile_is_gone_for_its_watcher,
        a_watcher_of_a_store_that_is_away_hears_the_error_and_holds_no_place,
        watchers_that_join_while_reports_are_made_see_every_step,
    }
    paused {
        a_tick_that_is_held_comes_by_itself,
        counts_that_were_shown_for_a_moment_are_corrected,
    }
}
