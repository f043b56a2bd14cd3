//! The REST API as a script would call it.

use std::time::Duration;

use reqwest::{ClientBuilder, Method};
use serde_json::Value;

/// A caller with a token, or without.
#[derive(Clone, Debug)]
pub struct Rest {
    inner: reqwest::Client,
    base: String,
    authorization: Option<String>,
}

/// Status and body of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body; null when it is not JSON.
    pub body: Value,
}

impl Rest {
    /// A caller of the API at `base` with a token.
    pub fn new(base: &str, token: &str) -> Self {
        Self::with_authorization(base, Some(format!("Token {token}")))
    }

    /// A caller who shows nothing.
    pub fn nobody(base: &str) -> Self {
        Self::with_authorization(base, None)
    }

    /// A caller with an `Authorization` header as it stands.
    ///
    /// # Panics
    /// Never with the settings given here.
    pub fn with_authorization(base: &str, authorization: Option<String>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let inner = ClientBuilder::new()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build();
        Self {
            inner: inner.expect("the settings of the client fit"),
            base: base.trim_end_matches('/').to_owned(),
            authorization,
        }
    }

    /// Calls and returns whatever comes back.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let url = format!("{}{path}", self.base);
        let mut request = self.inner.request(method, url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or_default(),
        })
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.ok(Method::GET, path, None).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ok(Method::POST, path, Some(body)).await
    }

    /// Puts JSON.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ok(Method::PUT, path, Some(body)).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn delete(&self, path: &str) -> Result<Value, String> {
        self.ok(Method::DELETE, path, None).await
    }

    async fn ok(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let answer = self.call(method.clone(), path, body).await?;
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(format!("{method} {path}: {} {}", answer.status, answer.body))
        }
    }
}
