//! What the catalog of a database says, as lines to compare.

use sqlx::ConnectOptions;

use crate::description::Database;

/// The schema of `database` as lines to compare: columns, constraints, indexes and publications of all tables. An invalid
/// index is marked.
///
/// # Panics
/// If the database does not answer.
pub async fn schema(database: &Database) -> Vec<String> {
    lines(
        database,
        "with ours as (select oid, relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r')
         select format('%s.%s %s %s default %s identity %s generated %s', relname, attname,
                       format_type(atttypid, atttypmod), case when attnotnull then 'not null' else 'null' end,
                       coalesce(pg_get_expr(adbin, adrelid), 'none'), attidentity, attgenerated)
         from pg_attribute join ours on ours.oid = attrelid
              left join pg_attrdef on adrelid = attrelid and adnum = attnum
         where attnum > 0 and not attisdropped
         union all
         select format('%s %s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
         from pg_constraint join ours on ours.oid = conrelid
         union all
         select pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' invalid' end
         from pg_index join ours on ours.oid = indrelid
         union all
         select format('publication %s of %s: %s %s %s %s', pubname, tablename, pubinsert, pubupdate, pubdelete, pubtruncate)
         from pg_publication_tables join pg_publication using (pubname)
         order by 1",
    )
    .await
}

/// The grants of each role on each table, column and sequence of `database`, as lines to compare.
///
/// # Panics
/// If the database does not answer.
pub async fn grants(database: &Database) -> Vec<String> {
    lines(
        database,
        "with granted as (
             select relname, '*' as attname, aclexplode(relacl) as entry from pg_class
             where relnamespace = 'public'::regnamespace
             union all
             select relname, attname, aclexplode(attacl) from pg_attribute join pg_class on pg_class.oid = attrelid
             where relnamespace = 'public'::regnamespace
         )
         select format('%s: %s on %s.%s', (entry).grantee::regrole, (entry).privilege_type, relname, attname)
         from granted
         order by 1",
    )
    .await
}

async fn lines(database: &Database, query: &'static str) -> Vec<String> {
    let read = async {
        let mut connection = database.superuser().connect().await?;
        sqlx::query_scalar(query).fetch_all(&mut connection).await
    };
    read.await
        .unwrap_or_else(|error| panic!("the catalog cannot be read: {error}"))
}
