//! A participant that speaks protoo over a WebSocket, without media of its own: enough for synthetic nodes.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use roost_proto::redirect::SignalingQuery;
use roost_proto::signaling::{Frame, Refusal, SUBPROTOCOL};

use crate::Trouble;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

/// What the door says to somebody who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Welcome {
    Admitted { epoch: u64 },
    Redirected { node: String },
    Refused { code: String },
}

/// One connected participant.
#[derive(Debug)]
pub struct Participant {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u32,
    /// Frames that came while something else was waited for.
    kept: VecDeque<Frame>,
    /// How the server ended the connection.
    pub closed: Option<Closed>,
    /// The redirects that were followed.
    pub redirects: u8,
}

impl Participant {
    /// Connects to a complete URL.
    pub async fn connect(url: &str) -> Result<Self, Trouble> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        let (socket, response) = connect_async(request).await?;
        if response.headers().get("Sec-WebSocket-Protocol").map(HeaderValue::as_bytes) != Some(SUBPROTOCOL.as_bytes()) {
            return Err("the server did not echo the subprotocol".into());
        }
        Ok(Self { socket, next_id: 1, kept: VecDeque::new(), closed: None, redirects: 0 })
    }

    /// Connects, and follows redirects as a client should.
    pub async fn arrive(url: &str) -> Result<Self, Trouble> {
        let mut url = url.to_owned();
        loop {
            let mut participant = Self::connect(&url).await?;
            participant.redirects = SignalingQuery::parse(url.split_once('?').map_or("", |(_, query)| query)).redirects;
            match participant.ask("getRouterRtpCapabilities", json!({})).await {
                Ok(_) => return Ok(participant),
                Err(trouble) => match participant.take("redirect") {
                    Some(redirect) => {
                        url = redirect["location"].as_str().ok_or("a redirect without location")?.to_owned()
                    }
                    None => return Err(format!("{trouble}, {:?} {:?}", participant.closed, participant.kept).into()),
                },
            }
        }
    }

    /// Waits for what the door says.
    pub async fn welcome(&mut self) -> Result<Welcome, Trouble> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        loop {
            if let Some(version) = self.take("mediasoup-version") {
                return Ok(Welcome::Admitted { epoch: version["epoch"].as_u64().ok_or("an admission has no epoch")? });
            }
            if let Some(redirect) = self.take("redirect") {
                return Ok(Welcome::Redirected { node: text(&redirect["node"]) });
            }
            if let Some(problem) = self.take("error") {
                return Ok(Welcome::Refused { code: text(&problem["code"]) });
            }
            let frame = self.next().await?;
            self.kept.push_back(frame);
        }
    }

    /// Asks and waits for the answer; what comes in between is kept, the server's requests are answered.
    pub async fn ask(&mut self, method: &str, data: Value) -> Result<Value, Trouble> {
        self.ask_or_refusal(method, data).await?.map_err(|refusal| format!("{method}: {refusal}").into())
    }

    /// The same, where a refusal is expected.
    pub async fn ask_or_refusal(&mut self, method: &str, data: Value) -> Result<Result<Value, Refusal>, Trouble> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&Frame::Request { id, method: method.to_owned(), data }).await?;
        loop {
            match self.next().await? {
                Frame::Response { id: answered, result } if answered == id => return Ok(result),
                frame => self.kept.push_back(frame),
            }
        }
    }

    /// Waits for a notification or request of this method and gives its data.
    pub async fn expect(&mut self, method: &str) -> Result<Value, Trouble> {
        loop {
            if let Some(data) = self.take(method) {
                return Ok(data);
            }
            let frame = self.next().await?;
            self.kept.push_back(frame);
        }
    }

    /// A kept notification or request of this method.
    pub fn take(&mut self, method: &str) -> Option<Value> {
        let is_it = |frame: &Frame| match frame {
            Frame::Notification { method: found, .. } | Frame::Request { method: found, .. } => found == method,
            Frame::Response { .. } => false,
        };
        let at = self.kept.iter().position(is_it)?;
        match self.kept.remove(at)? {
            Frame::Notification { data, .. } | Frame::Request { data, .. } => Some(data),
            Frame::Response { .. } => None,
        }
    }

    /// Joins with the capabilities of the room's router, consuming everything.
    pub async fn join(&mut self, name: &str) -> Result<Value, Trouble> {
        let capabilities = self.ask("getRouterRtpCapabilities", json!({})).await?;
        let transport = json!({"forceTcp": false, "producing": false, "consuming": true, "sctpCapabilities": {}});
        self.ask("createWebRtcTransport", transport).await?;
        let device = json!({"flag": "test", "name": "test", "version": "1"});
        let join = json!({"displayName": name, "device": device, "rtpCapabilities": capabilities});
        self.ask("join", join).await
    }

    /// Waits until the server closes the connection.
    pub async fn closed(&mut self) -> Result<Closed, Trouble> {
        loop {
            if let Some(closed) = &self.closed {
                return Ok(closed.clone());
            }
            match self.next().await {
                Ok(frame) => self.kept.push_back(frame),
                Err(trouble) if self.closed.is_none() => return Err(trouble),
                Err(_) => {}
            }
        }
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: String) -> Result<(), Trouble> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), Trouble> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    /// Closes as a client that leaves.
    pub async fn leave(mut self) -> Result<(), Trouble> {
        Ok(self.socket.close(None).await?)
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Trouble> {
        self.send_text(frame.to_text()).await
    }

    /// The next frame; the server's own requests are answered with ok on the way, and kept like notifications.
    async fn next(&mut self) -> Result<Frame, Trouble> {
        loop {
            let message = timeout(ANSWER_WITHIN, self.socket.next()).await.map_err(|_| "the server is silent")?;
            let text = match message.ok_or("the connection ended without a close")?? {
                Message::Text(text) => text,
                Message::Close(frame) => {
                    let closed =
                        frame.map(|frame| Closed { code: frame.code.into(), reason: frame.reason.to_string() });
                    self.closed = Some(closed.unwrap_or(Closed { code: 1005, reason: String::new() }));
                    return Err(format!("the server closed: {:?}", self.closed).into());
                }
                _ => continue,
            };
            let frame = Frame::parse(&text)?;
            if let Frame::Request { id, .. } = &frame {
                self.send(&Frame::Response { id: *id, result: Ok(json!({})) }).await?;
            }
            return Ok(frame);
        }
    }
}
