//! Random appends, folds and restarts: SQLite and PostgreSQL answer as the journal in memory, which is the model.

use proptest::prelude::*;

use super::*;
use crate::{
    event::ChannelKind,
    journal::{Listing, Member, Stored, Tail, postgres::import, sqlite::SqliteExport},
};

#[derive(Clone, Debug)]
enum Step {
    /// Groups, appended by one who is so many events behind.
    Append {
        behind: u64,
        groups: Vec<RandomGroup>,
    },
    Fold,
    Restart,
    Crash,
    Sweep {
        before: i64,
    },
    Trim {
        before: i64,
        kind: ChannelKind,
        limit: usize,
    },
}

#[derive(Clone, Debug)]
struct RandomGroup {
    at: i64,
    expects: Vec<(usize, RandomExpect)>,
    drafts: Vec<RandomDraft>,
    /// Whether it has the id of the group that was appended last.
    repeats: bool,
}

#[derive(Clone, Copy, Debug)]
enum RandomExpect {
    Last,
    Absent,
    At(u64),
}

#[derive(Clone, Debug)]
struct RandomDraft {
    channel: usize,
    class: Class,
    status: &'static str,
    memo: Option<u8>,
    origin: Option<u8>,
}

fn channels() -> [ChannelName; 6] {
    let [user, topic] = [ChannelName::user("alice"), ChannelName::topic("news")].map(Result::unwrap);
    [task(1), task(2), key(4), user, topic, ChannelName::stored("schedule:daily").unwrap()]
}

fn random_draft() -> impl Strategy<Value = RandomDraft> {
    let class = prop_oneof![
        3 => Just(Class::Change), 1 => Just(Class::Notice), 4 => Just(Class::Tick), 2 => Just(Class::Hidden),
        1 => Just(Class::Final), 1 => Just(Class::Tombstone), 1 => Just(Class::Unknown(99)),
    ];
    let status = prop_oneof![Just("pending"), Just("processing"), Just("completed")];
    (0..6_usize, class, status, any::<Option<u8>>(), any::<Option<u8>>())
        .prop_map(|(channel, class, status, memo, origin)| RandomDraft { channel, class, status, memo, origin })
}

fn random_group() -> impl Strategy<Value = RandomGroup> {
    let expect = prop_oneof![
        3 => Just(RandomExpect::Last), 1 => Just(RandomExpect::Absent), 1 => (0..20_u64).prop_map(RandomExpect::At),
    ];
    let expects = prop::collection::vec((0..6_usize, expect), 0..3);
    let drafts = prop::collection::vec(random_draft(), 0..6);
    (0..50_i64, expects, drafts, prop::bool::weighted(0.1)).prop_map(|(at, expects, drafts, repeats)| RandomGroup {
        at,
        expects,
        drafts,
        repeats,
    })
}

fn random_step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(random_group(), 0..4);
    prop_oneof![
        8 => (0..6_u64, groups).prop_map(|(behind, groups)| Step::Append { behind, groups }),
        3 => Just(Step::Fold),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (0..50_i64).prop_map(|before| Step::Sweep { before }),
        1 => (0..50_i64, prop_oneof![Just(ChannelKind::User), Just(ChannelKind::Topic), Just(ChannelKind::Task)], 1..3_usize)
            .prop_map(|(before, kind, limit)| Step::Trim { before, kind, limit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_the_model(
        history in history(), log in log(), steps in prop::collection::vec(random_step(), 1..25),
    ) {
        run_alone(run::<InSqlite>(history, log, steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn postgres_answers_as_the_model(
        history in history(), log in log(), steps in prop::collection::vec(random_step(), 1..25),
    ) {
        run_alone(run::<InPostgres>(history, log, steps));
    }
}

/// A store that is embedded until it is opened again, and then in PostgreSQL.
enum InMoved {
    Before(Box<InSqlite>),
    After(Box<InPostgres>),
}

impl InMoved {
    async fn moved(before: InSqlite) -> Self {
        let InSqlite { journal, options, directory } = before.restarted().await;
        journal.close().await.unwrap();
        drop(journal);
        let database = PostgresServer::shared().database().await;
        let (url, data) = (database.url(), directory.path().to_owned());
        // It stays on one thread.
        let moving = move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let source = SqliteExport::open(&data).await.unwrap();
                import(&url, &source, Vec::new(), |_| Ok(()), &mut |_, _| {}).await.unwrap();
                (source.epochs().clone(), source.head())
            })
        };
        let (from, head) = tokio::task::spawn_blocking(moving).await.unwrap();
        let options = PostgresOptions { history: options.history, log: options.log };
        let after = InPostgres::opened(options, database).await;
        // All seqs keep their epochs.
        let to = after.journal.epochs();
        let seqs = (0..=head.0).map(Seq);
        assert!(from.store() == to.store() && seqs.into_iter().all(|seq| from.of(seq) == to.of(seq)));
        Self::After(after.into())
    }
}

#[async_trait]
impl Store for InMoved {
    async fn open(history: impl Into<HistoryBounds> + Send, log: usize) -> Self {
        Self::Before(InSqlite::open(history, log).await.into())
    }

    fn journal(&self) -> &dyn Journal {
        match self {
            Self::Before(store) => store.journal(),
            Self::After(store) => store.journal(),
        }
    }

    async fn fold(&self) {
        match self {
            Self::Before(store) => store.fold().await,
            Self::After(store) => store.fold().await,
        }
    }

    async fn restarted(self) -> Self {
        match self {
            Self::Before(store) => Self::moved(*store).await,
            Self::After(store) => Self::After(store.restarted().await.into()),
        }
    }

    async fn crashed(self) -> Self {
        match self {
            Self::Before(store) => Self::moved(store.crashed().await).await,
            Self::After(store) => Self::After(store.crashed().await.into()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_was_moved_answers_as_the_model(
        history in history(), log in log(),
        before in prop::collection::vec(random_step(), 1..15), after in prop::collection::vec(random_step(), 0..10),
    ) {
        run_alone(run::<InMoved>(history, log, [before, vec![Step::Restart], after].concat()));
    }
}

/// Few events, and in half of the cases so few bytes that these count.
fn history() -> impl Strategy<Value = HistoryBounds> {
    let bytes = prop_oneof![Just(u64::MAX), 20..140_u64];
    (1..5_usize, bytes).prop_map(|(events, bytes)| HistoryBounds::from(events).of_bytes(bytes))
}

fn log() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0_usize), Just(5), Just(1_000)]
}

fn run_alone(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
}

async fn run<S: Store>(history: HistoryBounds, log: usize, steps: Vec<Step>) {
    let mut model = InMemory::open(history, log).await;
    let mut store = S::open(history, log).await;
    let mut last_id = Uuid::new_v4();
    for step in steps {
        match &step {
            Step::Append { behind, groups } => {
                let head = model.journal().head().await.unwrap();
                // Further behind than the log's bound, either may have trimmed already.
                let known_head = Seq(head.0.saturating_sub((*behind).min(log as u64)));
                let mut built = Vec::new();
                for group in groups {
                    built.push(build(model.journal(), group, &mut last_id).await);
                }
                let expected = model.journal().append(known_head, built.clone()).await.unwrap();
                let found = store.journal().append(known_head, built).await.unwrap();
                assert_eq!((found.outcomes, found.events), (expected.outcomes, expected.events));
            }
            Step::Fold => {
                model.fold().await;
                store.fold().await;
            }
            Step::Restart => {
                model = model.restarted().await;
                store = store.restarted().await;
            }
            Step::Crash => {
                model = model.crashed().await;
                store = store.crashed().await;
            }
            Step::Sweep { before } => {
                sweep_all(&model, *before).await;
                sweep_all(&store, *before).await;
            }
            Step::Trim { before, kind, limit } => {
                model.fold().await;
                store.fold().await;
                let trim = async |journal: &dyn Journal| journal.trim(*kind, at(*before), Seq::ZERO, *limit).await;
                assert_eq!(trim(store.journal()).await.unwrap(), trim(model.journal()).await.unwrap());
            }
        }
        compare(model.journal(), store.journal(), log as u64).await;
    }
}

async fn build(model: &dyn Journal, random: &RandomGroup, last_id: &mut Uuid) -> Group {
    if !random.repeats {
        *last_id = Uuid::new_v4();
    }
    let mut expects = Vec::new();
    for (channel, expect) in &random.expects {
        let channel = channels()[*channel].clone();
        let last = model.last(&channel).await.unwrap().map(|stored| stored.last);
        let expect = match (expect, last) {
            (RandomExpect::At(seq), _) => Expect::At(Seq(*seq)),
            (RandomExpect::Last, Some(last)) => Expect::At(last),
            (RandomExpect::Last, None) | (RandomExpect::Absent, _) => Expect::Absent,
        };
        expects.push((channel, expect));
    }
    let drafts = random.drafts.iter().map(|random| Draft {
        memo: random.memo.map(|byte| Bytes::from(vec![byte])),
        origin: random.origin.map(|byte| Bytes::from(vec![byte; 2])),
        ..draft(&channels()[random.channel], random.class, &format!("{{\"status\":\"{}\"}}", random.status))
    });
    Group { id: *last_id, at: at(random.at), expects, drafts: drafts.collect() }
}

async fn compare(model: &dyn Journal, store: &dyn Journal, log: u64) {
    let head = model.head().await.unwrap();
    assert_eq!(store.head().await.unwrap(), head);
    let lasts = store.last_many(&channels()).await.unwrap();
    assert_eq!(lasts, model.last_many(&channels()).await.unwrap());
    for (channel, last) in channels().into_iter().zip(lasts) {
        assert_eq!(store.last(&channel).await.unwrap(), last);
        for after in [Seq::ZERO, Seq(head.0 / 2), head] {
            let read = async |journal: &dyn Journal| {
                let History { floor, events } = journal.read(&channel, after).await.unwrap();
                (floor, settled(events))
            };
            assert_eq!(read(store).await, read(model).await, "{channel} after {after}");
        }
    }
    for kind in [ChannelKind::Task, ChannelKind::User, ChannelKind::Key, ChannelKind::Topic] {
        for (limit, members) in [(9, vec![]), (1, vec![(Member::Status, vec!["pending".to_owned()])])] {
            let listing = Listing { kind, members, created_before: Some(head), limit };
            let list = async |journal: &dyn Journal| -> Vec<Stored> { journal.list(listing.clone()).await.unwrap() };
            assert_eq!(list(store).await, list(model).await, "{listing:?}");
        }
    }
    for kind in [ChannelKind::Task, ChannelKind::User, ChannelKind::Key, ChannelKind::Topic] {
        for (after, limit) in [(Seq::ZERO, 1), (Seq::ZERO, 9), (Seq(head.0 / 2), 9)] {
            let found = store.live(kind, after, limit).await.unwrap();
            assert_eq!(found, model.live(kind, after, limit).await.unwrap(), "{limit} after {after}");
        }
    }
    for limit in [1, 9] {
        let found = store.finished_before(at(25), limit).await.unwrap();
        assert_eq!(found, model.finished_before(at(25), limit).await.unwrap());
    }
    for after in [Seq::ZERO, Seq(head.0.saturating_sub(log)), Seq(head.0.saturating_sub(3)), head] {
        let found = store.tail(after, 4).await.unwrap();
        let expected = model.tail(after, 4).await.unwrap();
        // When the log is trimmed is each journal's own affair, but it is never shorter than its bound.
        if found == Tail::Lapsed || expected == Tail::Lapsed {
            assert!(after.0 + log < head.0, "lapsed after {after} of {head}");
        } else {
            assert_eq!(found, expected);
        }
    }
}
