//! The cluster key: what processes of one cluster prove to each other, and what tickets are signed with.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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

/// How far two machines' clocks may be apart.
pub const PROOF_LEEWAY_S: u64 = 30;

/// The fixed key of `--dev`. It is public, so `--dev` listens on loopback only.
const DEV_KEY: &[u8] = b"roost-dev-cluster-key-not-for-production";

/// The longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 4_096;

/// One or two cluster keys. The first signs; both are accepted, so that a key is replaced without a gap.
#[derive(Clone)]
pub struct ClusterKeys {
    signing: hmac::Key,
    accepted: Vec<DecodingKey>,
}

/// Why there are no cluster keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cluster_key_file {}: expected a readable file", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cluster_key_file {}: expected one or two keys, one a line, got {count}", path.display())]
    Count { path: PathBuf, count: usize },
    #[error("cluster_key_file {}: line {line}: expected a key of at least {MIN_KEY_BYTES} bytes, got {length}", path.display())]
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

    fn new(keys: &[&[u8]]) -> Self {
        Self {
            signing: hmac::Key::new(hmac::HMAC_SHA256, keys[0]),
            accepted: keys.iter().map(|key| DecodingKey::from_secret(key)).collect(),
        }
    }

    /// Signs `claims` as a JWT. The library would prepare the key anew each time, so the three parts are put together here.
    pub(crate) fn sign<T: Serialize>(&self, kind: Kind, claims: &T) -> String {
        let claims = serde_json::to_vec(claims).expect("claims have string keys only");
        let mut token = String::with_capacity(64 + claims.len() * 4 / 3 + 48);
        URL_SAFE_NO_PAD.encode_string(kind.header(), &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
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
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[kind.audience()]);
        validation.set_required_spec_claims(&["aud"]);
        // Expiry is checked by the caller, against the clock that the token was made by.
        validation.validate_exp = false;
        self.accepted.iter().find_map(|key| {
            let token = jsonwebtoken::decode::<T>(token, key, &validation).ok()?;
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
}

fn unix_s(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
