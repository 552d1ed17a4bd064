//! The bounded contexts and their database roles.

/// A bounded context of the flow, with a database and roles of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Takes orders.
    Order,
    /// Reserves stock.
    Inventory,
}

impl Context {
    /// The prefix of its roles, databases and connectors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
        }
    }

    /// Its roles. The first one owns its database.
    #[must_use]
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Order => &["order_owner", "order_service", "order_cdc", "order_keeper"],
            Self::Inventory => &[
                "inventory_owner",
                "inventory_service",
                "inventory_worker",
                "inventory_cdc",
                "inventory_keeper",
            ],
        }
    }

    /// The SQL that creates the roles.
    pub(crate) fn roles_sql(self) -> &'static str {
        match self {
            Self::Order => include_str!("../../../migrations/order/roles.sql"),
            Self::Inventory => include_str!("../../../migrations/inventory/roles.sql"),
        }
    }
}
