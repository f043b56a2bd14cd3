//! Headless Chromium, driven over its debugging protocol.

use std::path::Path;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Folder, Process, within};

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Longest wait for the browser to start, or for something to show.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    connection: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next_id: u64,
    process: Process,
    _folder: Folder,
}

impl Browser {
    /// Starts a browser with an empty profile for which every name under `domain` is this machine.
    ///
    /// # Panics
    /// When Chromium is not installed or does not start.
    pub async fn start(domain: &str) -> Self {
        let chromium = Path::new(CHROMIUM);
        assert!(
            chromium.exists(),
            "{CHROMIUM} is missing: apt-get install chromium"
        );
        let folder = Folder::new();
        let profile = format!("--user-data-dir={}", folder.argument("profile"));
        let names = format!("--host-resolver-rules=MAP *.{domain} 127.0.0.1");
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--no-proxy-server",
            "--remote-debugging-port=0",
            &profile,
            &names,
            "about:blank",
        ];
        let mut process = Process::start_program("chromium", folder.path(), chromium, &args);
        let port_file = folder.join("profile").join("DevToolsActivePort");
        let (url, _) = within(PATIENCE, "Chromium is ready", async || {
            process.check();
            let text = std::fs::read_to_string(&port_file).map_err(|error| error.to_string())?;
            let (port, path) = text
                .trim()
                .split_once('\n')
                .ok_or("the port file is not complete")?;
            Ok::<_, String>(format!("ws://127.0.0.1:{port}{path}"))
        })
        .await;
        let (connection, _) = tokio_tungstenite::connect_async(url)
            .await
            .expect("Chromium can be driven");
        let mut browser = Self {
            connection,
            session: String::new(),
            next_id: 0,
            process,
            _folder: folder,
        };
        browser.attach().await;
        browser
    }

    async fn attach(&mut self) {
        let page = self
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach).await;
        attached["sessionId"]
            .as_str()
            .expect("the page has a session")
            .clone_into(&mut self.session);
    }

    /// Opens an address and waits until its page has loaded: the page before it answers no longer.
    pub async fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        within(PATIENCE, "the page has loaded", async || {
            let tree = self.call("Page.getFrameTree", json!({})).await;
            if tree["frameTree"]["frame"]["loaderId"] != opened["loaderId"] {
                return Err(format!("{url} is not there yet: {tree}"));
            }
            match self.evaluate("document.readyState").await {
                Value::String(state) if state == "complete" => Ok(()),
                state => Err(format!("{url} is {state}")),
            }
        })
        .await;
    }

    /// Makes the window as wide as that of a phone or a desktop, and light or dark.
    pub async fn appear_as(&mut self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Switches the scripts of pages off.
    pub async fn disable_scripts(&mut self) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }))
            .await;
    }

    /// Value of an expression on the page; null while there is no page to ask.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let request = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", request).await;
        answer["result"]["value"].clone()
    }

    /// Waits until an expression on the page is true.
    ///
    /// # Panics
    /// When it does not become so; the page is shown.
    pub async fn wait_for(&mut self, what: &str, expression: &str) {
        within(PATIENCE, what, async || {
            let page = "location.href + ' ' + document.body.outerHTML.slice(0, 3000)";
            match self.evaluate(expression).await {
                Value::Bool(true) => Ok(()),
                other => Err(format!("{other} on {}", self.evaluate(page).await)),
            }
        })
        .await;
    }

    /// Types text with the keyboard into the field of that name, which has the focus by itself.
    ///
    /// # Panics
    /// When the field does not get the focus, or does not hold the text afterwards.
    pub async fn type_into(&mut self, field: &str, text: &str) {
        let focused = format!("document.activeElement.name === '{field}'");
        self.wait_for(&format!("{field} has the focus"), &focused).await;
        self.call("Input.insertText", json!({ "text": text })).await;
        let typed = self.evaluate("document.activeElement.value").await;
        assert_eq!(typed, text, "what {field} holds");
    }

    /// Presses and releases the Enter key.
    pub async fn press_enter(&mut self) {
        let key = json!({ "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
        for kind in ["keyDown", "keyUp"] {
            let mut event = key.clone();
            event["type"] = kind.into();
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Calls a method of the debugging protocol and returns its result.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut request = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = self.session.as_str().into();
        }
        self.connection
            .send(Message::text(request.to_string()))
            .await
            .expect("Chromium runs");
        let answer = async {
            while let Some(Ok(message)) = self.connection.next().await {
                let Ok(text) = message.to_text() else { continue };
                let Ok(message) = serde_json::from_str::<Value>(text) else {
                    continue;
                };
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
            }
            panic!("Chromium ended\n{}", self.process.log_tail());
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.unwrap_or_else(|_| panic!("Chromium did not answer {method}"))
    }
}
