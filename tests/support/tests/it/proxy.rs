//! The proxy against a server that says everything twice.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chat_test_support::proxy::{Cut, Lost, Proxy, Trap};
use chat_test_support::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that answers `greeting` and then each piece that it gets, and tells how each of its
/// connections went.
struct Echo {
    address: SocketAddr,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Echo {
    async fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1000];
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                    loop {
                        let said = match stream.read(&mut buffer).await {
                            Ok(0) => "the end".to_owned(),
                            Ok(read) => {
                                String::from_utf8_lossy(buffer.get(..read).unwrap()).into_owned()
                            }
                            Err(error) => format!("{:?}", error.kind()),
                        };
                        let answer = stream.write_all(said.as_bytes()).await;
                        let over =
                            answer.is_err() || said == "the end" || said == "ConnectionReset";
                        let _ = tell.send(said);
                        if over {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    async fn hears(&mut self, expected: &str) {
        assert_eq!(
            wait::within("bytes at the echo", self.heard.recv())
                .await
                .unwrap(),
            expected
        );
    }
}

async fn connect(proxy: &Proxy, greeting: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    hears(&mut stream, greeting).await;
    stream
}

async fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn hears(stream: &mut TcpStream, expected: &str) {
    let mut buffer = vec![0; expected.len()];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&buffer), expected);
}

/// How a stream on which nothing more comes ends.
async fn ends(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn it_forwards_and_tells_each_end_of_the_other() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    says(&mut stream, "one").await;
    hears(&mut stream, "one").await;
    echo.hears("one").await;
    assert_eq!(proxy.connections(), 1);
    stream.shutdown().await.unwrap();
    echo.hears("the end").await;
    hears(&mut stream, "the end").await;
    assert_eq!(ends(&mut stream).await, Ok(0));
    assert_eq!(
        proxy.instead_of(echo.address, &format!("x://{}/y", echo.address)),
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
    echo.hears("the end").await;
    let mut stream = connect(&proxy, "hello").await;
    proxy.cut(Cut::Reset);
    assert_eq!(ends(&mut stream).await, Err(ErrorKind::ConnectionReset));
    echo.hears("ConnectionReset").await;
    connect(&proxy, "hello").await;
}

#[tokio::test]
async fn new_connections_are_refused_and_old_ones_go_on() {
    let echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut old = connect(&proxy, "hello").await;
    proxy.refuse();
    // The reset may be there before the connecting one has looked.
    let refused = match TcpStream::connect(proxy.address()).await {
        Ok(mut new) => ends(&mut new).await,
        Err(error) => Err(error.kind()),
    };
    assert_eq!(refused, Err(ErrorKind::ConnectionReset));
    says(&mut old, "one").await;
    hears(&mut old, "one").await;
    proxy.forward();
    connect(&proxy, "hello").await;
}

#[tokio::test]
async fn what_is_stalled_comes_later_and_whole() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    proxy.stall();
    says(&mut stream, "one").await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), echo.heard.recv())
            .await
            .is_err()
    );
    proxy.forward();
    hears(&mut stream, "one").await;
    hears(&mut new, "hello").await;
}

#[tokio::test]
async fn what_is_silent_stays_so_until_it_is_cut() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    let mut idle = connect(&proxy, "hello").await;
    proxy.silence();
    says(&mut stream, "lost").await;
    proxy.lost(1).await;
    proxy.forward();
    // A connection that lost nothing has noticed nothing.
    says(&mut idle, "one").await;
    hears(&mut idle, "one").await;
    echo.hears("one").await;
    // The other is dumb; its end does not come through either.
    says(&mut stream, "lost too").await;
    stream.shutdown().await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), echo.heard.recv())
            .await
            .is_err()
    );
    proxy.cut(Cut::Reset);
    echo.hears("ConnectionReset").await;
}

#[tokio::test]
async fn everything_may_be_late() {
    let echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    let mut stream = connect(&proxy, "hello").await;
    proxy.delay(Duration::from_millis(100));
    let begun = Instant::now();
    says(&mut stream, "one").await;
    hears(&mut stream, "one").await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn new_connections_may_lead_elsewhere() {
    let (one, other) = (Echo::start("one").await, Echo::start("other").await);
    let proxy = Proxy::start(one.address);
    let mut old = connect(&proxy, "one").await;
    proxy.point_to(other.address);
    connect(&proxy, "other").await;
    says(&mut old, "more").await;
    hears(&mut old, "more").await;
}

#[tokio::test]
async fn a_message_or_its_answer_is_lost() {
    let mut echo = Echo::start("hello").await;
    let proxy = Proxy::start(echo.address);
    for (lost, heard) in [(Lost::Message, "ConnectionReset"), (Lost::Answer, "do it")] {
        let trap = Trap::new("do it", "do it", lost);
        proxy.set_trap(trap.clone());
        let mut stream = connect(&proxy, "hello").await;
        says(&mut stream, "wait").await;
        hears(&mut stream, "wait").await;
        echo.hears("wait").await;
        assert!(!trap.has_sprung());
        says(&mut stream, "do it").await;
        assert_eq!(ends(&mut stream).await, Err(ErrorKind::ConnectionReset));
        trap.sprung().await;
        echo.hears(heard).await;
    }
    echo.hears("ConnectionReset").await;
    // It was for one message.
    let mut stream = connect(&proxy, "hello").await;
    says(&mut stream, "do it").await;
    hears(&mut stream, "do it").await;
}
