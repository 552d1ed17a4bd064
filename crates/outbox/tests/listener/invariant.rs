//! What holds at any time, and what holds at the end, exactly, over sets of ids.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::clerk::Clerk;
use crate::office::Office;

/// Dead letters of a key that is not blocked, blocked keys without dead letters, dead letters that were applied too, and what is in neither
/// inbox; each as one text. One statement, so that it sees one moment.
const BROKEN: &str = "
    select 'letter ' || id || ' of a key that is not blocked' from dead_letter
    where key is not null
          and not exists (select from blocked_key
                          where blocked_key.listener = dead_letter.listener and blocked_key.topic = dead_letter.topic
                                and blocked_key.key_digest = dead_letter.key_digest)
    union all
    select 'blocked key ' || encode(key_digest, 'hex') || ' without letters' from blocked_key
    where not exists (select from dead_letter
                      where blocked_key.listener = dead_letter.listener and blocked_key.topic = dead_letter.topic
                            and blocked_key.key_digest = dead_letter.key_digest)
    union all
    select 'applied twice: ' || id from note group by listener, id having count(*) > 1
    union all
    select 'dropped twice: ' || id from discarded_dead_letter group by listener, id having count(*) > 1
    union all
    select 'applied and a letter: ' || id from note join dead_letter using (listener, id)
    union all
    select 'applied and dropped: ' || id from note join discarded_dead_letter using (listener, id)
    union all
    select 'a letter and dropped: ' || id from dead_letter join discarded_dead_letter using (listener, id)
    union all
    select 'not in the inbox: ' || id
    from (select listener, id from note
          union all select listener, id from dead_letter
          union all select listener, id from discarded_dead_letter) as effect
    where not exists (select from inbox where inbox.listener = effect.listener and inbox.id = effect.id)";

fn agree<T: std::fmt::Debug + Ord>(
    what: &str,
    found: &BTreeSet<T>,
    expected: &BTreeSet<T>,
) -> Result<(), String> {
    let lost: Vec<&T> = expected.difference(found).collect();
    let strange: Vec<&T> = found.difference(expected).collect();
    if lost.is_empty() && strange.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: missing {lost:?}, too many {strange:?}"))
}

/// As a set, none of which comes twice.
fn once(what: &str, ids: Vec<Uuid>) -> Result<BTreeSet<Uuid>, String> {
    let mut set = BTreeSet::new();
    match ids.into_iter().find(|id| !set.insert(*id)) {
        Some(id) => Err(format!("{what}: {id} twice")),
        None => Ok(set),
    }
}

impl Office {
    /// The ids of a statement over one listener's rows.
    async fn ids(&self, clerk: &Clerk, sql: &'static str) -> Vec<Uuid> {
        let ids = sqlx::query_scalar(sql).bind(&clerk.listener);
        ids.fetch_all(&self.pool).await.unwrap()
    }

    async fn inbox(&self, clerk: &Clerk) -> BTreeSet<Uuid> {
        let ids = self.ids(clerk, "select id from inbox where listener = $1");
        ids.await.into_iter().collect()
    }

    /// What holds at any time.
    pub(crate) async fn holds(&self) -> Result<(), String> {
        let broken: Vec<String> = sqlx::query_scalar(BROKEN)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        if !broken.is_empty() {
            return Err(broken.join("; "));
        }
        for clerk in &self.clerks {
            // Offsets first: the inbox may only have grown since.
            let committed = self.topic.committed(&self.group(clerk)).await;
            let inbox = self.inbox(clerk).await;
            for message in self.topic.carried() {
                let passed = committed
                    .get(&message.partition)
                    .is_some_and(|offset| message.offset < *offset);
                if passed && !inbox.contains(&message.id) {
                    return Err(format!(
                        "{}: {committed:?} is committed, but not settled is {message:?}",
                        clerk.listener
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether there is nothing left to do, or what.
    pub(crate) async fn is_settled(&self) -> Result<(), String> {
        for clerk in &self.clerks {
            let dead_letters = self
                .ids(clerk, "select id from dead_letter where listener = $1")
                .await;
            let (committed, ends) = (
                self.topic.committed(&self.group(clerk)).await,
                self.topic.ends(),
            );
            let behind = ends
                .iter()
                .any(|(partition, end)| committed.get(partition) != Some(end));
            if behind || !dead_letters.is_empty() {
                let name = &clerk.listener;
                return Err(format!(
                    "{name} has committed {committed:?} of {ends:?}, dead letters are {dead_letters:?}"
                ));
            }
        }
        Ok(())
    }

    /// What holds when everything is settled.
    pub(crate) async fn holds_at_the_end(&self) -> Result<(), String> {
        let carried = self.topic.carried();
        let all: BTreeSet<Uuid> = carried.iter().map(|message| message.id).collect();
        let undecodable = carried.iter().filter(|message| !message.decodes);
        let given_up: BTreeSet<Uuid> = undecodable
            .map(|message| message.id)
            .chain(self.hopeless.lock().unwrap().iter().copied())
            .collect();
        let applied: BTreeSet<Uuid> = all.difference(&given_up).copied().collect();
        for clerk in &self.clerks {
            agree("the inbox", &self.inbox(clerk).await, &all)?;
            let notes = self
                .ids(
                    clerk,
                    "select id from note where listener = $1 order by seq",
                )
                .await;
            agree("applied", &once("applied", notes.clone())?, &applied)?;
            let published =
                "select (payload ->> 'of')::uuid from outbox where payload ->> 'listener' = $1";
            let published = once("published", self.ids(clerk, published).await)?;
            agree("published", &published, &applied)?;
            let dropped = "select id from discarded_dead_letter where listener = $1";
            let dropped = once("dropped", self.ids(clerk, dropped).await)?;
            agree("dropped", &dropped, &given_up)?;

            let mut sent: BTreeMap<&[u8], Vec<Uuid>> = BTreeMap::new();
            for message in carried.iter().filter(|m| applied.contains(&m.id)) {
                let Some(key) = &message.key else { continue };
                let of_key = sent.entry(key).or_default();
                if !of_key.contains(&message.id) {
                    of_key.push(message.id);
                }
            }
            for (key, sent) in sent {
                let of_key: BTreeSet<Uuid> = sent.iter().copied().collect();
                let found: Vec<Uuid> = notes
                    .iter()
                    .copied()
                    .filter(|id| of_key.contains(id))
                    .collect();
                if found != sent {
                    return Err(format!("key {key:?}: sent {sent:?}, applied {found:?}"));
                }
            }
        }
        let rest = "select (select count(*) from dead_letter) + (select count(*) from blocked_key)";
        let rest: i64 = sqlx::query_scalar(rest)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        if rest != 0 {
            return Err(format!(
                "{rest} rows of dead letters and blocked keys are left"
            ));
        }
        Ok(())
    }
}

impl Office {
    /// What a case came to, for people: that much has happened shows that the plan was worth its time.
    pub(crate) async fn story(&self) -> String {
        let sql = "
            select format('%s applied, %s dropped, %s letters, %s claims', (select count(*) from note),
                          (select count(*) from discarded_dead_letter), pg_sequence_last_value('dead_letter_seq_seq'),
                          (select sum(epoch) from epoch))";
        let counts: String = sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        format!("{} messages: {counts}", self.topic.carried().len())
    }
}
