//! What is between a node and its database misbehaves.

use std::pin::pin;

use tokio::time::timeout;

use super::*;
use crate::testing::{Fault, FaultProxy, Way};

/// How often the connections are cut.
const CUTS: usize = 40;
/// A connection is made, let in and used once within so many bytes, in each direction.
const BYTES_MAX: usize = 3_000;
/// How often an append is tried while the database refuses.
const REFUSALS: u64 = 20;
/// No append takes longer to be answered, by the clock of the runtime.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// A store that is looked at directly and used through a proxy.
struct Proxied {
    direct: PostgresJournal,
    journal: PostgresJournal,
    proxy: FaultProxy,
    database: PostgresDatabase,
    /// What was told to be committed.
    told: Vec<Uuid>,
    head: Seq,
}

impl Proxied {
    async fn new() -> Self {
        let (direct, database) = store().await;
        let proxy = database.proxy();
        let journal = open(&database.url_through(&[&proxy])).await.unwrap();
        Self { direct, journal, proxy, database, told: Vec::new(), head: Seq::ZERO }
    }

    fn group(&self) -> Group {
        group(&task(1), Class::Change, &format!("{}", self.told.len()))
    }

    async fn append(&self, group: &Group) -> Result<Appended, JournalError> {
        timeout(ANSWERED_WITHIN, self.journal.append(self.head, vec![group.clone()])).await.expect("an answer in time")
    }

    /// Appends until it is told that this is committed; answers how often that was not known and yet the case.
    async fn append_surely(&mut self, group: &Group) -> usize {
        let mut committed_unknown = 0;
        loop {
            match self.append(group).await {
                Ok(appended) if appended.outcomes == [Outcome::Committed] => {
                    self.head = appended.events.last().unwrap().seq;
                    self.told.push(group.id);
                    return committed_unknown;
                }
                Ok(appended) => {
                    assert_eq!((&appended.outcomes[..], &appended.events[..]), (&[Outcome::Unknown][..], &[][..]));
                    committed_unknown += usize::from(self.kept().await.contains(&group.id));
                }
                Err(JournalError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn kept(&self) -> Vec<Uuid> {
        let Tail::Events(events) = self.direct.tail(Seq::ZERO, 1_000).await.unwrap() else {
            panic!("nothing is trimmed")
        };
        events.iter().map(|event| event.group).collect()
    }

    async fn heal(&mut self) {
        self.proxy.set(Fault::None);
        let group = self.group();
        self.append_surely(&group).await;
        assert_eq!(self.kept().await, self.told, "each that was told, once and in order");
    }
}

#[tokio::test]
async fn what_is_cut_at_any_byte_is_written_once() {
    let mut proxied = Proxied::new().await;
    let mut resolved = 0;
    for cut in 0..CUTS {
        let way = [Way::ToServer, Way::ToClient][cut % 2];
        proxied.proxy.cut_after(way, (cut * 97) % BYTES_MAX);
        while proxied.proxy.cuts() <= cut as u64 {
            let group = proxied.group();
            resolved += proxied.append_surely(&group).await;
        }
    }
    proxied.heal().await;
    assert!(resolved > 0, "the answer of a commit was lost, too");
}

#[tokio::test]
async fn a_silent_database_is_not_waited_for_for_ever() {
    for fault in [Fault::Silent, Fault::OneWay(Way::ToServer), Fault::OneWay(Way::ToClient)] {
        let mut proxied = Proxied::new().await;
        let first = proxied.group();
        proxied.append_surely(&first).await;
        proxied.proxy.set(fault);
        // Nothing comes any more but the ends of waits.
        tokio::time::pause();
        let lost = proxied.group();
        assert_eq!(proxied.append(&lost).await.unwrap().outcomes, [Outcome::Unknown], "{fault:?}");
        for _ in 0..3 {
            let refused = proxied.append(&lost).await;
            assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{fault:?}: {refused:?}");
            let read = timeout(ANSWERED_WITHIN, proxied.journal.last(&task(1))).await.unwrap();
            assert!(matches!(read, Err(JournalError::Unavailable(_))), "{fault:?}: {read:?}");
        }
        tokio::time::resume();
        // What was held goes on, and comes late.
        proxied.proxy.set(Fault::None);
        proxied.append_surely(&lost).await;
        proxied.heal().await;
    }
}

#[tokio::test]
async fn a_database_that_falls_silent_while_it_lets_in_is_not_waited_for() {
    let mut proxied = Proxied::new().await;
    for bytes in (0..1_200).step_by(100) {
        let group = proxied.group();
        proxied.proxy.cut();
        proxied.proxy.set_after(Way::ToClient, bytes, Fault::Silent);
        let pausing = async {
            proxied.proxy.until(Fault::Silent).await;
            tokio::time::pause();
        };
        let appending = async {
            loop {
                match proxied.append(&group).await {
                    // The connection from before.
                    Ok(_) if proxied.proxy.is(Fault::None) => {}
                    Err(_) if proxied.proxy.is(Fault::None) => tokio::task::yield_now().await,
                    answered => break answered,
                }
            }
        };
        let (answered, ()) = tokio::join!(appending, pausing);
        assert!(!answered.is_ok_and(|appended| appended.outcomes == [Outcome::Committed]), "after {bytes}");
        tokio::time::resume();
        proxied.proxy.set(Fault::None);
        proxied.append_surely(&group).await;
    }
    proxied.heal().await;
}

#[tokio::test]
async fn a_database_that_refuses_is_tried_again() {
    for (fault, reason) in [(Fault::Full, "too many clients"), (Fault::Refuse, "")] {
        let mut proxied = Proxied::new().await;
        proxied.proxy.set(fault);
        proxied.proxy.cut();
        let group = proxied.group();
        let refused = loop {
            match proxied.append(&group).await {
                // The connection was not known to be cut.
                Ok(appended) => assert_eq!(appended.outcomes, [Outcome::Unknown]),
                Err(error) => break error.to_string(),
            }
        };
        assert!(refused.contains(reason), "{refused}");
        // Who comes soon after is told the same without another try.
        let accepted = proxied.proxy.accepted();
        for _ in 0..REFUSALS {
            let again = proxied.append(&group).await.unwrap_err().to_string();
            assert!(again.contains(reason), "{again}");
        }
        let tries = proxied.proxy.accepted() - accepted;
        assert!(tries < REFUSALS, "{tries} of {REFUSALS}");
        proxied.proxy.set(Fault::None);
        proxied.append_surely(&group).await;
        proxied.heal().await;
    }
}

#[tokio::test]
async fn a_frozen_host_does_not_keep_the_other_from_being_found() {
    let (_direct, database) = store().await;
    let [frozen, good] = [(); 2].map(|()| database.proxy());
    frozen.set(Fault::Silent);
    let journal = timeout(ANSWERED_WITHIN, open(&database.url_through(&[&frozen, &good]))).await.unwrap().unwrap();
    assert_eq!(add(&journal, &task(1), Class::Change, "{}").await.len(), 1);
    // The one that took writes freezes, too, and the other takes them.
    good.set(Fault::Silent);
    good.cut();
    frozen.set(Fault::None);
    let back = timeout(ANSWERED_WITHIN, async {
        while journal.append(Seq::ZERO, Vec::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    back.await.unwrap();
    frozen.set(Fault::Silent);
    tokio::time::pause();
    let refused = timeout(ANSWERED_WITHIN, open(&database.url_through(&[&frozen]))).await.unwrap();
    assert!(matches!(refused, Err(DatabaseRefused::Unavailable { .. })));
}

#[tokio::test]
async fn a_listener_that_hears_nothing_is_replaced() {
    let proxied = Proxied::new().await;
    let listeners = async |count: usize| {
        let sql = format!(
            "SELECT 1 / (count(*) = {count})::int FROM pg_stat_activity WHERE datname = current_database() \
             AND query = 'LISTEN progressd'"
        );
        let counted = timeout(ANSWERED_WITHIN, async { while proxied.database.try_execute(&sql).await.is_err() {} });
        counted.await.expect("so many listen");
    };
    // It listens as soon as there is nothing to be found.
    tokio::select! {
        _ = proxied.journal.follow(Seq::ZERO, 9) => panic!("there is nothing"),
        () = listeners(1) => {}
    }
    proxied.proxy.forget();
    tokio::time::pause();
    // Whoever looks gets a new connection.
    assert!(proxied.journal.head().await.is_err());
    tokio::time::resume();
    let mut head = Seq::ZERO;
    for _ in 0..3 {
        head = add(&proxied.direct, &task(1), Class::Change, "{}").await[0].seq;
        let Tail::Events(found) = proxied.journal.follow(Seq(head.0 - 1), 9).await else {
            panic!("nothing is trimmed")
        };
        assert_eq!(found.len(), 1);
    }
    tokio::select! {
        _ = proxied.journal.follow(head, 9) => panic!("there is nothing more"),
        () = listeners(2) => {}
    }
}

#[tokio::test]
async fn who_does_not_read_the_answer_to_an_append_holds_up_nobody() {
    let proxied = Proxied::new().await;
    let text = "x".repeat(1_000);
    let mut head = Seq::ZERO;
    for _ in 0..4 {
        let groups = (0..500).map(|_| group(&task(2), Class::Change, &text)).collect();
        head = proxied.direct.append(head, groups).await.unwrap().events.last().unwrap().seq;
    }
    proxied.proxy.set_after(Way::ToClient, 60_000, Fault::Silent);
    let mut append = pin!(proxied.journal.append(Seq::ZERO, vec![group(&task(1), Class::Change, "1")]));
    let others = async {
        proxied.proxy.until(Fault::Silent).await;
        timeout(Duration::from_secs(4), proxied.direct.append(head, vec![group(&task(2), Class::Tick, "")])).await
    };
    let appended = tokio::select! {
        unheard = &mut append => panic!("{unheard:?}"),
        appended = others => appended.expect("the log is not locked").unwrap(),
    };
    assert_eq!(
        (appended.outcomes, appended.events.len()),
        (vec![Outcome::Committed], 2),
        "it comes after what was not read"
    );
    proxied.proxy.set(Fault::None);
    let (told, appended) = (append.await.unwrap().outcomes, proxied.journal.append(Seq(0), Vec::new()).await.unwrap());
    assert!([Outcome::Committed, Outcome::Unknown].contains(&told[0]), "{told:?}");
    assert_eq!(appended.events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), (1..=2_002).collect::<Vec<_>>());
}
