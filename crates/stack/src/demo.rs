//! The demo: four orders on the real stack, and the steps of each with their times.

mod clock;
mod order;
mod seen;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use uuid::Uuid;

use self::order::{Case, Demo, Product};
use crate::background::{self, Found};
use crate::description::Description;
use crate::home::command;
use crate::say;
use crate::session::Home;
use crate::stack::interrupted;
use crate::terminal::show;

/// Runs the demo on the stack that is up, or starts one and stops it afterwards: with `once` after the last order, else
/// at Ctrl-C.
///
/// # Errors
/// If the stack does not start, or an order does not reach its expected outcome.
pub async fn run(home: &Home, once: bool) -> Result<()> {
    match background::status(home)? {
        Found::Nothing => {}
        Found::NotReady => bail!(
            "the stack is starting or stopping; try again in a moment, or stop it with `{} down`",
            command()
        ),
        Found::Up(stack) => {
            prove(&stack).await?;
            show!(
                "\nThe stack was up before and stays up; `{} down` stops it.",
                command()
            );
            return Ok(());
        }
    }
    let (stack, _lock) = home.start().await?;
    let stop = interrupted()?;
    let outcome = tokio::select! {
        outcome = prove(stack.description()) => outcome,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    if let Ok(order) = &outcome
        && !once
    {
        show!("{}", invitation(stack.description(), *order));
        interrupted()?.await;
    }
    stack.stop().await;
    say!("everything is stopped");
    outcome.map(drop)
}

fn invitation(stack: &Description, order: Uuid) -> String {
    let Description {
        order_url,
        inventory_url,
        connect_url,
        ..
    } = stack;
    let body = json!({ "product_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "estimated_price": 25, "quantity": 1 });
    format!(
        "\nEverything stays up until Ctrl-C:\n{}\n\nTry:\n  curl -s {inventory_url}/products\n  \
         curl -s -X POST {order_url}/orders -H 'content-type: application/json' -d '{body}'\n  \
         curl -s {order_url}/orders/{order}\n  \
         curl -s {connect_url}/connectors/order-outbox/status",
        stack.addresses(),
    )
}

/// Places the orders; returns the confirmed one.
async fn prove(stack: &Description) -> Result<Uuid> {
    let mut demo = Demo::connect(stack).await?;
    let products = demo.products().await?;
    let Product {
        id,
        name,
        price,
        stock,
    } = products
        .into_iter()
        .max_by_key(|product| product.stock)
        .with_context(|| {
            format!(
                "there are no products; `{} down --clean` restores them",
                command()
            )
        })?;
    ensure!(
        stock >= 2,
        "too few pieces are left; `{} down --clean` restores the stock",
        command()
    );
    let cases = [
        Case {
            title: format!("2 x {name} at its price, from a stock of {stock}"),
            product: id,
            price,
            quantity: 2,
            reason: None,
        },
        Case {
            title: format!("{} x {name}, more than the stock", stock + 1),
            product: id,
            price,
            quantity: stock + 1,
            reason: Some("insufficient_stock"),
        },
        Case {
            title: format!("1 x {name} at an outdated price"),
            product: id,
            price: price + 1,
            quantity: 1,
            reason: Some("price_mismatch"),
        },
        Case {
            title: "1 x an unknown product".to_owned(),
            product: Uuid::now_v7(),
            price: 1,
            quantity: 1,
            reason: Some("product_not_found"),
        },
    ];
    let mut orders = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        show!("\n{}. {}", number + 1, case.title);
        let played = demo.play(case).await;
        orders.push(played.with_context(|| format!("order {} ({})", number + 1, case.title))?);
    }
    show!(
        "\nAll true: one order decreased the stock, three did not, and each has its expected outcome."
    );
    Ok(orders[0])
}
