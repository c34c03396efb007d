//! Bringing into memory what the journal holds: all that is live, and single channels where something must be decided
//! upon them.

use std::time::{Duration, Instant};

use super::{
    Request, TrackerError,
    batch::{Ask, EventAsk},
    reads,
    writer::Writer,
};
use crate::{
    event::{ChannelKind, ChannelName, Seq, Timestamp},
    journal::{JournalError, Member, Stored, Tail},
    people::{Census, PeopleTable},
    task::{EventKey, Intent, Keyed, Row, Table},
    topics::{LastEvent, TopicTable},
};

/// Most rows that are read at once when the table is restored.
const RESTORE_PAGE: usize = 1000;

/// Most channels whose histories are read at once for the streams on them.
const HISTORIES_PAGE: usize = 64;

/// After the table could not be loaded, it is tried again only after this pause.
const RELOAD_PAUSE: Duration = Duration::from_millis(250);

impl Writer {
    /// Loads these channels in one read, and in another the tasks that keys among them stand for.
    ///
    /// First the table follows the journal up to them: the events of a row that came into it ahead of them would change
    /// nothing, so that no list and no count would follow. It may follow further than the rows were read: so of a user whose
    /// row is ahead nothing is put in, since their events tell all, and they may be forgotten by now. And whose channel goes on
    /// without a user is noted before, so that what follows counts.
    pub(super) async fn load(&mut self, channels: Vec<ChannelName>) -> Result<(), TrackerError> {
        let mut channels = channels;
        while !channels.is_empty() {
            let mut stand_for = Vec::new();
            let mut stored = self.shared.journal.last_many(&channels).await?;
            self.know_users(&stored);
            while is_ahead(&stored, self.head) {
                self.catch_up().await?;
                if is_ahead(&stored, self.head) {
                    // What was read is lost, with the life of the store in which it was.
                    stored = self.shared.journal.last_many(&channels).await?;
                    self.know_users(&stored);
                }
            }
            for stored in stored.into_iter().flatten().filter(|stored| stored.channel.kind() != ChannelKind::User) {
                let row = row(&stored);
                if let Row::Key(Keyed::Task(task_id)) = row {
                    stand_for.push(ChannelName::task(task_id));
                }
                self.shared.table_mut().restore(stored.channel, row, stored.last);
            }
            let table = self.shared.table();
            channels = stand_for.into_iter().filter(|channel| table.row(channel).is_none()).collect();
        }
        Ok(())
    }

    /// Puts in the users of rows that are not ahead, and where channels without a user end.
    fn know_users(&self, stored: &[Option<Stored>]) {
        let is_known = |stored: &&Stored| stored.memo.is_none() || stored.last <= self.head;
        let users = stored.iter().flatten().filter(|stored| stored.channel.kind() == ChannelKind::User);
        users.filter(is_known).for_each(|user| restore_user(&mut self.shared.people_mut(), user));
    }

    /// Makes the table follow what others have written.
    pub(super) async fn catch_up(&mut self) -> Result<(), TrackerError> {
        match self.append(Vec::new).await {
            Ok(appended) => drop(self.follow_events(&mut [], &appended.events, Instant::now())),
            Err(JournalError::Lapsed) => self.reload().await?,
            Err(error) => return Err(error.into()),
        }
        self.is_behind = false;
        Ok(())
    }

    /// The same, with what the journal has brought by itself.
    pub(super) async fn follow_others(&mut self, tail: Tail) {
        match tail {
            Tail::Events(events) => drop(self.follow_events(&mut [], &events, Instant::now())),
            Tail::Lapsed => {
                if let Err(error) = self.reload().await {
                    tracing::error!(%error, "cannot load what other nodes have changed; retrying");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        }
    }

    /// Reads which topics there are.
    async fn load_topics(&self) -> Result<TopicTable, TrackerError> {
        let mut topics = TopicTable::new(self.shared.topics().topics_max());
        let mut after = Seq::ZERO;
        loop {
            let page = self.shared.journal.live(ChannelKind::Topic, after, RESTORE_PAGE).await?;
            let Some(last) = page.last() else { return Ok(topics) };
            after = last.created;
            for stored in page {
                if stored.channel == *ChannelName::all_topics() {
                    stored.memo.iter().for_each(|memo| topics.restore_lost(memo, stored.last));
                    continue;
                }
                let at = stored.visible.map_or(Timestamp::default(), |event| event.at);
                topics.restore(stored.channel, LastEvent { seq: stored.last, at });
            }
        }
    }

    /// Brings into memory what requests are to be decided upon. Those for which that fails are refused.
    pub(super) async fn load_for(
        &mut self,
        requests: &mut Vec<Request>,
        missing: Vec<ChannelName>,
        is_missing: impl Fn(&Self, &Request) -> bool,
    ) {
        if let Err(error) = self.load(missing).await {
            for refused in requests.extract_if(.., |request| is_missing(self, request)) {
                refused.answer(Err(error.clone()));
            }
        }
    }

    /// What is asked about and is not in memory. A new task is not looked for: that there is none is a condition of its
    /// group.
    pub(super) fn missing(&self, request: &Request) -> impl Iterator<Item = ChannelName> + use<> {
        let (row, user) = match &request.ask {
            Ask::Task(_, Intent::Create { key, new, .. }) => {
                let is_shared = self.shared.own_node.is_some();
                let user = is_shared.then(|| self.shared.table().counted_user(new)).flatten();
                (key.map(ChannelName::key), user)
            }
            Ask::Task(id, _) => (Some(ChannelName::task(*id)), None),
            Ask::Events(EventAsk::User(user, _), key) => (key.map(EventKey::channel), Some(user.clone())),
            Ask::Events(_, key) => (key.map(EventKey::channel), None),
            Ask::Forget(..) | Ask::CatchUp => (None, None),
        };
        let row = row.filter(|channel| self.shared.table().row(channel).is_none());
        let user = user.filter(|user| self.shared.people().last(user).is_none());
        row.into_iter().chain(user)
    }

    /// The task that a request may have made before, if it is not in memory, and may find no room as one of so many.
    pub(super) fn made(&self, request: &Request, count: usize) -> Option<ChannelName> {
        let Ask::Task(id, Intent::Create { new, key, .. }) = &request.ask else { return None };
        let table = self.shared.table();
        if !table.is_nearly_full(count, new.user_id.as_deref()) {
            return None;
        }
        let made = match key.and_then(|key| table.row(&ChannelName::key(key))) {
            Some(Row::Key(Keyed::Task(made))) => ChannelName::task(*made),
            _ => ChannelName::task(*id),
        };
        table.row(&made).is_none().then_some(made)
    }

    /// Reads who is known.
    async fn load_people(&self) -> Result<PeopleTable, TrackerError> {
        let mut people = PeopleTable::new(self.shared.people().users_max());
        let mut after = Seq::ZERO;
        loop {
            let page = self.shared.journal.live(ChannelKind::User, after, RESTORE_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.created;
            page.iter().for_each(|stored| restore_user(&mut people, stored));
        }
        people.forget_strangers();
        Ok(people)
    }

    /// Reads the whole live table from the journal.
    pub(super) async fn reload(&mut self) -> Result<(), TrackerError> {
        // Before anything is read: of what begins meanwhile, the next append tells.
        let (begun, epoch) = (self.shared.journal.epochs().begun(), self.shared.journal.epochs().of(Seq(u64::MAX)));
        let head = self.shared.journal.head().await?;
        let mut table = Table::new(*self.shared.table().policy());
        let mut after = Seq::ZERO;
        loop {
            let page = self.shared.journal.live(ChannelKind::Task, after, RESTORE_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.created;
            for stored in page {
                let row = row(&stored);
                table.restore(stored.channel, row, stored.last);
            }
        }
        let topics = self.load_topics().await?;
        let counted = self.shared.journal.count(ChannelKind::Task, Member::Status).await?;
        self.shared.lists.reset(&counted, head);
        let (people, nodes) = (self.load_people().await?, self.load_nodes().await?);
        *self.shared.people_mut() = people;
        *self.shared.table_mut() = table;
        *self.shared.topics_mut() = topics;
        self.shared.set_nodes(nodes);
        let may_go_on = !self.shared.journal.epochs().may_have_lost(&self.begun, self.head);
        self.head = head;
        self.begun = begun;
        self.shared.journal.adopt(epoch);
        self.let_streams_go_on(may_go_on).await;
        self.shared.work.send_replace(());
        self.shared.facts.send_replace(());
        self.shared.holders.notify_all();
        self.forget_folded();
        Ok(())
    }

    /// Gives streams what they have missed, up to the head; or ends them, so that their clients resume by their cursors.
    async fn let_streams_go_on(&self, may_go_on: bool) {
        let registry = &self.shared.registry;
        registry.advance(self.head);
        let watched = registry.watched();
        let mut wakes = Vec::new();
        let mut is_whole = may_go_on;
        for channels in watched.chunks(HISTORIES_PAGE) {
            is_whole = is_whole
                && match self.shared.histories(channels).await {
                    Ok(histories) => {
                        let read = channels.iter().zip(histories);
                        wakes.extend(read.map(|(channel, history)| registry.make_up(channel, history)));
                        true
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read what streams have missed; they are closed");
                        false
                    }
                };
        }
        if !is_whole {
            return registry.begin_anew(self.head);
        }
        // Before anything is said to be published that is of groups that were just joined.
        self.shared.members.notice_all();
        registry.publish_through(self.head);
    }
}

fn is_ahead(stored: &[Option<Stored>], head: Seq) -> bool {
    stored.iter().flatten().any(|stored| stored.last > head)
}

/// Puts in what the store keeps of a user, or notes where the channel of one who is not known ends.
fn restore_user(people: &mut PeopleTable, stored: &Stored) {
    let Some(memo) = &stored.memo else { return people.note_stranger(stored.channel.clone(), stored.last) };
    if let Err(error) = people.restore(&stored.channel, memo, stored.last) {
        tracing::error!(channel = %stored.channel, %error, "this version cannot read a user; they are left as they are");
    }
}

/// The row of a channel as the store keeps it.
fn row(stored: &Stored) -> Row {
    let read = match (stored.channel.kind(), &stored.memo) {
        _ if stored.gone => Some(Row::Gone),
        (ChannelKind::Key, Some(memo)) if stored.is_known() => Row::from_key_memo(stored.last, memo).ok(),
        (ChannelKind::Task, _) => reads::entry(stored).ok().map(|entry| Row::Task(entry.into())),
        _ => None,
    };
    read.unwrap_or_else(|| {
        tracing::error!(channel = %stored.channel, seq = stored.last.0, "this version cannot read a channel; it is left as it is");
        Row::Unreadable
    })
}
