//! Taking over an embedded store: all of it in one transaction, which makes the tables too. A move that is cut off leaves
//! nothing behind.

use std::pin::{Pin, pin};

use tokio_postgres::{
    Client, Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::{
    address::Address,
    append::{self, APPEND, Columns, is_listable},
    error::{DatabaseError, DatabaseRefused},
    life::DURABLE,
    open,
    record::signed,
};
use crate::{
    event::{Event, HistoryBounds, Seq},
    journal::{
        Group, MovedChannel, MovedEvent, Outcome,
        sqlite::{OpenError, SqliteExport},
    },
};

const EVENTS: (&str, &[Type]) = (
    "events (seq, at, class, channel, grouped, name, data, memo, origin)",
    &[Type::INT8, Type::INT8, Type::INT2, Type::TEXT, Type::UUID, Type::TEXT, Type::BYTEA, Type::BYTEA, Type::BYTEA],
);
const CHANNELS: (&str, &[Type]) = (
    "channels (created, channel, channel_kind, last, floor, lasting, bytes, tick, finished_at, gone_at, status, kind, user_id, \
     queue, visible, visible_at, visible_class, visible_grouped, visible_name, data, memo)",
    &[
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::UUID,
        Type::TEXT,
        Type::BYTEA,
        Type::BYTEA,
    ],
);
const HISTORY: (&str, &[Type]) = (
    "history (channel, seq, at, class, grouped, name, data)",
    &[Type::INT8, Type::INT8, Type::INT8, Type::INT2, Type::UUID, Type::TEXT, Type::BYTEA],
);
const ORIGINS: (&str, &[Type]) = ("origins (channel, origin)", &[Type::INT8, Type::BYTEA]);

/// Hears how far a move is: of what, and how many so far.
pub type MoveProgress<'a> = &'a mut dyn FnMut(&'static str, u64);

/// Why a store was not taken over. Nothing of it is in the database.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database has a store.
    #[error(
        "the database {0} has a store already: take an empty database, or remove the store that is there with all its \
         tasks (DROP SCHEMA progressd CASCADE)"
    )]
    NotEmpty(String),
    /// The database does not answer, or refuses.
    #[error(transparent)]
    Database(#[from] DatabaseRefused),
    /// The embedded store cannot be read.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// What belongs to it was not copied.
    #[error(transparent)]
    Beside(#[from] anyhow::Error),
}

/// One that does not name the database yet.
enum ImportFailure {
    NotEmpty,
    Database(DatabaseError),
    Source(OpenError),
    Beside(anyhow::Error),
}

impl From<tokio_postgres::Error> for ImportFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(DatabaseError::before_sending(&error))
    }
}

impl From<DatabaseError> for ImportFailure {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<OpenError> for ImportFailure {
    fn from(error: OpenError) -> Self {
        Self::Source(error)
    }
}

/// Copies a store into a database that has none, with its name, seqs and epochs, and appends `more`; before all of it is
/// committed, `beside` copies what belongs to it. `told` hears of each slice: of what, and how many so far.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    url: &str,
    source: &SqliteExport,
    more: Vec<Group>,
    beside: impl FnOnce(MoveProgress<'_>) -> anyhow::Result<()>,
    told: MoveProgress<'_>,
) -> Result<(), ImportError> {
    let address = Address::parse(url)?;
    let import = async |client: &mut Client| import_on(client, source, more, beside, told).await;
    let imported = address.work(import).await;
    let place = &address.place;
    imported.map_err(|failed| match failed {
        ImportFailure::NotEmpty => ImportError::NotEmpty(place.clone()),
        ImportFailure::Database(error) => error.at_open(place).into(),
        ImportFailure::Source(error) => error.into(),
        ImportFailure::Beside(error) => error.into(),
    })
}

async fn import_on(
    client: &mut Client,
    source: &SqliteExport,
    more: Vec<Group>,
    beside: impl FnOnce(MoveProgress<'_>) -> anyhow::Result<()>,
    told: MoveProgress<'_>,
) -> Result<(), ImportFailure> {
    client.batch_execute(DURABLE).await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    // Nodes that start meanwhile wait for the same lock.
    if open::lock_and_find(&transaction).await?.is_some() {
        return Err(ImportFailure::NotEmpty);
    }
    // Whatever is kept of histories, the first node trims to its settings.
    open::upgrade(&transaction, HistoryBounds::from(usize::MAX)).await?;
    copy_facts(&transaction, source).await?;
    copy_rows(&transaction, source, told).await?;
    append(&transaction, source, more).await?;
    beside(told).map_err(ImportFailure::Beside)?;
    transaction.commit().await?;
    // What the planner knows of them is that they are empty. It finds out by itself, but later.
    client.batch_execute("ANALYZE progressd.events, progressd.channels, progressd.history, progressd.origins").await?;
    Ok(())
}

/// Copies what is known of the store as a whole. The first node to come begins the next life.
async fn copy_facts(transaction: &Transaction<'_>, source: &SqliteExport) -> Result<(), ImportFailure> {
    let epochs = source.epochs();
    for (first, name) in epochs.begun().iter() {
        transaction.execute("INSERT INTO progressd.epochs VALUES ($1, $2)", &[&signed(*first), &name.as_str()]).await?;
    }
    let sql = "UPDATE progressd.store SET name = $1, head = $2, trimmed_through = $3, epoch = $4";
    let (store, epoch) = (epochs.store(), epochs.of(Seq(u64::MAX)));
    let values: [&(dyn ToSql + Sync); 4] =
        [&store.as_str(), &signed(source.head()), &signed(source.trimmed_through()), &epoch.as_str()];
    transaction.execute(sql, &values).await?;
    Ok(())
}

async fn copy_rows(
    transaction: &Transaction<'_>,
    source: &SqliteExport,
    told: MoveProgress<'_>,
) -> Result<(), ImportFailure> {
    let mut to = Destination { transaction, told };
    let created = |channel: &MovedChannel| channel.stored.created;
    let begins = source.trimmed_through();
    let copied = [
        to.copy("events of the log", EVENTS, begins, |after| source.events(after), |event| event.seq, write_event)
            .await?,
        to.copy("channels", CHANNELS, Seq::ZERO, |after| source.channels(after), created, write_channel).await?,
        to.copy(
            "events of histories",
            HISTORY,
            Seq::ZERO,
            |after| source.history(after),
            |moved| moved.event.seq,
            write_history,
        )
        .await?,
        to.copy("origins", ORIGINS, Seq::ZERO, |after| source.origins(after), |(channel, _)| *channel, write_origin)
            .await?,
    ];
    let expected = source.counts()?;
    if copied == expected {
        return Ok(());
    }
    Err(DatabaseError::Damaged(format!("{copied:?} rows were copied, and there are {expected:?}")).into())
}

struct Destination<'a> {
    transaction: &'a Transaction<'a>,
    told: MoveProgress<'a>,
}

impl Destination<'_> {
    /// Copies rows slice by slice, each from behind the last row of the one before, and answers how many.
    async fn copy<T>(
        &mut self,
        what: &'static str,
        (table, types): (&str, &[Type]),
        mut after: Seq,
        slice: impl Fn(Seq) -> Result<Vec<T>, OpenError>,
        place: impl Fn(&T) -> Seq,
        write: impl AsyncFn(Pin<&mut BinaryCopyInWriter>, &T) -> Result<(), tokio_postgres::Error>,
    ) -> Result<u64, ImportFailure> {
        let sink = self.transaction.copy_in(&format!("COPY progressd.{table} FROM STDIN (FORMAT binary)")).await?;
        let mut to = pin!(BinaryCopyInWriter::new(sink, types));
        let mut copied = 0;
        loop {
            let rows = slice(after)?;
            let Some(last) = rows.last() else { break };
            after = place(last);
            for row in &rows {
                write(to.as_mut(), row).await?;
            }
            copied += rows.len() as u64;
            (self.told)(what, copied);
        }
        to.finish().await?;
        Ok(copied)
    }
}

async fn write_event(to: Pin<&mut BinaryCopyInWriter>, event: &Event) -> Result<(), tokio_postgres::Error> {
    let draft = &event.draft;
    to.write(&[
        &signed(event.seq),
        &event.at.as_millis(),
        &class(event),
        &draft.channel.to_string(),
        &event.group,
        &draft.name.as_deref(),
        &&draft.data[..],
        &draft.memo.as_deref(),
        &draft.origin.as_deref(),
    ])
    .await
}

async fn write_channel(to: Pin<&mut BinaryCopyInWriter>, channel: &MovedChannel) -> Result<(), tokio_postgres::Error> {
    let MovedChannel { stored, last_at, size, tick, members } = channel;
    let member = |member: &Option<String>| member.clone().filter(|member| is_listable(member));
    let visible = stored.visible.as_ref();
    to.write(&[
        &signed(stored.created),
        &stored.channel.to_string(),
        &stored.channel.kind_word(),
        &signed(stored.last),
        &signed(stored.floor),
        &signed(Seq(size.events)),
        &signed(Seq(size.bytes)),
        &signed(*tick),
        &stored.finished_at.map(|at| at.as_millis()),
        &stored.gone.then_some(last_at.as_millis()),
        &member(&members.status),
        &member(&members.kind),
        &member(&members.user_id),
        &member(&members.queue),
        &visible.map(|event| signed(event.seq)),
        &visible.map(|event| event.at.as_millis()),
        &visible.map(class),
        &visible.map(|event| event.group),
        &visible.and_then(|event| event.draft.name.as_deref()),
        &visible.map(|event| &event.draft.data[..]),
        &stored.memo.as_deref(),
    ])
    .await
}

async fn write_history(to: Pin<&mut BinaryCopyInWriter>, moved: &MovedEvent) -> Result<(), tokio_postgres::Error> {
    let MovedEvent { channel, event } = moved;
    let (seq, at, name, data) =
        (signed(event.seq), event.at.as_millis(), event.draft.name.as_deref(), &event.draft.data[..]);
    to.write(&[&signed(*channel), &seq, &at, &class(event), &event.group, &name, &data]).await
}

async fn write_origin(
    to: Pin<&mut BinaryCopyInWriter>,
    (channel, origin): &(Seq, Vec<u8>),
) -> Result<(), tokio_postgres::Error> {
    to.write(&[&signed(*channel), origin]).await
}

fn class(event: &Event) -> i16 {
    event.class().code().into()
}

/// Appends to what was copied.
async fn append(transaction: &Transaction<'_>, source: &SqliteExport, groups: Vec<Group>) -> Result<(), ImportFailure> {
    if groups.is_empty() {
        return Ok(());
    }
    let (head, epoch) = (source.head(), source.epochs().of(Seq(u64::MAX)));
    let rows = {
        let columns = Columns::new(head, epoch, usize::MAX, HistoryBounds::from(1), &groups);
        transaction.query(APPEND, &columns.values()).await?
    };
    let outcomes = append::answer(groups, &rows)?.outcomes;
    if outcomes.iter().all(|outcome| *outcome == Outcome::Committed) {
        return Ok(());
    }
    Err(DatabaseError::Damaged(format!("it has what no embedded store has: {outcomes:?}")).into())
}
