//! A participant that keeps all it reads, in order.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::DEADLINE;

/// One WebSocket.
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u32,
    /// Every frame that was read.
    pub(super) log: Vec<Value>,
    /// Whether it answers `newConsumer` and `newDataConsumer`.
    pub(super) polite: bool,
}

/// One generation of the demo app.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Generation {
    First,
    Second,
}

impl Client {
    pub(super) async fn connect(address: &str, path: &str) -> Self {
        Self::try_connect(address, path, &[("sec-websocket-protocol", "protoo")]).await.expect("accepted")
    }

    pub(super) async fn try_connect(
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket, next: 1, log: Vec::new(), polite: true })
    }

    /// Does what the demo app does before it joins, and joins.
    pub(super) async fn join(&mut self, generation: Generation, name: &str) -> Value {
        let opus = json!([{"mimeType": "audio/opus", "clockRate": 48000, "channels": 2}, {"mimeType": "video/VP8"}]);
        let device = json!({"flag": "test", "name": "Test", "version": "1"});
        if generation == Generation::Second {
            assert_eq!(self.ask("getRtcStatsUrl", json!({})).await, json!({}));
        }
        self.ask("getRouterRtpCapabilities", json!({})).await;
        for (producing, direction) in [(true, "producer"), (false, "consumer")] {
            let data = match generation {
                Generation::First => json!({"forceTcp": false, "producing": producing, "consuming": !producing}),
                Generation::Second => json!({"forceTcp": false, "appData": {"direction": direction}}),
            };
            let made = self.ask("createWebRtcTransport", data).await;
            assert_eq!(made["id"], made["transportId"]);
        }
        let rtp_capabilities = json!({"codecs": opus});
        self.ask("join", json!({"displayName": name, "device": device, "rtpCapabilities": rtp_capabilities})).await
    }

    /// The transport that sends: it was made first.
    pub(super) fn sending(&self) -> String {
        let made = self.log.iter().find(|frame| frame["data"]["transportId"].is_string()).expect("a transport");
        made["data"]["transportId"].as_str().expect("a text").to_owned()
    }

    /// Produces; the producer's id.
    pub(super) async fn produce(&mut self, kind: &str, app_data: Value) -> String {
        let answer = self.ask("produce", produce(&self.sending(), kind, app_data)).await;
        assert_eq!(answer["id"], answer["producerId"]);
        answer["id"].as_str().expect("a text").to_owned()
    }

    /// Asks, and expects the answer.
    pub(super) async fn ask(&mut self, method: &str, data: Value) -> Value {
        let answer = self.request(method, data).await;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        answer["data"].clone()
    }

    /// Asks, and expects to be refused with this code.
    pub(super) async fn refused(&mut self, method: &str, data: Value) -> u64 {
        let answer = self.request(method, data).await;
        assert_eq!(answer["ok"], false, "{method}: {answer}");
        answer["errorCode"].as_u64().expect("a number")
    }

    async fn request(&mut self, method: &str, data: Value) -> Value {
        let id = self.send_request(method, data).await;
        self.frame(|frame| frame["response"] == true && frame["id"] == id).await
    }

    pub(super) async fn send_request(&mut self, method: &str, data: Value) -> u32 {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"request": true, "id": id, "method": method, "data": data}).to_string()).await;
        id
    }

    pub(super) async fn notify(&mut self, method: &str, data: Value) {
        self.send(&json!({"notification": true, "method": method, "data": data}).to_string()).await;
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub(super) async fn send_message(&mut self, message: Message) {
        // Fails when the node has closed the socket, which the test then sees.
        let _ = tokio::time::timeout(DEADLINE, self.socket.send(message)).await;
    }

    /// The data of the first request or notification of this method, also if it was read already.
    pub(super) async fn told(&mut self, method: &str) -> Value {
        self.frame(|frame| frame["method"] == method).await["data"].clone()
    }

    /// Reads until it was told this so often.
    pub(super) async fn told_times(&mut self, method: &str, times: usize) {
        while self.count(method) < times {
            let read = self.read().await;
            assert!(read.is_ok(), "closed after {} {method}", self.count(method));
        }
    }

    /// The first frame that fits, also if it was read already.
    pub(super) async fn frame(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(frame) = self.log.iter().find(|frame| fits(frame)) {
            return frame.clone();
        }
        loop {
            let Ok(frame) = self.read().await else { panic!("closed; was told {}", self.methods()) };
            if fits(&frame) {
                return frame;
            }
        }
    }

    /// Where in the log the first frame of this method is.
    pub(super) fn position(&self, method: &str) -> usize {
        self.log.iter().position(|frame| frame["method"] == method).unwrap_or_else(|| panic!("no {method}"))
    }

    /// Makes sure that everything the node had to tell by now was read.
    pub(super) async fn settle(&mut self) {
        assert_eq!(self.refused("nothing", json!({})).await, 404);
    }

    pub(super) fn count(&self, method: &str) -> usize {
        self.log.iter().filter(|frame| frame["method"] == method).count()
    }

    /// Reads until the node closes: code and reason.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(closed) = self.read().await {
                return closed;
            }
        }
    }

    /// For a failed test's message.
    fn methods(&self) -> String {
        let names = self.log.iter().map(|frame| frame["method"].as_str().unwrap_or("answer"));
        names.collect::<Vec<_>>().join(", ")
    }

    async fn read(&mut self) -> Result<Value, (u16, String)> {
        loop {
            let read = tokio::time::timeout(DEADLINE, self.socket.next()).await;
            let message = read.unwrap_or_else(|_| panic!("nothing came; was told {}", self.methods()));
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    self.log.push(frame.clone());
                    if self.polite && frame["request"] == true {
                        self.send(&json!({"response": true, "id": frame["id"], "ok": true, "data": {}}).to_string())
                            .await;
                    }
                    return Ok(frame);
                }
                Some(Ok(Message::Close(Some(close)))) => return Err((close.code.into(), close.reason.to_string())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err((0, error.to_string())),
                None => return Err((0, "no close frame".to_owned())),
            }
        }
    }
}

/// The data of a `produce`.
pub(super) fn produce(transport: &str, kind: &str, app_data: Value) -> Value {
    let codec = if kind == "audio" { "audio/opus" } else { "video/VP8" };
    let encodings = if kind == "audio" { json!([{}]) } else { json!([{}, {}, {}]) };
    let rtp_parameters = json!({"codecs": [{"mimeType": codec, "payloadType": 100}], "encodings": encodings});
    json!({"transportId": transport, "kind": kind, "rtpParameters": rtp_parameters, "appData": app_data})
}
