//! Slow, huge, broken, silent and vanishing clients, more of them than the service takes connections, while others place
//! orders.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use serde_json::{Value, json};
use stack::testing::{Binary, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

use crate::world::World;
use crate::world::memory::memory;

const PRICE: i32 = 6;
/// Concurrent hostile clients of each kind; all kinds together exceed [`CONNECTIONS`].
const EACH: usize = 40;
/// Connections that the service accepts concurrently.
const CONNECTIONS: &str = "200";
/// Clients that place orders meanwhile; every other one opens a connection per order.
const HONEST: usize = 8;
/// The time after which no hostile client may have its connection. The service's own limits are 1 s and 4 s.
const CLOSED: Duration = Duration::from_secs(20);
/// The time within which an honest order must be answered on the busy machine.
const ANSWERED: Duration = Duration::from_secs(8);
/// The maximum memory of the service in kB.
const MEMORY: u64 = 64 * 1024;
const PACE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn hostile_clients_get_a_4xx_or_503_or_are_closed_and_disturb_no_honest_one() {
    let world = World::new().await;
    let group = format!("hostile-{}", Uuid::now_v7().simple());
    let settings = [
        ("KAFKA__GROUP", group.as_str()),
        ("KAFKA__NAME", "hostile"),
        ("HTTP__MAX_CONNECTIONS", CONNECTIONS),
        ("HTTP__HEADER_TIMEOUT_MS", "1000"),
        ("HTTP__REQUEST_TIMEOUT_MS", "4000"),
    ];
    let service = Service::start(world.stack, Binary::Order, &settings).await;
    let wanted = world.product(PRICE, 1_000_000).await;
    let coveted = world.product(PRICE, 1_000_000).await;
    // It opens its database connections before the attack takes its time.
    let health = format!("{}/health/ready", service.url);
    join_all((0..2 * HONEST).map(|_| world.http.get(&health).send())).await;
    let before = memory(service.id());

    let over = AtomicBool::new(false);
    // Before the attack: a client reads the machine's certificates, and no other one sends anything meanwhile.
    let clients: Vec<reqwest::Client> = (0..HONEST).map(client).collect();
    let honest = join_all(clients.into_iter().map(|client| {
        let (world, service, over) = (&world, &service, &over);
        async move { place_orders(world, &service.url, wanted, client, over).await }
    }));
    let hostile = async {
        let address = service
            .url
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap();
        let clients = Attack::ALL.iter().flat_map(|attack| {
            (0..attack.clients()).map(move |number| async move {
                (*attack, attack.run(address, coveted, number).await)
            })
        });
        let answers = join_all(clients).await;
        over.store(true, Ordering::Relaxed);
        answers
    };
    let peak = async {
        let mut peak = 0;
        while !over.load(Ordering::Relaxed) {
            peak = peak.max(memory(service.id()));
            tokio::time::sleep(PACE).await;
        }
        peak
    };
    let (orders, (answers, peak)) = join(honest, join(hostile, peak)).await;

    let mut seen: BTreeMap<(Attack, String), usize> = BTreeMap::new();
    for (attack, answer) in answers {
        let status = statuses(&answer);
        assert!(
            status
                .iter()
                .all(|code| (400..500).contains(code) || *code == 503),
            "{attack:?}: {answer}"
        );
        let status = status.last().map_or("closed".to_owned(), u16::to_string);
        *seen.entry((attack, status)).or_default() += 1;
    }
    for ((attack, status), count) in seen {
        println!("{attack:?}: {count} x {status}");
    }
    assert_eq!(world.stored(coveted).await, 0, "no hostile order is stored");

    let mut times: Vec<Duration> = orders.into_iter().flatten().collect();
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{} honest orders meanwhile, each answered 201: median {median:.1?}, longest {longest:.1?}; memory {before} kB \
         before, {peak} kB at most",
        times.len()
    );
    assert!(times.len() > 5 * HONEST, "only {} orders", times.len());
    assert!(longest < ANSWERED, "{longest:?}");
    assert!(peak < MEMORY, "{peak} kB");
    assert!(service.terminate().success());
    world.invariant_holds().await;
}

/// Every other one keeps its connection.
fn client(number: usize) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(number % 2)
        .build()
        .unwrap()
}

/// Places orders one after the other until `over` is set, and checks the service's health between them; each order must be
/// accepted. Returns the time of each.
async fn place_orders(
    world: &World,
    url: &str,
    product: Uuid,
    client: reqwest::Client,
    over: &AtomicBool,
) -> Vec<Duration> {
    let body =
        json!({ "product_id": product, "estimated_price": PRICE, "quantity": 1 }).to_string();
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let order = client.post(format!("{url}/orders")).body(body.clone());
        let answer = order.send().await.unwrap();
        let status = answer.status();
        let placed: Value = answer.json().await.unwrap();
        assert_eq!(status, 201, "{placed}");
        times.push(began.elapsed());
        world.adopt(placed["id"].as_str().unwrap().parse().unwrap());
        let health = client.get(format!("{url}/health/ready")).send();
        assert_eq!(health.await.unwrap().status(), 200);
        // Each is checked at the end, so hundreds are enough.
        tokio::time::sleep(PACE / 2).await;
    }
    times
}

/// The statuses of all answers that a client received.
fn statuses(answer: &str) -> Vec<u16> {
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|rest| rest[..3].parse().unwrap())
        .collect()
}

/// The behaviour of a hostile client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    Silent,
    SlowHead,
    SlowBody,
    HugeHead,
    HugeBody,
    HugeChunks,
    Broken,
    Garbage,
    HalfClosed,
    Vanishing,
    NeverReading,
}

impl Attack {
    const ALL: [Self; 11] = [
        Self::Silent,
        Self::SlowHead,
        Self::SlowBody,
        Self::HugeHead,
        Self::HugeBody,
        Self::HugeChunks,
        Self::Broken,
        Self::Garbage,
        Self::HalfClosed,
        Self::Vanishing,
        Self::NeverReading,
    ];

    fn clients(self) -> usize {
        match self {
            // Each makes the service compute a thousand answers before the kernel's buffers are full.
            Self::NeverReading => EACH / 4,
            _ => EACH,
        }
    }

    /// Attacks until the service closes the connection or the client leaves; returns the answers.
    async fn run(self, address: SocketAddr, product: Uuid, number: usize) -> String {
        let attack = async {
            let mut client = connect(address).await;
            // The service would accept this order if it were not one byte short.
            let order = json!({ "product_id": product, "estimated_price": PRICE, "quantity": 1 });
            let (order, mut got) = (order.to_string(), Vec::new());
            let (mut read, mut write) = client.split();
            let writing = self.write(&mut write, &order, number);
            if matches!(self, Self::Vanishing | Self::NeverReading) {
                writing.await;
                return String::new();
            }
            // After a reset, the bytes received before it count.
            tokio::select! {
                _ = read.read_to_end(&mut got) => {}
                () = async { writing.await; std::future::pending().await } => {}
            }
            String::from_utf8_lossy(&got).into_owned()
        };
        tokio::time::timeout(CLOSED, attack)
            .await
            .unwrap_or_else(|_| panic!("{self:?} still has its connection after {CLOSED:?}"))
    }

    /// Writes until it is done or the connection is closed.
    async fn write(self, to: &mut WriteHalf<'_>, order: &str, number: usize) {
        let head = |length: usize| {
            format!("POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
        };
        let (megabyte, slowly) = ("x".repeat(1024 * 1024), Some(PACE));
        match self {
            Self::Silent => {}
            Self::SlowHead => {
                let _ = send(to, "POST /orders HTTP/1.1\r\nhost: x\r\n", 1, None).await;
                let _ = send(to, "x: y\r\n", usize::MAX, slowly).await;
            }
            Self::SlowBody => {
                let _ = send(to, &head(order.len() + 1_000), 1, None).await;
                let _ = send(to, order, 1, None).await;
                let _ = send(to, " ", 999, slowly).await;
            }
            Self::HugeHead => {
                let _ = send(to, "POST /orders HTTP/1.1\r\nhost: x\r\nx: ", 1, None).await;
                let _ = send(to, &megabyte, 10, None).await;
            }
            Self::HugeBody => {
                let _ = send(to, &head(10 * megabyte.len()), 1, None).await;
                let _ = send(to, &megabyte, 10, None).await;
            }
            Self::HugeChunks => {
                let head = "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = send(to, head, 1, None).await;
                let _ = send(to, &format!("100000\r\n{megabyte}\r\n"), 10, None).await;
            }
            Self::Broken => {
                let request = BROKEN[number % BROKEN.len()].replace("{order}", order);
                let _ = send(to, &request, 1, None).await;
                // Some are answered and could continue; they do not.
                let _ = to.shutdown().await;
            }
            Self::Garbage => {
                let garbage: Vec<u8> = (0..64).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
                let _ = to.write_all(&garbage).await;
            }
            Self::HalfClosed => {
                let _ = send(to, &head(order.len() + 1), 1, None).await;
                let _ = send(to, order, 1, None).await;
                let _ = to.shutdown().await;
            }
            Self::Vanishing => {
                let _ = send(to, &head(order.len() + 1), 1, None).await;
                let _ = send(to, order, 1, None).await;
            }
            Self::NeverReading => {
                let request = "GET /orders/none HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50);
                let _ = send(to, &request, usize::MAX, slowly).await;
            }
        }
    }
}

/// Requests that no client should send.
const BROKEN: [&str; 10] = [
    "\r\n\r\n\r\n\r\n",
    "POST\r\n\r\n",
    "POST /orders HTTP/9.9\r\nhost: x\r\n\r\n",
    "POST /orders HTTP/1.1\r\nno colon\r\n\r\n",
    "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n{order}",
    "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{order}",
    "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{order}",
    "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{order}",
    "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{order}\r\n0\r\n\r\n",
    "POST /orders HTTP/1.1\r\nhost: x\r\n\0: y\r\n\r\n{order}",
];

/// Connects with a small receive buffer, so that a client that does not read is noticed early.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// Writes `text` `times` times, with a pause after each.
async fn send(
    to: &mut WriteHalf<'_>,
    text: &str,
    times: usize,
    pause: Option<Duration>,
) -> std::io::Result<()> {
    for _ in 0..times {
        to.write_all(text.as_bytes()).await?;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}
