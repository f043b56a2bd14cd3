//! Logging in as a browser without JavaScript does: read the form, fill it in, send it.

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use url::form_urlencoded::Serializer;

use crate::client::{Client, shorten};

/// The form of a login page.
#[derive(Clone, Debug)]
pub struct LoginForm {
    /// Where it posts to.
    pub action: String,
    /// Name of the field for the secret.
    pub field: String,
    /// Its hidden fields.
    pub hidden: Vec<(String, String)>,
}

/// What a login came to.
#[derive(Clone, Debug)]
pub struct Login {
    /// Status code.
    pub status: u16,
    /// Where to go next.
    pub location: Option<String>,
    /// The whole `Set-Cookie` header.
    pub set_cookie: Option<String>,
    /// Body.
    pub body: String,
}

impl LoginForm {
    /// Reads the first form of a page.
    ///
    /// # Panics
    /// When there is none, or it has no password field.
    pub fn read(page: &str) -> Self {
        let (_, form) = page
            .split_once("<form")
            .unwrap_or_else(|| panic!("no form in {}", shorten(page)));
        let (form, _) = form.split_once("</form>").expect("the form ends");
        let inputs: Vec<&str> = form.split("<input").skip(1).collect();
        let hidden = inputs
            .iter()
            .filter(|input| attribute(input, "type").as_deref() == Some("hidden"));
        let hidden = hidden.filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)));
        let secret = inputs
            .iter()
            .find(|input| attribute(input, "type").as_deref() != Some("hidden"));
        Self {
            action: attribute(form, "action").expect("the form says where it posts to"),
            field: secret
                .and_then(|input| attribute(input, "name"))
                .expect("the form has a field for the secret"),
            hidden: hidden.collect(),
        }
    }

    /// The form as it is sent.
    pub fn filled_in(&self, secret: &str) -> String {
        let mut form = Serializer::new(String::new());
        for (name, value) in &self.hidden {
            form.append_pair(name, value);
        }
        form.append_pair(&self.field, secret).finish()
    }

    /// Sends it.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn send(&self, client: &Client, domain: &str, secret: &str) -> Login {
        let request = client
            .post(domain, &self.action)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        Login::read(
            request
                .body(self.filled_in(secret))
                .send()
                .await
                .expect("the edge answers"),
        )
        .await
    }
}

impl Login {
    /// Reads an answer.
    ///
    /// # Panics
    /// When it breaks off.
    pub async fn read(answer: Response) -> Self {
        let text = |name| {
            let value = answer.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Self {
            status: answer.status().as_u16(),
            location: text(LOCATION),
            set_cookie: text(SET_COOKIE),
            body: answer.text().await.expect("the answer is whole"),
        }
    }

    /// The cookie to send from now on, as `name=value`.
    ///
    /// # Panics
    /// When none was set.
    pub fn cookie(&self) -> String {
        let cookie = self
            .set_cookie
            .as_deref()
            .unwrap_or_else(|| panic!("no cookie in {self:?}"));
        cookie.split(';').next().unwrap_or_default().to_owned()
    }

    /// The attributes of the cookie, in lower case and sorted.
    pub fn cookie_attributes(&self) -> Vec<String> {
        let cookie = self.set_cookie.as_deref().unwrap_or_default();
        let mut attributes: Vec<String> = cookie
            .split(';')
            .skip(1)
            .map(|part| part.trim().to_lowercase())
            .collect();
        attributes.sort();
        attributes
    }
}

/// Asks for a path, logs in with the secret and returns what the login came to.
///
/// # Panics
/// When no login page comes.
pub async fn log_in(client: &Client, domain: &str, path: &str, secret: &str) -> Login {
    let page = client.expect(domain, path, 401).await;
    let page = page.unwrap_or_else(|error| panic!("no login page at {domain}{path}: {error}"));
    LoginForm::read(&page).send(client, domain, secret).await
}

/// Gets a path with a cookie and returns status and body.
///
/// # Panics
/// When no answer comes.
pub async fn fetch_with(client: &Client, domain: &str, path: &str, cookie: &str) -> (u16, String) {
    let answer = client
        .get(domain, path)
        .header(COOKIE, cookie)
        .send()
        .await
        .expect("the edge answers");
    (
        answer.status().as_u16(),
        answer.text().await.expect("the answer is whole"),
    )
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (tag, _) = tag.split_once('>')?;
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = value.split_once('"')?;
    Some(unescape(value))
}

/// Undoes the character references that pages use.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (reference, character) in [
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&lt;", "<"),
        ("&#62;", ">"),
        ("&gt;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(reference, character);
    }
    plain
}
