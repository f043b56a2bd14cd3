//! The short table that the demo prints.

use super::publish::{Auth, Published};

/// Prints where everything is and how to get in.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn print(published: &Published) {
    println!("{}", text(published));
}

fn text(published: &Published) -> String {
    let port = published.https_port;
    let mut lines = vec![
        String::new(),
        "Meshgate is up. Every request goes through WireGuard.".to_owned(),
        String::new(),
    ];
    for service in &published.services {
        let url = format!("https://{}:{port}/", service.domain);
        let key = match (&service.auth, &service.secret) {
            (Auth::None, _) | (_, None) => "open".to_owned(),
            (Auth::Pin, Some(pin)) => format!("PIN {pin}"),
            (Auth::Password, Some(password)) => format!("password {password}"),
        };
        lines.push(format!("  {url:<44} {key}"));
    }
    lines.push(String::new());
    lines.push(format!("  certificate authority  {}", published.ca_file));
    lines.push(format!(
        "  management API         {}/api",
        published.management_url
    ));
    lines.push(format!("  API token              {}", published.api_token));
    lines.push(String::new());
    if let Some(open) = published.services.first() {
        lines.push(format!(
            "  curl --cacert {} https://{}:{port}/",
            published.ca_file, open.domain
        ));
    }
    lines.push("  Ctrl-C ends it.".to_owned());
    lines.join("\n")
}
