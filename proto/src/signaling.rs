//! protoo, the JSON protocol of mediasoup-demo: requests, answers and notifications, either way.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The WebSocket subprotocol that clients ask for and servers must echo.
pub const SUBPROTOCOL: &str = "protoo";

/// The longest frame that a participant may send.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// One protoo frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    Request { id: u32, method: String, data: Value },
    Response { id: u32, result: Result<Value, Refusal> },
    Notification { method: String, data: Value },
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Refusal {
    /// Like an HTTP status: 4xx the caller's fault, 5xx ours.
    pub code: u16,
    pub reason: String,
}

/// A frame that is none.
#[derive(Debug, thiserror::Error)]
pub enum BadFrame {
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("neither request, response nor notification is true")]
    Kind,
    #[error("{field}: expected {expected}")]
    Field { field: &'static str, expected: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    request: bool,
    #[serde(default)]
    response: bool,
    #[serde(default)]
    notification: bool,
    id: Option<u32>,
    method: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    ok: bool,
    error_code: Option<u16>,
    error_reason: Option<String>,
}

impl Frame {
    /// Reads one text frame. Absent `data` reads as an empty object.
    pub fn parse(text: &str) -> Result<Self, BadFrame> {
        let raw: Raw = serde_json::from_str(text)?;
        let data = if raw.data.is_null() { Value::Object(serde_json::Map::new()) } else { raw.data };
        let id = raw.id.ok_or(BadFrame::Field { field: "id", expected: "a whole number, 0 to 4294967295" });
        let method = raw.method.filter(|method| !method.is_empty());
        let method = method.ok_or(BadFrame::Field { field: "method", expected: "the name of a method" });
        if raw.request {
            Ok(Self::Request { id: id?, method: method?, data })
        } else if raw.response {
            let result = if raw.ok {
                Ok(data)
            } else {
                Err(Refusal { code: raw.error_code.unwrap_or(500), reason: raw.error_reason.unwrap_or_default() })
            };
            Ok(Self::Response { id: id?, result })
        } else if raw.notification {
            Ok(Self::Notification { method: method?, data })
        } else {
            Err(BadFrame::Kind)
        }
    }

    /// A notification of `data`.
    pub fn notification(method: impl Into<String>, data: Value) -> Self {
        Self::Notification { method: method.into(), data }
    }

    /// The frame as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Request { id, method, data } => {
                let id = Some(*id);
                text(&Written { request: true, id, method: Some(method), data: Some(data), ..Written::default() })
            }
            Self::Response { id, result: Ok(data) } => {
                let id = Some(*id);
                text(&Written { response: true, id, ok: Some(true), data: Some(data), ..Written::default() })
            }
            Self::Response { id, result: Err(refusal) } => text(&Written {
                response: true,
                id: Some(*id),
                ok: Some(false),
                error_code: Some(refusal.code),
                error_reason: Some(&refusal.reason),
                ..Written::default()
            }),
            Self::Notification { method, data } => {
                text(&Written { notification: true, method: Some(method), data: Some(data), ..Written::default() })
            }
        }
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    request: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    notification: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

fn text(written: &Written<'_>) -> String {
    serde_json::to_string(written).expect("JSON values and plain fields always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_written_as_protoo_reads_them() {
        let rows = [
            (
                Frame::Request { id: 7, method: "join".into(), data: json!({"a": 1}) },
                r#"{"request":true,"id":7,"method":"join","data":{"a":1}}"#,
            ),
            (Frame::Response { id: 7, result: Ok(json!({})) }, r#"{"response":true,"id":7,"ok":true,"data":{}}"#),
            (
                Frame::Response { id: 7, result: Err(Refusal { code: 404, reason: "no".into() }) },
                r#"{"response":true,"id":7,"ok":false,"errorCode":404,"errorReason":"no"}"#,
            ),
            (Frame::notification("x", json!({})), r#"{"notification":true,"method":"x","data":{}}"#),
        ];
        for (frame, text) in rows {
            assert_eq!(frame.to_text(), text);
            assert_eq!(Frame::parse(text).expect("valid"), frame);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_with_the_field() {
        for (text, says) in [
            ("", "not JSON"),
            ("[1]", "not JSON"),
            ("{}", "neither"),
            (r#"{"request":true,"method":"x"}"#, "id: expected"),
            (r#"{"request":true,"id":1}"#, "method: expected"),
            (r#"{"request":true,"id":-1,"method":"x"}"#, "not JSON"),
            (&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "not JSON"),
        ] {
            let error = Frame::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
