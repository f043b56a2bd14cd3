//! The error page in its three formats.

use askama::Template;
use serde_json::json;

use crate::accept::Format;
use crate::error_kind::ErrorKind;
use crate::hop::{Hop, HopState, Step, Via, steps};
use crate::nonce::Nonce;

/// What an error page says about the request it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorContext {
    /// Host name as asked; empty where the request named none.
    pub host: String,
    /// Id under which the log knows the request.
    pub request_id: String,
    /// Whether the way to the service leads through a tunnel.
    pub via: Via,
}

/// A failure as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    kind: ErrorKind,
    context: ErrorContext,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorView<'a> {
    nonce: &'a Nonce,
    status: u16,
    title: &'a str,
    message: &'a str,
    host: &'a str,
    request_id: &'a str,
    failed: Hop,
    steps: Vec<Step>,
    retry: bool,
}

impl ErrorPage {
    /// Joins a kind of failure with the request it happened to.
    pub fn new(kind: ErrorKind, context: ErrorContext) -> Self {
        Self { kind, context }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// HTTP status code.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The page in the given format; send it with [`Format::content_type`].
    pub fn render(&self, format: Format, nonce: &Nonce) -> String {
        match format {
            Format::Html => self.render_html(nonce),
            Format::Json => self.render_json(),
            Format::Text => self.render_text(),
        }
    }

    /// A page for a browser.
    pub fn render_html(&self, nonce: &Nonce) -> String {
        let view = ErrorView {
            nonce,
            status: self.status(),
            title: self.kind.title(),
            message: self.kind.message(),
            host: &self.context.host,
            request_id: &self.context.request_id,
            failed: self.failed_hop(),
            steps: self.steps(),
            retry: self.kind.is_retryable(),
        };
        view.render().expect("writing into a String cannot fail")
    }

    /// An object `{"error": {…}}` for a program.
    pub fn render_json(&self) -> String {
        let body = json!({ "error": {
            "status": self.status(),
            "code": self.kind.code(),
            "title": self.kind.title(),
            "message": self.kind.message(),
            "failed_hop": self.failed_hop().code(),
            "host": self.context.host,
            "request_id": self.context.request_id,
        }});
        format!("{body}\n")
    }

    /// A few lines for a terminal; control characters of the request are left out.
    pub fn render_text(&self) -> String {
        let way: Vec<_> = self
            .steps()
            .iter()
            .map(|step| format!("{} ({})", step.hop.label(), step.state.label()))
            .collect();
        let way = way.join(" -> ");
        let host = printable(&self.context.host);
        let request_id = printable(&self.context.request_id);

        format!(
            "{} {}\n{}\n\n{way}\nhost: {host}\nrequest id: {request_id}\n",
            self.status(),
            self.kind.title(),
            self.kind.message(),
        )
    }

    /// One page of every kind, and one for a target without a tunnel.
    pub fn samples() -> Vec<Self> {
        let sample = |kind, via| {
            let context = ErrorContext {
                host: "whoami.proxy.example.com".to_owned(),
                request_id: "c8k3v1p2m5s7d9f0q4tg".to_owned(),
                via,
            };
            Self::new(kind, context)
        };
        let mut samples: Vec<_> = ErrorKind::ALL
            .iter()
            .map(|&kind| sample(kind, Via::Peer))
            .collect();
        samples.push(sample(ErrorKind::ServiceRefused, Via::Direct));
        samples
    }

    /// The failing station, moved to the service where the way has no such station.
    fn failed_hop(&self) -> Hop {
        let hop = self.kind.hop();
        if self.context.via.hops().contains(&hop) {
            hop
        } else {
            Hop::Service
        }
    }

    fn steps(&self) -> Vec<Step> {
        steps(self.context.via, self.failed_hop())
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
