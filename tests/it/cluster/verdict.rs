//! What everybody was told and shown, compared with the log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use progressd::{
    event::{ChannelKind, Class, Event, Seq},
    journal::{
        Journal, JournalError, Tail,
        postgres::{PostgresJournal, PostgresOptions},
    },
};
use tokio_util::sync::CancellationToken;

use super::load::{Mark, Watched};

/// How often the log is read, which is trimmed.
const INTERVAL: Duration = Duration::from_millis(100);
const PAGE: usize = 10_000;

/// What the log has of a task, in order: place, whether it is a tick, mark.
type Truth = HashMap<String, Vec<(u64, bool, Mark)>>;

/// Reads the log until it is told to stop, and then to its end.
pub(super) async fn read_log(url: String, stop: CancellationToken) -> Truth {
    let (mut truth, mut head) = (Truth::new(), Seq::ZERO);
    let journal = PostgresJournal::open(&url, &PostgresOptions::default()).await.expect("the store");
    loop {
        let is_last = stop.is_cancelled();
        match journal.tail(head, PAGE).await {
            Ok(Tail::Events(events)) if events.is_empty() && is_last => return truth,
            Ok(Tail::Events(events)) => {
                head = events.last().map_or(head, |event| event.seq);
                events.iter().for_each(|event| note(&mut truth, event));
            }
            Ok(Tail::Lapsed) => panic!("the log was trimmed before it was read"),
            // The database is away.
            Err(JournalError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        if !is_last {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn note(truth: &mut Truth, event: &Event) {
    if event.channel().kind() == ChannelKind::Task && event.draft.class.is_visible() {
        let id = event.channel().to_string().rsplit(':').next().unwrap_or_default().to_owned();
        let entry = (event.seq.0, event.draft.class == Class::Tick, Mark::of(&event.draft.data).0);
        truth.entry(id).or_default().push(entry);
    }
}

/// What is not as it was promised.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Acknowledged, and not in the log.
    pub(super) lost: Vec<String>,
    /// In the log, or shown to a watcher, more than once.
    pub(super) duplicates: Vec<String>,
    /// Not shown to a watcher, or shown and not in the log.
    pub(super) gaps: Vec<String>,
    /// Watchers that have not seen the end.
    pub(super) left_behind: Vec<String>,
}

pub(super) fn judge(truth: &Truth, acknowledged: &BTreeMap<String, Vec<Mark>>, watched: &[Watched]) -> Verdict {
    let mut verdict = Verdict::default();
    for (task, marks) in acknowledged {
        let empty = Vec::new();
        let kept = truth.get(task).unwrap_or(&empty);
        let mut once = HashSet::new();
        for (seq, _, mark) in kept {
            if !once.insert(mark) {
                verdict.duplicates.push(format!("{task}: {mark:?} again at {seq}"));
            }
        }
        let lost = marks.iter().filter(|mark| !once.contains(mark));
        verdict.lost.extend(lost.map(|mark| format!("{task}: {mark:?}")));
    }
    for watched in watched {
        judge_watcher(truth.get(&watched.task).map_or(&[], |kept| &kept[..]), watched, &mut verdict);
    }
    verdict
}

fn judge_watcher(kept: &[(u64, bool, Mark)], watched: &Watched, verdict: &mut Verdict) {
    let Watched { task, seen } = watched;
    if !seen.is_sorted_by(|(one, _), (next, _)| one < next) {
        verdict.duplicates.push(format!("{task}: {seen:?}"));
    }
    let shown: HashSet<_> = seen.iter().collect();
    let known: HashSet<_> = kept.iter().map(|(seq, _, mark)| (*seq, *mark)).collect();
    verdict.gaps.extend(shown.iter().filter(|seen| !known.contains(seen)).map(|seen| format!("{task}: {seen:?}")));
    let first = seen.first().map_or(0, |(seq, _)| *seq);
    for (seq, is_tick, mark) in kept.iter().filter(|(seq, ..)| *seq >= first) {
        if !is_tick && !shown.contains(&(*seq, *mark)) {
            verdict.gaps.push(format!("{task}: {mark:?} at {seq} was not shown"));
        }
    }
    if kept.last().map(|(seq, ..)| seq) != seen.last().map(|(seq, _)| seq) {
        verdict.left_behind.push(format!("{task}: {:?} of {:?}", seen.last(), kept.last()));
    }
}

#[test]
fn the_verdict_finds_what_is_wrong() {
    let mark = |report| Mark::new(report, 1);
    let truth = |kept: &[(u64, bool, u32)]| {
        Truth::from([("a".to_owned(), kept.iter().map(|(seq, tick, report)| (*seq, *tick, mark(*report))).collect())])
    };
    let count = |kept: &[(u64, bool, u32)], told: &[u32], seen: &[(u64, u32)]| {
        let told = BTreeMap::from([("a".to_owned(), told.iter().copied().map(mark).collect())]);
        let seen = seen.iter().map(|(seq, report)| (*seq, mark(*report))).collect();
        let found = judge(&truth(kept), &told, &[Watched { task: "a".into(), seen }]);
        [found.lost.len(), found.duplicates.len(), found.gaps.len(), found.left_behind.len()]
    };
    let kept = [(1, false, 1), (2, true, 2), (3, true, 3), (4, false, 4)];
    assert_eq!(count(&kept, &[1, 2, 3, 4], &[(1, 1), (2, 2), (3, 3), (4, 4)]), [0; 4]);
    assert_eq!(count(&kept, &[1, 2, 3, 4], &[(2, 2), (4, 4)]), [0; 4], "it came later; a tick was merged");
    assert_eq!(count(&kept, &[1, 5], &[(1, 1), (4, 4)]), [1, 0, 0, 0]);
    assert_eq!(count(&[(1, false, 1), (2, false, 1)], &[1], &[(1, 1), (2, 1)]), [0, 1, 0, 0]);
    assert_eq!(count(&kept, &[], &[(1, 1), (3, 3), (3, 3), (4, 4)]), [0, 1, 0, 0]);
    assert_eq!(count(&kept, &[], &[(1, 1), (3, 7), (4, 4)]), [0, 0, 1, 0]);
    assert_eq!(count(&kept, &[], &[(1, 1), (3, 3)]), [0, 0, 1, 1]);
}
