//! The cluster key: what processes of one cluster prove to each other, and what tickets are signed with.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use roost_proto::error::{Code, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A key's least length in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// How long a proof holds.
pub const PROOF_LIFE_S: u64 = 60;

/// How far two machines' clocks may be apart. Nothing else compares them, and a machine whose clock is a minute or two off
/// must not fall out of its cluster; a proof that was overheard holds for so much longer.
pub const PROOF_LEEWAY_S: u64 = 180;

/// The fixed key of `--dev`. It is public, so `--dev` listens on loopback only.
const DEV_KEY: &[u8] = b"roost-dev-cluster-key-not-for-production";

/// The longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 4_096;

/// One or two cluster keys. The first signs; both are accepted, so that a key is replaced without a gap.
#[derive(Clone)]
pub struct ClusterKeys {
    signing: hmac::Key,
    accepted: Vec<DecodingKey>,
    proofs: Arc<Validation>,
    tickets: Arc<Validation>,
}

/// Why there are no cluster keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cluster_key_file {}: expected a readable file", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cluster_key_file {}: expected one or two keys, one a line, got {count}", path.display())]
    Count { path: PathBuf, count: usize },
    #[error(
        "cluster_key_file {}: line {line}: expected a key of at least {MIN_KEY_BYTES} bytes, got {length}",
        path.display()
    )]
    Short { path: PathBuf, line: usize, length: usize },
}

/// What kind of token it is; one is never taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Proof,
    Ticket,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProofClaims {
    aud: String,
    iat: u64,
    exp: u64,
}

impl ClusterKeys {
    /// Reads the keys of a file: one or two lines, the current key first, each at least 32 bytes.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let owned = || path.to_owned();
        let text = fs::read_to_string(path).map_err(|source| KeyError::Read { path: owned(), source })?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let key = line.trim();
            match key.len() {
                0 => {}
                length if length < MIN_KEY_BYTES => {
                    return Err(KeyError::Short { path: owned(), line: index + 1, length });
                }
                _ => keys.push(key.as_bytes()),
            }
        }
        if keys.is_empty() || keys.len() > 2 {
            return Err(KeyError::Count { path: owned(), count: keys.len() });
        }
        Ok(Self::new(&keys))
    }

    /// The fixed key of `--dev`.
    #[must_use]
    pub fn dev() -> Self {
        Self::new(&[DEV_KEY])
    }

    /// A short-lived JWT that proves the key: `Authorization: Bearer …`.
    #[must_use]
    pub fn proof(&self, now: SystemTime) -> String {
        let iat = unix_s(now);
        let claims = ProofClaims { aud: Kind::Proof.audience().to_owned(), iat, exp: iat + PROOF_LIFE_S };
        self.sign(Kind::Proof, &claims)
    }

    /// Checks a proof; else `cluster_key_invalid`.
    pub fn check_proof(&self, token: &str, now: SystemTime) -> Result<(), Problem> {
        let refused = |detail: &str| Err(Problem::new(Code::ClusterKeyInvalid, detail));
        let Some(claims) = self.open::<ProofClaims>(Kind::Proof, token) else {
            return refused("proof: expected a JWT signed with the cluster key");
        };
        let now = unix_s(now);
        if claims.exp.saturating_add(PROOF_LEEWAY_S) < now {
            return refused("proof: expected one that has not expired; compare the machines' clocks");
        }
        if claims.iat > now.saturating_add(PROOF_LEEWAY_S) {
            return refused("proof: expected one from the past; compare the machines' clocks");
        }
        if claims.exp.saturating_sub(claims.iat) > PROOF_LIFE_S {
            return refused("proof: expected one that holds for a minute at most");
        }
        Ok(())
    }

    /// A name that stands for `parts`: always the same one under the key that signs, and to who lacks it it tells nothing.
    #[must_use]
    pub fn alias(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.signing);
        // No token begins like this.
        context.update(b"\0alias");
        for part in parts {
            context.update(b"\0");
            context.update(part.as_bytes());
        }
        context.sign().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn new(keys: &[&[u8]]) -> Self {
        Self {
            signing: hmac::Key::new(hmac::HMAC_SHA256, keys[0]),
            accepted: keys.iter().map(|key| DecodingKey::from_secret(key)).collect(),
            proofs: Arc::new(Kind::Proof.validation()),
            tickets: Arc::new(Kind::Ticket.validation()),
        }
    }

    /// Signs `claims` as a JWT. The library would prepare the key anew each time, so the parts are put together here.
    pub(crate) fn sign<T: Serialize>(&self, kind: Kind, claims: &T) -> String {
        let mut json = Vec::with_capacity(256);
        serde_json::to_writer(&mut json, claims).expect("claims have string keys only");
        let mut token = String::with_capacity(96 + json.len() * 4 / 3 + 48);
        URL_SAFE_NO_PAD.encode_string(kind.header(), &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&json, &mut token);
        let signature = hmac::sign(&self.signing, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        token
    }

    /// The claims of a token of this kind that one of our keys signed.
    pub(crate) fn open<T: DeserializeOwned>(&self, kind: Kind, token: &str) -> Option<T> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let validation = match kind {
            Kind::Proof => &self.proofs,
            Kind::Ticket => &self.tickets,
        };
        self.accepted.iter().find_map(|key| {
            let token = jsonwebtoken::decode::<T>(token, key, validation).ok()?;
            (token.header.typ.as_deref() == Some(kind.name())).then_some(token.claims)
        })
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKeys").field("count", &self.accepted.len()).finish_non_exhaustive()
    }
}

impl Kind {
    /// `typ` of the token's header.
    const fn name(self) -> &'static str {
        match self {
            Self::Proof => "roost-proof+jwt",
            Self::Ticket => "roost-ticket+jwt",
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::Proof => r#"{"typ":"roost-proof+jwt","alg":"HS256"}"#,
            Self::Ticket => r#"{"typ":"roost-ticket+jwt","alg":"HS256"}"#,
        }
    }

    pub(crate) const fn audience(self) -> &'static str {
        match self {
            Self::Proof => "roost-cluster",
            Self::Ticket => "roost-node",
        }
    }

    /// HS256 only, whatever a token's header says. Expiry is checked by the caller, against the clock that the token
    /// was made by.
    fn validation(self) -> Validation {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[self.audience()]);
        validation.set_required_spec_claims(&["aud"]);
        validation.validate_exp = false;
        validation
    }
}

fn unix_s(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OLD: &[u8] = b"an old key, which is at least 32 bytes long";
    const NEW: &[u8] = b"the new key, which is at least 32 bytes long";
    const NOW_S: u64 = 1_790_000_000;

    #[test]
    fn a_proof_holds_for_a_minute_and_the_clocks_leeway() {
        let keys = ClusterKeys::dev();
        let proof = keys.proof(at(NOW_S));
        let last_s = PROOF_LIFE_S + PROOF_LEEWAY_S;
        for (second, accepted) in [(0, true), (last_s, true), (last_s + 1, false)] {
            assert_eq!(keys.check_proof(&proof, at(NOW_S + second)).is_ok(), accepted, "{second} s later");
        }
        assert!(keys.check_proof(&proof, at(NOW_S - PROOF_LEEWAY_S)).is_ok());
        assert!(keys.check_proof(&proof, at(NOW_S - PROOF_LEEWAY_S - 1)).is_err());
    }

    #[test]
    fn both_keys_are_accepted_while_one_is_replaced() {
        let (old, both, new) = (keys(&[OLD]), keys(&[NEW, OLD]), keys(&[NEW]));
        assert!(both.check_proof(&old.proof(at(NOW_S)), at(NOW_S)).is_ok());
        assert!(new.check_proof(&both.proof(at(NOW_S)), at(NOW_S)).is_ok());
        let problem = new.check_proof(&old.proof(at(NOW_S)), at(NOW_S)).expect_err("another key");
        assert_eq!(problem.code, Code::ClusterKeyInvalid);
    }

    #[test]
    fn an_alias_is_the_same_under_the_same_key_and_joins_no_parts() {
        let (one, other) = (keys(&[b"one"]), keys(&[b"other"]));
        assert_eq!(one.alias(&["default", "standup"]), one.clone().alias(&["default", "standup"]));
        assert_ne!(one.alias(&["default", "standup"]), other.alias(&["default", "standup"]));
        assert_ne!(one.alias(&["ab", "c"]), one.alias(&["a", "bc"]));
        assert_eq!(one.alias(&["default", "standup"]).len(), 16);
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let claims = |exp: u64| json!({ "aud": "roost-cluster", "iat": NOW_S, "exp": exp });
        let typ = "roost-proof+jwt";
        let forged = [
            String::new(),
            "a.b.c".to_owned(),
            "x".repeat(1 << 20),
            library(Algorithm::HS256, typ, &claims(NOW_S + 3_600), OLD),
            library(Algorithm::HS512, typ, &claims(NOW_S + 60), OLD),
            library(Algorithm::HS256, "JWT", &claims(NOW_S + 60), OLD),
            library(Algorithm::HS256, typ, &claims(NOW_S + 60), NEW),
            library(Algorithm::HS256, typ, &json!({ "iat": NOW_S, "exp": NOW_S + 60 }), OLD),
            library(Algorithm::HS256, typ, &json!({ "aud": "roost-node", "iat": NOW_S, "exp": NOW_S + 60 }), OLD),
            unsigned(&claims(NOW_S + 60)),
        ];
        let keys = keys(&[OLD]);
        assert!(keys.check_proof(&library(Algorithm::HS256, typ, &claims(NOW_S + 60), OLD), at(NOW_S)).is_ok());
        for token in forged {
            let problem = keys.check_proof(&token, at(NOW_S)).expect_err("forged");
            assert_eq!(problem.code, Code::ClusterKeyInvalid, "{token:.80}");
        }
    }

    #[test]
    fn a_key_file_holds_one_or_two_long_keys() {
        let rows: &[(&str, Result<usize, &str>)] = &[
            ("an old key, which is at least 32 bytes long", Ok(1)),
            (
                "the new key, which is at least 32 bytes long\r\n\n an old key, which is at least 32 bytes long \n",
                Ok(2),
            ),
            ("", Err("expected one or two keys, one a line, got 0")),
            ("short\n", Err("line 1: expected a key of at least 32 bytes, got 5")),
            (&"an old key, which is at least 32 bytes long\n".repeat(3), Err("got 3")),
        ];
        for (index, (text, expected)) in rows.iter().enumerate() {
            let path = std::env::temp_dir().join(format!("roost-keys-{}-{index}", std::process::id()));
            fs::write(&path, text).expect("a file can be written");
            let got = ClusterKeys::from_file(&path);
            fs::remove_file(&path).expect("it is there");
            match (got, expected) {
                (Ok(keys), Ok(count)) => assert_eq!(keys.accepted.len(), *count, "{text:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text:?}: {got:?}"),
            }
        }
        let error = ClusterKeys::from_file(Path::new("/nonexistent/key")).expect_err("no such file");
        assert_eq!(error.to_string(), "cluster_key_file /nonexistent/key: expected a readable file");
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", keys(&[OLD])), "ClusterKeys { count: 1, .. }");
    }

    proptest! {
        #[test]
        fn the_library_takes_the_tokens_that_we_put_together(text in ".{0,40}", number in any::<u64>()) {
            let claims = json!({ "aud": "roost-node", "text": text, "number": number });
            let token = keys(&[OLD]).sign(Kind::Ticket, &claims);
            let key = DecodingKey::from_secret(OLD);
            let read = jsonwebtoken::decode::<Value>(&token, &key, &Kind::Ticket.validation());
            prop_assert_eq!(read.expect("our own token").claims, claims);
        }

        #[test]
        fn no_token_makes_the_check_panic(token in ".{0,200}") {
            prop_assert!(keys(&[OLD]).check_proof(&token, at(NOW_S)).is_err());
        }

        #[test]
        fn a_changed_byte_is_noticed(at_byte in any::<prop::sample::Index>(), by in 1_u8..127) {
            let keys = keys(&[OLD]);
            let mut token = keys.proof(at(NOW_S)).into_bytes();
            let index = at_byte.index(token.len());
            token[index] = (token[index] + by) % 127;
            let token = String::from_utf8(token).expect("it is ASCII");
            prop_assert!(keys.check_proof(&token, at(NOW_S)).is_err());
        }
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn keys(keys: &[&[u8]]) -> ClusterKeys {
        ClusterKeys::new(keys)
    }

    fn library(algorithm: Algorithm, typ: &str, claims: &Value, key: &[u8]) -> String {
        let mut header = Header::new(algorithm);
        header.typ = Some(typ.to_owned());
        encode(&header, claims, &EncodingKey::from_secret(key)).expect("the library signs")
    }

    fn unsigned(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(r#"{"typ":"roost-proof+jwt","alg":"none"}"#), part(&claims.to_string()))
    }
}
