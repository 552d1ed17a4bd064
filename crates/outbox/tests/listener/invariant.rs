//! The invariants of a case: those that hold at any time, and the exact result at the end, as sets of ids.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::cluster::Cluster;
use crate::handler::Script;

/// Violations, each as a text: dead letters of a key that is not blocked, blocked keys without dead letters, events with more
/// than one outcome, and outcomes without an inbox row. One statement, so that it reads one snapshot.
const VIOLATIONS: &str = "
    select 'dead letter ' || id || ' of a key that is not blocked' from dead_letter
    where key is not null
          and not exists (select from blocked_key
                          where blocked_key.listener = dead_letter.listener and blocked_key.topic = dead_letter.topic
                                and blocked_key.key_digest = dead_letter.key_digest)
    union all
    select 'blocked key ' || encode(key_digest, 'hex') || ' without dead letters' from blocked_key
    where not exists (select from dead_letter
                      where blocked_key.listener = dead_letter.listener and blocked_key.topic = dead_letter.topic
                            and blocked_key.key_digest = dead_letter.key_digest)
    union all
    select 'applied twice: ' || id from note group by listener, id having count(*) > 1
    union all
    select 'discarded twice: ' || id from discarded_dead_letter group by listener, id having count(*) > 1
    union all
    select 'applied and a dead letter: ' || id from note join dead_letter using (listener, id)
    union all
    select 'applied and discarded: ' || id from note join discarded_dead_letter using (listener, id)
    union all
    select 'a dead letter and discarded: ' || id from dead_letter join discarded_dead_letter using (listener, id)
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
    let unexpected: Vec<&T> = found.difference(expected).collect();
    if lost.is_empty() && unexpected.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{what}: missing {lost:?}, unexpected {unexpected:?}"
    ))
}

/// The ids as a set; an error if one occurs twice.
fn once(what: &str, ids: Vec<Uuid>) -> Result<BTreeSet<Uuid>, String> {
    let mut set = BTreeSet::new();
    match ids.into_iter().find(|id| !set.insert(*id)) {
        Some(id) => Err(format!("{what}: {id} twice")),
        None => Ok(set),
    }
}

impl Cluster {
    /// The ids that a query over one listener's rows returns.
    async fn ids(&self, script: &Script, sql: &'static str) -> Vec<Uuid> {
        let ids = sqlx::query_scalar(sql).bind(&script.listener);
        ids.fetch_all(&self.pool).await.unwrap()
    }

    async fn inbox(&self, script: &Script) -> BTreeSet<Uuid> {
        let ids = self.ids(script, "select id from inbox where listener = $1");
        ids.await.into_iter().collect()
    }

    /// Checks the invariants that hold at any time.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let violations: Vec<String> = sqlx::query_scalar(VIOLATIONS)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        if !violations.is_empty() {
            return Err(violations.join("; "));
        }
        for script in &self.scripts {
            // Offsets first: the inbox can only have grown since.
            let committed = self.topic.committed_offsets(&self.group(script)).await;
            let inbox = self.inbox(script).await;
            for message in self.topic.records() {
                let passed = committed
                    .get(&message.partition)
                    .is_some_and(|offset| message.offset < *offset);
                if passed && !inbox.contains(&message.id) {
                    return Err(format!(
                        "{}: {committed:?} is committed past the unsettled {message:?}",
                        script.listener
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether all offsets are committed and there are no dead letters; the error says what is missing.
    pub(crate) async fn is_settled(&self) -> Result<(), String> {
        for script in &self.scripts {
            let dead_letters = self
                .ids(script, "select id from dead_letter where listener = $1")
                .await;
            let (committed, ends) = (
                self.topic.committed_offsets(&self.group(script)).await,
                self.topic.end_offsets(),
            );
            let unread = ends
                .iter()
                .any(|(partition, end)| committed.get(partition) != Some(end));
            if unread || !dead_letters.is_empty() {
                let name = &script.listener;
                return Err(format!(
                    "{name} has committed {committed:?} of {ends:?}, dead letters are {dead_letters:?}"
                ));
            }
        }
        Ok(())
    }

    /// Checks the exact result when everything is settled.
    pub(crate) async fn check_final(&self) -> Result<(), String> {
        let records = self.topic.records();
        let all: BTreeSet<Uuid> = records.iter().map(|message| message.id).collect();
        let undecodable = records.iter().filter(|message| !message.decodes);
        let expected_discarded: BTreeSet<Uuid> = undecodable
            .map(|message| message.id)
            .chain(self.always_failing.lock().unwrap().iter().copied())
            .collect();
        let applied: BTreeSet<Uuid> = all.difference(&expected_discarded).copied().collect();
        for script in &self.scripts {
            agree("the inbox", &self.inbox(script).await, &all)?;
            let notes = self
                .ids(
                    script,
                    "select id from note where listener = $1 order by seq",
                )
                .await;
            agree("applied", &once("applied", notes.clone())?, &applied)?;
            let published =
                "select (payload ->> 'of')::uuid from outbox where payload ->> 'listener' = $1";
            let published = once("published", self.ids(script, published).await)?;
            agree("published", &published, &applied)?;
            let discarded = "select id from discarded_dead_letter where listener = $1";
            let discarded = once("discarded", self.ids(script, discarded).await)?;
            agree("discarded", &discarded, &expected_discarded)?;

            let mut sent: BTreeMap<&[u8], Vec<Uuid>> = BTreeMap::new();
            for message in records.iter().filter(|m| applied.contains(&m.id)) {
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
        let remaining =
            "select (select count(*) from dead_letter) + (select count(*) from blocked_key)";
        let remaining: i64 = sqlx::query_scalar(remaining)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        if remaining != 0 {
            return Err(format!(
                "{remaining} rows of dead letters and blocked keys remain"
            ));
        }
        Ok(())
    }
}

impl Cluster {
    /// A summary for the test's output: it shows how much the plan exercised.
    pub(crate) async fn summary(&self) -> String {
        let sql = "
            select format('%s applied, %s discarded, %s dead letters, %s claims', (select count(*) from note),
                          (select count(*) from discarded_dead_letter), pg_sequence_last_value('dead_letter_seq_seq'),
                          (select sum(epoch) from epoch))";
        let counts: String = sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        format!("{} messages: {counts}", self.topic.records().len())
    }
}
