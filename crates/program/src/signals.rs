//! The signals that stop a program.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, signal};
use tokio_util::sync::CancellationToken;

pub use tokio::signal::unix::SignalKind;

/// What stops a program: Ctrl-C and its supervisor.
pub const STOP: [SignalKind; 2] = [SignalKind::interrupt(), SignalKind::terminate()];

/// Completes when the process receives one of `kinds`, from this call on. Call it within the runtime.
///
/// # Errors
/// If the process cannot listen to a signal.
pub fn first_of(
    kinds: impl IntoIterator<Item = SignalKind>,
) -> io::Result<impl Future<Output = ()> + Send> {
    let mut signals: Vec<Signal> = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
    Ok(poll_fn(move |context| {
        let received = |signal: &mut Signal| signal.poll_recv(context).is_ready();
        if signals.iter_mut().any(received) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }))
}

/// A token that the first SIGINT or SIGTERM cancels. Call it once, within the runtime.
///
/// # Errors
/// If the process cannot listen to a signal.
pub fn shutdown() -> io::Result<CancellationToken> {
    let stop = first_of(STOP)?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        stop.await;
        tracing::info!("stopping");
        cancelled.cancel();
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn either_signal_completes_it() {
        for (raised, both) in [
            (
                Signal::SIGHUP,
                [SignalKind::hangup(), SignalKind::user_defined1()],
            ),
            (
                Signal::SIGUSR1,
                [SignalKind::hangup(), SignalKind::user_defined1()],
            ),
        ] {
            let received = first_of(both).unwrap();
            raise(raised).unwrap();
            received.await;
        }
    }

    #[tokio::test]
    async fn sigterm_cancels_the_token() {
        let shutdown = shutdown().unwrap();
        raise(Signal::SIGTERM).unwrap();
        shutdown.cancelled().await;
    }
}
