//! Roles: that they exist, what they are, and what they are granted.
//!
//! It checks least privilege from both sides: a missing grant stops a service, and a needless one is a difference too. What a role
//! has by membership in another counts as its own, as it does for PostgreSQL.
//!
//! A role that may replicate can read every table's changes by a slot of its own making, whatever its grants: that is PostgreSQL's rule,
//! and no check of a database can show it. The limits in `docs/architecture.md` say what follows.

use sqlx::PgConnection;

use super::grants::{grants, sequence};
use crate::specification::drift::{Drift, MIGRATE, compare, named};
use crate::specification::outbox::Specification;

/// Compares Debezium's role, the writers and the keeper.
pub(super) async fn check(
    specification: &Specification,
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
) -> Result<(), sqlx::Error> {
    let (cdc, keeper) = (&specification.settings.user, &specification.keeper);
    let has_cdc = debezium(database, drifts, cdc).await?;
    for writer in &specification.writers {
        if exists(database, drifts, writer).await? {
            grants(database, drifts, writer, "outbox", &["INSERT"]).await?;
        }
    }
    if !exists(database, drifts, keeper).await? {
        return Ok(());
    }
    let of_outbox = ["SELECT", "DELETE"];
    grants(database, drifts, keeper, "outbox", &of_outbox).await?;
    let of_identity = ["SELECT", "INSERT", "UPDATE"];
    grants(database, drifts, keeper, "outbox_identity", &of_identity).await?;
    sequence(database, drifts, keeper).await?;
    let listens: bool = sqlx::query_scalar("select to_regclass('public.inbox') is not null")
        .fetch_one(&mut *database)
        .await?;
    if listens {
        grants(database, drifts, keeper, "inbox", &["SELECT", "DELETE"]).await?;
    }
    if has_cdc {
        membership(database, drifts, keeper, cdc).await?;
    }
    Ok(())
}

/// Compares Debezium's role; says whether there is one.
async fn debezium(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
    cdc: &str,
) -> Result<bool, sqlx::Error> {
    let attributes: Option<(bool, bool, bool)> = sqlx::query_as(
        "select rolcanlogin, rolreplication, rolsuper or rolcreaterole or rolcreatedb or rolbypassrls
         from pg_roles where rolname = $1",
    )
    .bind(cdc)
    .fetch_optional(&mut *database)
    .await?;
    let (what, needed) = (format!("role {cdc}"), "LOGIN, REPLICATION");
    let Some((login, replication, more)) = attributes else {
        let remedy =
            format!("run as a superuser: create role \"{cdc}\" login replication; then {MIGRATE}");
        compare(drifts, what, needed, "no such role", &remedy);
        return Ok(false);
    };
    let found = named(&[
        (login, "LOGIN"),
        (replication, "REPLICATION"),
        (more, "more"),
    ]);
    let remedy = format!(
        "run as a superuser: alter role \"{cdc}\" login replication nosuperuser nocreaterole nocreatedb nobypassrls"
    );
    compare(drifts, what, needed, &found, &remedy);
    grants(database, drifts, cdc, "outbox", &["SELECT"]).await?;
    let of_heartbeat = ["SELECT", "INSERT", "DELETE"];
    grants(database, drifts, cdc, "heartbeat", &of_heartbeat).await?;
    Ok(true)
}

/// Whether a role exists; a missing one is a difference.
async fn exists(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
    role: &str,
) -> Result<bool, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(role)
            .fetch_one(database)
            .await?;
    if !exists {
        let remedy = format!("run as a superuser: create role \"{role}\" login; then {MIGRATE}");
        let what = format!("role {role}");
        compare(drifts, what, "a role", "no such role", &remedy);
    }
    Ok(exists)
}

/// Only a member of Debezium's role sees which process reads the slot. A keeper that is none removes no row.
async fn membership(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
    keeper: &str,
    cdc: &str,
) -> Result<(), sqlx::Error> {
    let sees: bool = sqlx::query_scalar("select pg_has_role($1::name, $2::name, 'usage')")
        .bind(keeper)
        .bind(cdc)
        .fetch_one(database)
        .await?;
    if !sees {
        compare(
            drifts,
            format!("role {keeper}"),
            &format!("a member of {cdc}"),
            "none",
            &format!(
                "run as a superuser: grant \"{cdc}\" to \"{keeper}\" with inherit true, set false"
            ),
        );
    }
    Ok(())
}
