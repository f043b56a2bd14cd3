//! The login page: one plain form for each method, no script.

use std::fmt;

use askama::Template;

use crate::nonce::Nonce;
use crate::paths::{LOGIN_PATH, RETURN_TO_FIELD};

/// A secret that the login page can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginMethod {
    /// A password, in the form field `password`.
    Password,
    /// A numeric code, in the form field `pin`.
    Pin,
}

impl LoginMethod {
    /// Name of the form field, which is also the id of the input.
    pub fn field(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Pin => "pin",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Password => "Password",
            Self::Pin => "PIN",
        }
    }

    fn submit_label(self) -> &'static str {
        match self {
            Self::Password => "Continue with password",
            Self::Pin => "Continue with PIN",
        }
    }

    fn autocomplete(self) -> &'static str {
        match self {
            Self::Password => "current-password",
            Self::Pin => "one-time-code",
        }
    }

    fn is_numeric(self) -> bool {
        match self {
            Self::Password => false,
            Self::Pin => true,
        }
    }
}

/// Why the page is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginError {
    /// The secret of this method was wrong or empty.
    Wrong(LoginMethod),
    /// Too many wrong secrets; the seconds to wait where they are known.
    TooManyAttempts {
        /// Seconds until the next try is taken.
        retry_after: Option<u32>,
    },
    /// The server that checks secrets cannot be reached.
    Unavailable,
    /// The session has ended.
    Expired,
}

impl LoginError {
    /// HTTP status code of the page that shows it.
    pub fn status(self) -> u16 {
        match self {
            Self::Wrong(_) | Self::Expired => 401,
            Self::TooManyAttempts { .. } => 429,
            Self::Unavailable => 503,
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(LoginMethod::Password) => {
                f.write_str("That password is not right. Please try again.")
            }
            Self::Wrong(LoginMethod::Pin) => f.write_str("That PIN is not right. Please try again."),
            Self::TooManyAttempts { retry_after: Some(1) } => {
                f.write_str("Too many wrong attempts. Please wait a second.")
            }
            Self::TooManyAttempts {
                retry_after: Some(seconds),
            } => {
                write!(f, "Too many wrong attempts. Please wait {seconds} seconds.")
            }
            Self::TooManyAttempts { retry_after: None } => {
                f.write_str("Too many wrong attempts. Please wait a moment.")
            }
            Self::Unavailable => {
                f.write_str("Logging in is not possible right now. Please try again in a minute.")
            }
            Self::Expired => f.write_str("Your session has ended. Please log in again."),
        }
    }
}

/// The page in front of a protected service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPage {
    /// Name of the service as people know it; the host name stands in where it is empty.
    pub service_name: String,
    /// Host name of the service.
    pub host: String,
    /// The ways to log in, each with its own form; at least one.
    pub methods: Vec<LoginMethod>,
    /// Path the forms post to, [`LOGIN_PATH`] unless there is a reason.
    pub form_action: String,
    /// Path and query that was asked for, carried in a hidden field.
    pub return_to: String,
    /// Why the page is shown again.
    pub error: Option<LoginError>,
    /// Id under which the log knows the request.
    pub request_id: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginView<'a> {
    nonce: &'a Nonce,
    page: &'a LoginPage,
    title: &'a str,
    return_to_field: &'static str,
    forms: Vec<FormView>,
}

struct FormView {
    method: LoginMethod,
    submit_label: &'static str,
    is_wrong: bool,
    has_focus: bool,
}

impl LoginPage {
    /// HTTP status code: 401, or that of the error shown.
    pub fn status(&self) -> u16 {
        self.error.map_or(401, LoginError::status)
    }

    /// The page for a browser.
    pub fn render_html(&self, nonce: &Nonce) -> String {
        let view = LoginView {
            nonce,
            page: self,
            title: if self.service_name.is_empty() {
                &self.host
            } else {
                &self.service_name
            },
            return_to_field: RETURN_TO_FIELD,
            forms: self.forms(),
        };
        view.render().expect("writing into a String cannot fail")
    }

    /// The page with each set of methods and each error.
    pub fn samples() -> Vec<Self> {
        let errors = [
            None,
            Some(LoginError::Wrong(LoginMethod::Password)),
            Some(LoginError::Wrong(LoginMethod::Pin)),
            Some(LoginError::TooManyAttempts { retry_after: Some(1) }),
            Some(LoginError::TooManyAttempts {
                retry_after: Some(30),
            }),
            Some(LoginError::TooManyAttempts { retry_after: None }),
            Some(LoginError::Unavailable),
            Some(LoginError::Expired),
        ];
        let methods: [&[LoginMethod]; 3] = [
            &[LoginMethod::Password],
            &[LoginMethod::Pin],
            &[LoginMethod::Password, LoginMethod::Pin],
        ];
        let mut samples = Vec::new();
        for methods in methods {
            for error in errors {
                samples.push(Self {
                    service_name: "Photo album".to_owned(),
                    host: "photos.proxy.example.com".to_owned(),
                    methods: methods.to_vec(),
                    form_action: LOGIN_PATH.to_owned(),
                    return_to: "/albums?year=2024&sort=new".to_owned(),
                    error,
                    request_id: "c8k3v1p2m5s7d9f0q4tg".to_owned(),
                });
            }
        }
        samples
    }

    /// One form for each method; the cursor waits in the field that went wrong, else in the first.
    fn forms(&self) -> Vec<FormView> {
        let is_wrong = |method| self.error == Some(LoginError::Wrong(method));
        let focus = self
            .methods
            .iter()
            .position(|&method| is_wrong(method))
            .unwrap_or(0);
        let form = |(index, &method): (usize, &LoginMethod)| FormView {
            method,
            submit_label: if self.methods.len() == 1 {
                "Continue"
            } else {
                method.submit_label()
            },
            is_wrong: is_wrong(method),
            has_focus: index == focus,
        };
        self.methods.iter().enumerate().map(form).collect()
    }
}
