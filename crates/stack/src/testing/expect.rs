//! What holds of every context's database.

use sqlx::PgPool;
use sqlx::error::DatabaseError;

use super::catalog::{grants, schema};
use crate::description::Database;

/// PostgreSQL's code for a privilege that the role lacks.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Checks that `role` may execute none of `statements` in `database`.
///
/// # Panics
/// If the role may execute one, or one fails for another reason.
pub async fn denied(database: &Database, role: &str, statements: &[&'static str]) {
    let pool = PgPool::connect_with(database.options(role))
        .await
        .unwrap_or_else(|error| panic!("{role} cannot connect: {error}"));
    for statement in statements {
        let Err(error) = sqlx::query(*statement).execute(&pool).await else {
            panic!("{role} may execute {statement}");
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        assert_eq!(
            code.as_deref(),
            Some(INSUFFICIENT_PRIVILEGE),
            "{role}: {statement}: {error}"
        );
    }
}

/// Checks that `migrated` has the tables and grants of `library`, and beside them only those of the tables `own`.
///
/// # Panics
/// If they differ.
pub async fn holds(migrated: &Database, library: &Database, own: &[&str]) {
    let librarys = |lines: Vec<String>| -> Vec<String> {
        let is_own = |line: &String| own.iter().any(|table| line.contains(table));
        lines.into_iter().filter(|line| !is_own(line)).collect()
    };
    assert_eq!(librarys(schema(migrated).await), schema(library).await);
    assert_eq!(librarys(grants(migrated).await), grants(library).await);
}
