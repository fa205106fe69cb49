//! The proxy with a server that echoes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chat_test_support::proxy::{Cut, Lost, Proxy, Trap};
use chat_test_support::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that sends `greeting`, echoes each piece, and reports how each connection ended.
struct Echo {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<String>,
}

impl Echo {
    async fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1000];
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                    loop {
                        let piece = match stream.read(&mut buffer).await {
                            Ok(0) => "the end".to_owned(),
                            Ok(read) => {
                                String::from_utf8_lossy(buffer.get(..read).unwrap()).into_owned()
                            }
                            Err(error) => format!("{:?}", error.kind()),
                        };
                        let answer = stream.write_all(piece.as_bytes()).await;
                        let over =
                            answer.is_err() || piece == "the end" || piece == "ConnectionReset";
                        let _ = tell.send(piece);
                        if over {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, received }
    }

    async fn expect(&mut self, expected: &str) {
        assert_eq!(
            wait::within("bytes at the echo", self.received.recv())
                .await
                .unwrap(),
            expected
        );
    }
}

async fn connect(proxy: &Proxy, greeting: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    expect(&mut stream, greeting).await;
    stream
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn expect(stream: &mut TcpStream, expected: &str) {
    let mut buffer = vec![0; expected.len()];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&buffer), expected);
}

/// Returns how a stream ends on which nothing more arrives.
async fn ends(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn bytes_and_ends_are_forwarded() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    send(&mut stream, "one").await;
    expect(&mut stream, "one").await;
    echo.expect("one").await;
    assert_eq!(proxy.connections(), 1);
    stream.shutdown().await.unwrap();
    echo.expect("the end").await;
    expect(&mut stream, "the end").await;
    assert_eq!(ends(&mut stream).await, Ok(0));
    assert_eq!(
        proxy.through(echo.address, &format!("x://{}/y", echo.address)),
        format!("x://{}/y", proxy.address())
    );
}

#[tokio::test]
async fn connections_are_cut_at_both_ends() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    proxy.cut(Cut::Close);
    assert_eq!(ends(&mut stream).await, Ok(0));
    echo.expect("the end").await;
    let mut stream = connect(&proxy, "hello").await;
    proxy.cut(Cut::Reset);
    assert_eq!(ends(&mut stream).await, Err(ErrorKind::ConnectionReset));
    echo.expect("ConnectionReset").await;
    connect(&proxy, "hello").await;
}

#[tokio::test]
async fn new_connections_are_refused_and_existing_ones_continue() {
    let echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut old = connect(&proxy, "hello").await;
    proxy.refuse();
    // The reset may arrive before the connection attempt returns.
    let refused = match TcpStream::connect(proxy.address()).await {
        Ok(mut new) => ends(&mut new).await,
        Err(error) => Err(error.kind()),
    };
    assert_eq!(refused, Err(ErrorKind::ConnectionReset));
    send(&mut old, "one").await;
    expect(&mut old, "one").await;
    proxy.forward();
    connect(&proxy, "hello").await;
}

#[tokio::test]
async fn stalled_bytes_arrive_later() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    proxy.stall();
    send(&mut stream, "one").await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), echo.received.recv())
            .await
            .is_err()
    );
    proxy.forward();
    expect(&mut stream, "one").await;
    expect(&mut new, "hello").await;
}

#[tokio::test]
async fn a_silent_connection_stays_silent_until_it_is_cut() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    let mut idle = connect(&proxy, "hello").await;
    proxy.silence();
    send(&mut stream, "lost").await;
    proxy.lost(1).await;
    proxy.forward();
    // A connection that lost nothing continues.
    send(&mut idle, "one").await;
    expect(&mut idle, "one").await;
    echo.expect("one").await;
    // The other connection is silent; its end is lost too.
    send(&mut stream, "lost too").await;
    stream.shutdown().await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), echo.received.recv())
            .await
            .is_err()
    );
    proxy.cut(Cut::Reset);
    echo.expect("ConnectionReset").await;
}

#[tokio::test]
async fn bytes_may_be_delayed() {
    let echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    proxy.delay(Duration::from_millis(100));
    let started = Instant::now();
    send(&mut stream, "one").await;
    expect(&mut stream, "one").await;
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn new_connections_may_use_another_server() {
    let (one, other) = (Echo::start("one").await, Echo::start("other").await);
    let proxy = Proxy::start(one.address);
    let mut old = connect(&proxy, "one").await;
    proxy.point_to(other.address);
    connect(&proxy, "other").await;
    send(&mut old, "more").await;
    expect(&mut old, "more").await;
}

#[tokio::test]
async fn a_trap_loses_a_message_or_its_answer() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    for (lost, received) in [(Lost::Message, "ConnectionReset"), (Lost::Answer, "do it")] {
        let trap = Trap::new("do it", "do it", lost);
        proxy.set_trap(trap.clone());
        let mut stream = connect(&proxy, "hello").await;
        send(&mut stream, "wait").await;
        expect(&mut stream, "wait").await;
        echo.expect("wait").await;
        assert!(!trap.has_triggered());
        send(&mut stream, "do it").await;
        assert_eq!(ends(&mut stream).await, Err(ErrorKind::ConnectionReset));
        trap.triggered().await;
        echo.expect(received).await;
    }
    echo.expect("ConnectionReset").await;
    // The trap triggered for one message only.
    let mut stream = connect(&proxy, "hello").await;
    send(&mut stream, "do it").await;
    expect(&mut stream, "do it").await;
}
