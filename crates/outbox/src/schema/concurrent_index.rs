//! An index that a migration builds concurrently, outside a transaction.
//!
//! An interrupted build leaves an invalid index under the name, and `if not exists` takes it for a good one. So the migration has one
//! form, from which the index is known: `create [unique] index concurrently if not exists NAME on [only] TABLE …`.

use sqlx::{AssertSqlSafe, PgConnection};

/// The index of a migration: its name and its table, as the statement writes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConcurrentIndex {
    name: String,
    table: String,
}

impl ConcurrentIndex {
    /// The index that `sql` builds; none if `sql` is anything but one such statement.
    pub(super) fn of(sql: &str) -> Option<Self> {
        let tokens = tokens(sql)?;
        let mut rest = tokens.as_slice();
        // A semicolon ends the statement; behind it would be a second one.
        if let Some(end) = rest.iter().position(|token| *token == ";") {
            if rest[end..].iter().any(|token| *token != ";") {
                return None;
            }
            rest = &rest[..end];
        }
        let mut takes = |word: &str| match rest {
            [first, others @ ..] if first.eq_ignore_ascii_case(word) => {
                rest = others;
                true
            }
            _ => false,
        };
        if !takes("create") {
            return None;
        }
        takes("unique");
        if !["index", "concurrently", "if", "not", "exists"]
            .into_iter()
            .all(&mut takes)
        {
            return None;
        }
        // A schema before the name is none of PostgreSQL's syntax: the index goes into that of its table.
        let [name, on, others @ ..] = rest else {
            return None;
        };
        if !is_name(name) || !on.eq_ignore_ascii_case("on") {
            return None;
        }
        let others = match others {
            [only, others @ ..] if only.eq_ignore_ascii_case("only") => others,
            others => others,
        };
        let table = match others {
            [schema, ".", table, ..] if is_name(schema) && is_name(table) => {
                format!("{schema}.{table}")
            }
            [table, ..] if is_name(table) => (*table).to_owned(),
            _ => return None,
        };
        let name = (*name).to_owned();
        Some(Self { name, table })
    }

    /// Drops what an interrupted build has left.
    pub(super) async fn drop_invalid(
        &self,
        database: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let invalid: Option<String> = sqlx::query_scalar(
            "select indexrelid::regclass::text from pg_index join pg_class on pg_class.oid = indexrelid
             where relname = (parse_ident($1))[1]::name and indrelid = to_regclass($2) and not indisvalid",
        )
        .bind(&self.name)
        .bind(&self.table)
        .fetch_optional(&mut *database)
        .await?;
        if let Some(index) = invalid {
            tracing::warn!(index, "dropping an invalid index, to build it again");
            let statement = format!("drop index concurrently {index}");
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(database)
                .await?;
        }
        Ok(())
    }
}

/// Whether a token is an identifier, quoted or not.
fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| {
        first.is_ascii_alphabetic() || first == '_' || first == '"' || !first.is_ascii()
    })
}

/// The statement in words, quoted identifiers, string literals and single characters, without comments and space. None if a quote or
/// a comment does not end.
fn tokens(sql: &str) -> Option<Vec<&str>> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if first.is_whitespace() => first.len_utf8(),
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => comment(rest)?,
            '\'' | '"' => quoted(rest, first)?,
            _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, others) = rest.split_at(length);
        if !(first.is_whitespace() || token.starts_with("--") || token.starts_with("/*")) {
            tokens.push(token);
        }
        rest = others;
    }
    Some(tokens)
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// The length of the quoted text that `sql` begins with; a doubled quote stands for one.
fn quoted(sql: &str, quote: char) -> Option<usize> {
    let mut end = 1;
    loop {
        end += sql[end..].find(quote)? + 1;
        if !sql[end..].starts_with(quote) {
            return Some(end);
        }
        end += 1;
    }
}

/// The length of the comment that `sql` begins with. PostgreSQL's comments nest.
fn comment(sql: &str) -> Option<usize> {
    let (mut end, mut depth) = (2, 1);
    while depth > 0 {
        let rest = &sql[end..];
        let (closes, opens) = (rest.find("*/")?, rest.find("/*").unwrap_or(rest.len()));
        depth = if opens < closes { depth + 1 } else { depth - 1 };
        end += opens.min(closes) + 2;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<(String, String)> {
        ConcurrentIndex::of(sql).map(|index| (index.name, index.table))
    }

    #[test]
    fn an_index_is_known_however_its_statement_is_written() {
        for (sql, name, table) in [
            (
                "-- no-transaction\n-- Why.\ncreate index concurrently if not exists a on t (b);\n",
                "a",
                "t",
            ),
            (
                "CREATE UNIQUE INDEX\n  CONCURRENTLY IF NOT EXISTS A ON ONLY public.t USING btree (b)",
                "A",
                "public.t",
            ),
            (
                "create index concurrently if not exists \"A \"\"; b\" on \"s x\".\"T\"(c) where d = 'x;y';;",
                "\"A \"\"; b\"",
                "\"s x\".\"T\"",
            ),
            (
                "create /* a /* nested */ one */ index concurrently if not exists a--;\non t(b)",
                "a",
                "t",
            ),
        ] {
            let expected = Some((name.to_owned(), table.to_owned()));
            assert_eq!(of(sql), expected, "{sql}");
        }
    }

    #[test]
    fn anything_but_one_index_is_none() {
        for sql in [
            "",
            "vacuum t",
            "create index a on t (b)",
            "create index concurrently a on t (b)",
            "create index if not exists a on t (b)",
            "create index concurrently if not exists s.a on t (b)",
            "create index concurrently if not exists on t (b)",
            "create index concurrently if not exists U&\"a\" on t (b)",
            "create index concurrently if not exists a on t (b); select 1",
            "create index concurrently if not exists a on t (b) where c = ';",
            "create index concurrently if not exists a on t (b) /* no end",
            "-- create index concurrently if not exists a on t (b)",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }
}
