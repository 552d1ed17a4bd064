//! The library's own tables, as SQL for a service's migrations.
//!
//! Copy the text into migrations of your own and grant what each role needs; a test of this workspace holds
//! its migrations to these texts.

/// Tables `outbox` and `heartbeat` and the publication `outbox`: for a service that publishes.
pub const OUTBOX: &str = include_str!("../schema/outbox.sql");

/// What the roles need that append and that Debezium connects as, and no more: `writer_role` and `cdc_role` stand for their
/// names.
pub const OUTBOX_GRANTS: &str = include_str!("../schema/outbox_grants.sql");

/// Table `outbox_identity`: for a service that keeps its outbox by the feature `keeper`.
pub const KEEPER: &str = include_str!("../schema/keeper.sql");

/// What the role needs that keeps an outbox and its service's inbox, and no more: `keeper_role` stands for its name.
pub const KEEPER_GRANTS: &str = include_str!("../schema/keeper_grants.sql");

/// Tables `inbox`, `epoch`, `dead_letter`, `blocked_key` and `discarded_dead_letter`: for a service that listens.
pub const INBOX: &str = include_str!("../schema/inbox.sql");

/// What the role of a service that listens, and of whoever looks after its dead letters, needs of these tables, and no more:
/// `listener_role` stands for its name. Beside it the role needs what its handler does, and to insert into `outbox` if that
/// publishes. A right that is missing is noticed when it is needed, such as by the first dead letter: the listener then says so and
/// waits for it.
pub const INBOX_GRANTS: &str = include_str!("../schema/inbox_grants.sql");

#[cfg(test)]
mod tests {
    /// What the README shows is what there is.
    #[test]
    fn the_readme_shows_the_outbox_table_as_it_is() {
        let readme =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"))
                .unwrap();
        let shown = readme
            .split("```sql\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let lines = super::OUTBOX
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"));
        let table: Vec<&str> = lines
            .skip_while(|line| line.is_empty())
            .take_while(|line| !line.is_empty())
            .collect();
        assert_eq!(shown.trim_end(), table.join("\n"));
    }
}
